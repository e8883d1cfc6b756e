"""Javanmard, Mirzasoleiman, Mirrokni: linear attention that returns a weight vector, pre-trained and post-trained."""

import numpy as np
import sympy as sp

from proofs_check.claim import Paper, Statement
from proofs_check.evidence.equality import identities
from proofs_check.evidence.simulation import Comparison, judge, num_contexts
from proofs_check.evidence.symbolic import initial_risk
from proofs_check.kinds.initial import initial_statement, over_axes
from proofs_check.setting import AtInference, Group, Setting


def attention(n, spectrum, sizes, entries):
    """The setting of V = diag(entries): W = -V/n, and the error of a weight vector is the risk of a query N(0, I)."""
    columns = zip(sizes, spectrum, entries, strict=True)
    groups = tuple(Group(size, x, -v / sp.sympify(n), 1, query=1) for size, x, v in columns)
    return Setting(n, 1, groups, inference=AtInference(n))


def error(c, setting):
    """(5.1)."""
    n = setting.n
    bias = setting.total(lambda g: (1 - n * g.weight * g.feature) ** 2)
    square, form = (setting.total(lambda g, p=p: (n * g.weight) ** 2 * g.feature**p) for p in (2, 1))
    return c[0] * bias + (c[1] * square + c[2] * form * setting.total(lambda g: g.feature)) / sp.sympify(n)


N, M1, M2, LAMBDA, V1, V2 = sp.symbols("n m1 m2 lambda v1 v2")
HALF = sp.Rational(1, 2)
TEST = initial_statement(
    "Proposition 5.1, (5.1)",
    "E |what - w|^2 = |I + V Sigma|_F^2 + (1/n)[tr(V Sigma^2 V') + tr(V Sigma V') tr(Sigma)], what = -(1/n) V X X'w",
    (1, 1, 1),
    error,
    attention(N, (LAMBDA, 1), (M1, M2), (V1, V2)),
    [attention(3, (2, 1), (1, 2), (-HALF, HALF)), attention(5, (3, 1), (2, 1), (-1, 2))],
    [attention(20, (2, 1), (1, 1), (-1, -HALF)), attention(40, (2, 1), (1, 2), (-HALF, HALF))],
    "nowhere: an identity at every n, d, where test prompts have the n of the weights (the text writes m for their "
    "length)",
    random_tasks=True,
)

PATH = sp.Rational(3, 10)
"""eta, of the supervised path."""


def limit(c, n, a, total):
    """(4.2) along an eigenvector of eigenvalue a > 0 of A."""
    return -c[0] * PATH / ((c[1] * n + c[2]) * a / sp.sympify(n) + c[3] * total / sp.sympify(n))


def stationary(c):
    """V minimises E |V S w + eta w|^2, which is eta^2 times (5.1) of V/eta, convex in V."""
    n, *spectrum = sp.symbols("n a1 a2", positive=True)
    sizes, entries = sp.symbols("m1 m2", positive=True), sp.symbols("v1 v2")
    total = sum(size * a for size, a in zip(sizes, spectrum, strict=True))
    risk = over_axes(initial_risk, attention(n, spectrum, sizes, entries))
    at = {v: limit(c, n, a, total) / PATH for v, a in zip(entries, spectrum, strict=True)}
    return identities({f"d risk/d {v}": (sp.diff(risk, v).subs(at), 0) for v in entries})


def fitted(c, effort):
    """V* = -eta Omega Phi^+ - Gamma_0^-1 (I - Phi Phi^+) of (4.1), of many prompts with a singular A, in groups."""
    rng, n, a, groups = np.random.default_rng(effort.seed), 4, np.array([2.0, 0.5, 0.0]), 20
    before = np.diag([0.3, 0.4, 0.5])  # Gamma_0^-1
    found = []
    for _ in range(groups):
        w = rng.standard_normal((num_contexts(effort) // groups, 3))
        x = rng.standard_normal((len(w), n, 3)) * np.sqrt(a)
        phi = np.einsum("tnd,tne,te->td", x, x, w) / n
        inverse = np.linalg.pinv(phi)
        found.append(-float(PATH) * (inverse @ w).T - before @ (np.eye(3) - (inverse @ phi).T))
    entries = np.diagonal(np.array(found), axis1=1, axis2=2)
    claimed = [limit(c, n, a[0], a.sum()), limit(c, n, a[1], a.sum()), -before[2, 2]]
    stderr = entries.std(0) / np.sqrt(groups - 1) + 1e-12
    return judge([Comparison(float(v), f, s)] for v, f, s in zip(claimed, entries.mean(0), stderr, strict=True))


FITTED = Statement(
    "Proposition 4.3, (4.2)",
    "x ~ N(0, A), n and d fixed, infinitely many prompts: V -> -eta [((n+1)/n) A + (tr(A)/n) A A^+]^+ - Gamma_0^-1 "
    "(I - A A^+)",
    (1, 1, 1, 1),
    stationary,
    fitted,
    "a limit in the number of prompts B, with an error of order 1/sqrt(B); exact in n and d",
)

PAPER = Paper(
    "Javanmard et al. (2603.01293)",
    "sections 1 to 6 of version 1 in a transcription (arXiv 2603.01293); the proofs were not read",
    "x ~ N(0, Sigma), w ~ N(0, I), no noise; 1/n: W = -V'/n. The error of the weight vector is the risk of a query "
    "x ~ N(0, I)",
    (TEST, FITTED),
)
