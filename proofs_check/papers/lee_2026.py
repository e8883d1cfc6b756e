"""Lee, Sohn, Lee: fine-tuning linear attention without forgetting in-context learning, from the authors' code."""

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Paper, Statement
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import judge, num_contexts, ratio_of_means
from proofs_check.evidence.symbolic import initial_risk
from proofs_check.setting import isotropic

CASES = (1, 1), (2, 1), (1, 2), (3, 2)
"""n and d in numbers."""


def values_only(x, y, task, query):
    """What the labels and the values of n + 1 tokens add to the prediction, times n + 1; arrays or polynomials."""
    labels = sum(y[i] * dot(x[i], query) for i in range(len(y)))
    values = sum(dot(x[i], task) * dot(x[i], query) for i in range(len(y))) + dot(query, task) * dot(query, query)
    return labels, values


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def mean(polynomial):
    return QQ.to_sympy(oracle.gaussian_mean(polynomial))


def prompt_polynomials(n, d, deviation):
    """Features, labels, task and query; the task along the first axis, labels with noise of this standard deviation."""
    _, *z = ring([f"z{i}" for i in range((n + 1) * d + n)], QQ)
    x = [z[i * d : (i + 1) * d] for i in range(n + 1)]
    y = [x[i][0] + QQ.from_sympy(deviation) * z[(n + 1) * d + i] for i in range(n)]
    return x[:n], y, [QQ(1)] + [QQ(0)] * (d - 1), x[n]


def prompt_samples(effort, n, d, noise):
    """The same as arrays over prompts, coordinates first."""
    rng = np.random.default_rng(effort.seed)
    x = rng.standard_normal((n + 1, d, num_contexts(effort, (n + 1) * d)))
    task = np.full(d, d**-0.5)
    y = np.einsum("nds,d->ns", x[:n], task) + noise**0.5 * rng.standard_normal((n, x.shape[-1]))
    return x[:n], y, task, x[n]


def pretrained(c, m, d):
    return (c[0] * m + c[3]) / sp.sympify(m + c[1] + c[2] * d)


def minimum(c):
    """W = Q/(m+1): the minimiser of the exact risk of m pairs without noise."""
    m, d, q = sp.symbols("m d q", positive=True)
    risk = sp.Poly(initial_risk(isotropic(m, 1, d, 1, 0, q / (m + 1))), q)
    best = -risk.coeff_monomial(q) / (2 * risk.coeff_monomial(q**2))
    return identities({"the minimiser": (pretrained(c, m, d), best)})


def regressed(c, effort):
    """The label regressed on the layer's sum over the pairs, divided by the m + 1 tokens."""
    found = []
    for m, d in ((6, 2), (20, 5)):
        x, y, task, query = prompt_samples(effort, m, d, 0.0)
        labels, _ = values_only(x, y, task, query)
        feature = labels / (m + 1)
        found.append(ratio_of_means(feature * dot(query, task), feature**2, pretrained(c, m, d)))
    return judge([found])


PRETRAINED = Statement(
    "theory.py, `pretrain`",
    "the optimum of pretraining on m pairs, attention over m + 1 tokens divided by m + 1: V_(-1,-1) = 1, Q = "
    "m/(m+1+d) I",
    (1, 1, 1, 0),
    minimum,
    regressed,
    "as printed off by the factor 1 + 1/m, which is gone for long prompts: m/(m+1+d) belongs to attention divided by "
    "m, (m+1)/(m+1+d) to the code's m + 1; noise adds d sigma^2 to either denominator",
    corrected=(1, 1, 1, 1),
)


def without_context(c):
    """The best multiple v of theta_0 for a prompt of the query alone: E (x'theta)^2 |x|^2/E (x'theta)^2 |x|^4."""
    pairs = []
    for d in (1, 2, 3, 4):
        *_, query = prompt_polynomials(0, d, sp.Integer(0))
        length = dot(query, query)
        pairs.append((c[0] / (d + c[1]), mean(query[0] ** 2 * length) / mean(query[0] ** 2 * length**2), f"d = {d}"))
    return same_numbers(pairs)


def without_context_simulated(c, effort):
    found = []
    for d in (5, 16):
        x, y, task, query = prompt_samples(effort, 0, d, 0.0)
        _, values = values_only(x, y, task, query)
        found.append(ratio_of_means(values * dot(query, task), values**2, c[0] / (d + c[1])))
    return judge([found])


ZERO_SHOT = Statement(
    "theory.py, `zs_finetune_v_only`",
    "values fine-tuned on prompts of the query alone, Q = I: v = theta_0/(d+4)",
    (1, 4),
    without_context,
    without_context_simulated,
    "nowhere: the minimiser at every d",
)


def best_label_weight(c, n, d, noise):
    """w*(n)."""
    value = sp.sympify(c[0] * (n + 1)) - sp.sympify(c[1] * n + c[2] + c[3] * d) / (d + 4)
    return value / (n + 1 + c[4] * d + c[5] * d * noise)


def label_weight_exact(c):
    pairs = []
    for n, d in CASES:
        x, y, task, query = prompt_polynomials(n, d, sp.Rational(1, 2))
        labels, values = values_only(x, y, task, query)
        left = query[0] * (n + 1) - values * QQ(1, d + 4)
        exact = mean(labels * left) / mean(labels**2)
        pairs.append((best_label_weight(c, n, d, sp.Rational(1, 4)), exact, f"n = {n}, d = {d}"))
    return same_numbers(pairs)


def label_weight_simulated(c, effort):
    found = []
    for n, d, noise in ((5, 5, 0.1), (20, 2, 0.1), (5, 5, 2.0)):
        x, y, task, query = prompt_samples(effort, n, d, noise)
        labels, values = values_only(x, y, task, query)
        left = (n + 1) * dot(query, task) - values / (d + 4)
        found.append(ratio_of_means(labels * left, labels**2, best_label_weight(c, n, d, noise)))
    return judge([found])


LABEL_WEIGHT = Statement(
    "optimal_parameters.ipynb, w*(n)",
    "with v = theta_0/(d+4) and the task theta = theta_0, the best V_(-1,-1) on n pairs: "
    "w*(n) = [(n+1) - (n+3+2d)/(d+4)]/(n+1+d+d sigma^2)",
    (1, 1, 3, 2, 1, 1),
    label_weight_exact,
    label_weight_simulated,
    "nowhere for the task that the values were tuned for; the limit (d+3)/(d+4) is reached with an error of order d/n",
)


def threshold(c, d, a, noise):
    return c[0] * d * a / (2 - a) * (1 + c[1] * noise) - c[2]


def threshold_exact(c):
    """The exact risks of n pairs and of none differ by a factor (n - threshold), positive above; in symbols."""
    n, d, a, noise = sp.symbols("n d a s2", positive=True)
    few = initial_risk(isotropic(n, 1, d, 1, noise, a / (n + 1)))
    beyond = n * a * (2 - a) / (n + 1) ** 2 * (n - threshold(c, d, a, noise))
    return identities({"risk of none minus risk of n": (1 + noise - few, beyond)})


def threshold_simulated(c, effort):
    """Both risks are equal at a = 2 E y f/E f^2; the threshold at that a is n."""
    found = []
    for n, d, noise in ((10, 10, 0.1), (16, 8, 1.0), (2, 12, 0.1)):
        x, y, task, query = prompt_samples(effort, n, d, noise)
        labels, _ = values_only(x, y, task, query)
        feature = labels / (n + 1)
        equal = sp.nsolve(threshold(c, d, A, noise) - n, A, 1.0)
        found.append(ratio_of_means(2 * feature * dot(query, task), feature**2, equal))
    return judge([found])


A = sp.Symbol("a")
THRESHOLD = Statement(
    "linear_model.ipynb",
    "n pairs beat none iff n > d a/(2-a) (1 + sigma^2) - 1, a = m/(m+1+d)",
    (1, 1, 1),
    threshold_exact,
    threshold_simulated,
    "nowhere, on both sides of it and for any a in (0, 2); n is an integer",
)

PAPER = Paper(
    "Lee et al. (2602.23197)",
    "the authors' code, not the paper: github.com/leechungpa/preserve-icl-under-finetuning, commit 748fbc76, folder "
    "regression; the paper may state its results under other conventions",
    "x ~ N(0, I), |theta| = 1, attention over n + 1 tokens, the query among them, divided by n + 1: W = (a/(n+1)) I. "
    "The values add v' sum_j x_j x_j'x_q, which our model lacks. The risk includes the label noise",
    (PRETRAINED, ZERO_SHOT, LABEL_WEIGHT, THRESHOLD),
)
