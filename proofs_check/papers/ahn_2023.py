"""Ahn, Cheng, Daneshmand, Sra: the best layer of linear attention, and of ReLU attention, is a preconditioned step."""

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Paper, Statement
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import judge, num_contexts, ratio_of_means
from proofs_check.evidence.symbolic import initial_risk
from proofs_check.kinds.initial import over_axes
from proofs_check.setting import Group, Setting


def preconditioner(c, n, x, total):
    """(6): the entry of -Q_0 along an eigenvector of eigenvalue x."""
    n = sp.sympify(n)
    return 1 / ((c[0] * n + c[1]) / n * x + c[2] * total / n)


def stationary(c):
    """The gradient of the exact risk, averaged over w ~ N(0, I), is zero; the risk is convex in W."""
    n, *spectrum = sp.symbols("n lambda1 lambda2", positive=True)
    sizes, weights = sp.symbols("m1 m2", positive=True), sp.symbols("a1 a2")
    total = sum(size * x for size, x in zip(sizes, spectrum, strict=True))
    groups = tuple(Group(s, x, a / n, 1) for s, x, a in zip(sizes, spectrum, weights, strict=True))
    risk = over_axes(initial_risk, Setting(n, 1, groups))
    at = {a: preconditioner(c, n, x, total) for a, x in zip(weights, spectrum, strict=True)}
    return identities({f"d risk/d {a}": (sp.diff(risk, a).subs(at), 0) for a in weights})


def prompts(effort, n, spectrum):
    """Features, the query last, and labels without noise."""
    rng = np.random.default_rng(effort.seed)
    size = n + 1, len(spectrum)
    x = rng.standard_normal((num_contexts(effort, size[0] * size[1]), *size)) * np.sqrt(spectrum)
    return x, np.einsum("tnd,td->tn", x, rng.standard_normal((len(x), len(spectrum))))


def regressed(c, effort):
    """The label of the query regressed on what the layer makes of it, coordinate by coordinate."""
    found, spectrum = [], (3.0, 0.5)
    for n in (6, 20):
        x, y = prompts(effort, n, spectrum)
        feature = np.einsum("tnd,tn->td", x[:, :n], y[:, :n]) / n * x[:, n]
        found += [
            [ratio_of_means(feature[:, i] * y[:, n], feature[:, i] ** 2, preconditioner(c, n, s, sum(spectrum)))]
            for i, s in enumerate(spectrum)
        ]
    return judge(found)


LINEAR = Statement(
    "Theorem 1, (6)",
    "one layer: P_0 = diag(0, 1), Q_0 = -diag(U diag(1/(((n+1)/n) lambda_i + (1/n) sum_k lambda_k)) U', 0) minimises "
    "the loss",
    (1, 1, 1),
    stationary,
    regressed,
    "nowhere: the minimiser at every n, d",
)


def relu(c, n, d):
    """-A of Theorem 5."""
    return c[0] * n / sp.sympify(c[1] * (d + c[2]) + c[3] * n - c[4])


def best_relu(n, d):
    """E f y/E f^2 for f = (1/n) sum_i y_i relu(a_i), a_i = x_i'x, without noise.

    relu(a)^2 + relu(-a)^2 = a^2, and what is odd in one x_i vanishes: E relu(a_i)^2 g = E a_i^2 g/2 for even g, and
    E relu(a_i) h = E a_i h/2 for h odd in x_i. So every mean is one of a polynomial.
    """
    _, *z = ring([f"z{i}" for i in range(4 * d)], QQ)
    w, x, one, other = (z[i * d : (i + 1) * d] for i in range(4))

    def dot(a, b):
        return sum(p * q for p, q in zip(a, b, strict=True))

    def mean(polynomial):
        return QQ.to_sympy(oracle.gaussian_mean(polynomial))

    slope = mean(dot(w, one) * dot(one, x) * dot(w, x)) / 2
    same = mean(dot(w, one) ** 2 * dot(one, x) ** 2) / 2
    cross = mean(dot(w, one) * dot(w, other) * dot(one, x) * dot(other, x)) / 4
    return slope / (same / n + (n - 1) * cross / sp.Integer(n))


def relu_exact(c):
    return same_numbers((relu(c, n, d), best_relu(n, d), f"n = {n}, d = {d}") for n in (1, 2, 7) for d in (1, 2, 3))


def relu_simulated(c, effort):
    found = []
    for n, d in ((2, 2), (3, 8), (40, 2)):
        x, y = prompts(effort, n, (1.0,) * d)
        feature = (y[:, :n] * np.maximum(np.einsum("tnd,td->tn", x[:, :n], x[:, n]), 0)).mean(1)
        found.append([ratio_of_means(feature * y[:, n], feature**2, relu(c, n, d))])
    return judge(found)


RELU = Statement(
    "Theorem 5 (end of appendix A.4)",
    "one layer of ReLU attention, Sigma = I: b_1 = 1, b_0 = 0, A = -2n/(2(d+2) + (n-1)) I minimises the loss",
    (2, 2, 2, 1, 1),
    relu_exact,
    relu_simulated,
    "nowhere: the best multiple of I at every n, d; that no other A is better is the paper's proof",
)

PAPER = Paper(
    "Ahn et al. (2306.00297)",
    "the NeurIPS text in a transcription that drops displayed equations (arXiv 2306.00297): Theorem 5 is inline in it; "
    "(6) was seen only in a reader's transcription, its last term also in the text",
    "x ~ N(0, Sigma), w ~ N(0, I), no noise, 1/n: W = A/n, where the query's entry of the layer is minus the "
    "prediction",
    (LINEAR, RELU),
)
