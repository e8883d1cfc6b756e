"""Zhang, Singh, Latham, Saxe: how linear attention learns, in one drop of the loss or in one per eigenvector."""

import numpy as np
import sympy as sp

from proofs_check.claim import Paper, Statement
from proofs_check.evidence.equality import identities
from proofs_check.evidence.simulation import Comparison, judge, num_contexts, ratio_of_means
from proofs_check.evidence.symbolic import initial_risk
from proofs_check.kinds.initial import initial_statement, over_axes
from proofs_check.setting import Group, Setting


def trace(spectrum, sizes):
    return sum(size * x for size, x in zip(sizes, spectrum, strict=True))


def learned(c, n, x, total):
    """(11): the coefficient of beta'x_q along an eigenvector of eigenvalue x."""
    return 1 / (c[0] * x + (c[1] * x + c[2] * total) / sp.sympify(n))


def stationary(c):
    """The gradient of the exact risk, averaged over w ~ N(0, I), is zero; the risk is convex in W."""
    n, *spectrum = sp.symbols("N lambda1 lambda2", positive=True)
    sizes, weights = sp.symbols("m1 m2", positive=True), sp.symbols("a1 a2")
    groups = tuple(Group(s, x, a / n, 1) for s, x, a in zip(sizes, spectrum, weights, strict=True))
    risk = over_axes(initial_risk, Setting(n, 1, groups))
    at = {a: learned(c, n, x, trace(spectrum, sizes)) for a, x in zip(weights, spectrum, strict=True)}
    return identities({f"d risk/d {a}": (sp.diff(risk, a).subs(at), 0) for a in weights})


def regressed(c, effort):
    """The label regressed on the products of x_q and beta, coordinate by coordinate, which are uncorrelated."""
    rng, spectrum, n = np.random.default_rng(effort.seed), np.array([2.0, 0.5, 0.5]), 12
    x = rng.standard_normal((num_contexts(effort), n + 1, 3)) * np.sqrt(spectrum)
    y = np.einsum("tnd,td->tn", x, rng.standard_normal((len(x), 3)))
    feature = np.einsum("tnd,tn->td", x[:, :n], y[:, :n]) / n * x[:, n]
    return judge(
        [ratio_of_means(feature[:, i] * y[:, n], feature[:, i] ** 2, learned(c, n, spectrum[i], 3.0))] for i in (0, 1)
    )


MINIMUM = Statement(
    "(11)",
    "the global minimum of attention with merged key and query: yhat = beta'[Lambda + (Lambda + tr(Lambda) I)/N]^-1 "
    "x_q, beta = (1/N) sum_n y_n x_n",
    (1, 1, 1),
    stationary,
    regressed,
    "nowhere: the minimiser at every N, D. Lambda^-1, its limit, is off by tr(Lambda)/(N lambda)",
)


def plateau(groups, n):
    """The weights at (18), W = (...)^-1/N on the eigenvectors that are learned: (multiplicity, eigenvalue, whether)."""
    sizes, spectrum, live = zip(*groups, strict=True)
    total = trace(spectrum, sizes)
    return Setting(
        n,
        1,
        tuple(
            Group(s, x, int(on) * learned((1, 1, 1), n, x, total) / n, 1)
            for s, x, on in zip(sizes, spectrum, live, strict=True)
        ),
    )


def plateau_loss(c, setting):
    """(19)."""
    n, groups = setting.n, setting.groups
    total = sp.sympify(setting.total(lambda g: g.feature))
    gained = sum(
        g.multiplicity * g.feature / (c[2] + (c[3] + c[4] * total / g.feature) / sp.sympify(n))
        for g in groups
        if g.weight != 0
    )
    return c[0] * total - c[1] * gained


N, M1, M2, LAMBDA = sp.symbols("N m1 m2 lambda", positive=True)
HALF = sp.Rational(1, 2)
PLATEAUS = initial_statement(
    "(18), (19)",
    "the loss on plateau m: tr(Lambda) - sum_(d <= m) lambda_d [1 + (1 + tr(Lambda)/lambda_d)/N]^-1",
    (1, 1, 1, 1, 1),
    plateau_loss,
    plateau([(M1, LAMBDA, 1), (M2, 1, 0)], N),
    [plateau([(1, 3, m > 0), (1, 2, m > 1), (2, 1, m > 2)], 5) for m in range(4)],
    [plateau([(1, 3, 1), (2, 1, 0)], 3), plateau([(2, 1, 1)], 1), plateau([(1, 3, 1), (1, 2, 1), (2, 1, 1)], 50)],
    "nowhere for infinitely many prompts; training from small weights only lingers there",
    random_tasks=True,
)


def sigmoid(c, n, d, start, t):
    """(10) with tau = 1; `start` is w_init^2."""
    grown = sp.exp(2 * sp.sqrt(d) * t)
    return grown / ((c[0] + (c[1] + c[2] * d) / n) * (grown - 1) + c[3] * sp.sqrt(d) / start)


def flow(c):
    """Both layers on one line, of length s: tau ds/dt = s [sqrt(D) - (1 + (1+D)/N) s^2] and sigma = s^2/sqrt(D)."""
    t, n, root, start = sp.symbols("t N root start", positive=True)
    grown, d = sp.Symbol("grown", positive=True), root**2
    sigma = sigmoid(c, n, d, start, t).subs(sp.exp(2 * root * t), grown)
    slope = sp.diff(sigma, grown) * 2 * root * grown
    return identities(
        {
            "the flow": (slope, 2 * sigma * (root - (1 + (1 + d) / n) * root * sigma)),
            "the start": (sigma.subs(grown, 1), start / root),
        }
    )


def descend(c, effort):
    """Gradient descent of both layers, of D heads, from the moments of sampled prompts; groups give the error."""
    rng, n, d, start, step = np.random.default_rng(effort.seed), 6, 2, 0.02, 0.01
    checks, groups = (150, 220), 20
    x = rng.standard_normal((groups, num_contexts(effort) // groups, n + 1, d))
    y = np.einsum("gtnd,gtd->gtn", x, rng.standard_normal((*x.shape[:2], d)))
    beta = np.einsum("gtnd,gtn->gtd", x[:, :, :n], y[:, :, :n]) / n
    z = (beta[..., :, None] * x[:, :, n, None, :]).reshape(*x.shape[:2], d * d)
    label = np.einsum("gtz,gt->gz", z, y[:, :, n]) / x.shape[1]
    gram = np.einsum("gtz,gtw->gzw", z, z) / x.shape[1]
    outer = np.full((groups, d), np.sqrt(start / d))  # w_2, and W_1 = w_2 times vec(I), both of length w_init
    inner = outer[:, :, None] * np.eye(d).ravel() / np.sqrt(d)
    found = []
    for i in range(1, max(checks) + 1):
        left = label - np.einsum("gh,ghz,gzw->gw", outer, inner, gram)
        outer, inner = (
            outer + step * np.einsum("ghz,gz->gh", inner, left),
            inner + step * outer[:, :, None] * left[:, None],
        )
        if i in checks:
            sigma = np.einsum("gh,ghz->gz", outer, inner) @ np.eye(d).ravel() / d
            claimed = float(sigmoid(c, n, d, start, step * i))
            found.append(Comparison(claimed, sigma.mean(), sigma.std() / np.sqrt(groups - 1), slack=DISCRETE * claimed))
    return judge([one] for one in found)


DISCRETE = 0.01
"""The relative error of steps of .01 in place of a flow."""

DYNAMICS = Statement(
    "(10)",
    "merged key and query, Lambda = I: sigma(t) = e^(2 sqrt(D) t/tau)/[(1 + (1+D)/N)(e^(2 sqrt(D) t/tau) - 1) "
    "+ sqrt(D)/w_init^2]",
    (1, 1, 1, 1),
    flow,
    descend,
    "exact for layers on one line at first; from random small weights up to the time of their alignment",
)

PAPER = Paper(
    "Zhang, Singh et al. (2501.16265)",
    "the main text with its formulas in a transcription (arXiv 2501.16265); the appendix was not read",
    "x ~ N(0, Lambda), w ~ N(0, I), no noise; beta has 1/N: W = [...]^-1/N and n = N. The loss is E (y - yhat)^2",
    (MINIMUM, PLATEAUS, DYNAMICS),
)
