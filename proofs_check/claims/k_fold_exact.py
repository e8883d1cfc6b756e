"""K folds of m = N/K pairs from W = 0, new context of n = N - m pairs, exact: the curvature in the step size.

c2 = K c2(n, m) + 4 K (K-1) E[(v1'Sx v2)(u2'C u1)] with c2(n, m) that of one step and, for C = C_n,
C_j = j (j+1) pp' + j tau Sx and M = (K-2) m, E[...] = tr(Sx C_m C C_m) + 2 m M p'Sx C_m C p + m^2 (p'Sx p) tr(C C_M).
Other W by the package alone.
"""

from functools import lru_cache

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, both
from proofs_check.evidence import symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.oracle import gaussian_mean, risk_coefficients
from proofs_check.evidence.simulation import Comparison, judge
from proofs_check.setting import Group, Setting
from ttt_jax.problem import Problem
from ttt_jax.procedures import Folds
from ttt_jax.simulation import estimate_curve
from ttt_jax.theory.folds import folds_curve
from ttt_jax.theory.wishart_words import expectation, matrix, vector, wishart

COEFFICIENTS = (1, 4, 1, 2, 1)
"""Of c2(n, m), of the cross term and of the three parts of it."""

M, FOLDS, S = sp.symbols("m folds s")
TASK, FEATURE = sp.symbols("b0 b1"), sp.symbols("f0 f1")
"""For the proof, d = 2."""


def formula(c, task, feature, noise_var, m, folds, one):
    """c2 for Sx = diag(feature), given that of one step."""
    sx, b = sp.diag(*feature), sp.Matrix(task)
    p, n, rest = sx * b, (folds - 1) * m, (folds - 2) * m
    tau = (b.T * p)[0] + noise_var
    small, long, others = (j * (j + 1) * p * p.T + j * tau * sx for j in (m, n, rest))
    cross = c[2] * (sx * small * long * small).trace() + c[3] * m * rest * (p.T * sx * small * long * p)[0]
    cross += c[4] * m**2 * (p.T * sx * p)[0] * (long * others).trace()
    return c[0] * folds * one + c[1] * folds * (folds - 1) * cross


def prove(c):
    c2, derived = curvatures()
    return identities({"curvature, d = 2": (formula(c, TASK, FEATURE, S**2, M, FOLDS, c2), derived)})


@lru_cache(None)
def curvatures():
    """That of one step by the law of the summary; that of K folds by the expectations of words. In m, K, Sx, b, s2."""
    m, folds, s, task, feature = M, FOLDS, S, TASK, FEATURE
    cov, b = matrix("cov", symmetric=True), vector("b")
    one, two, rest = (wishart(name, cov) for name in ("one", "two", "rest"))
    query, second = matrix("query", symmetric=True), matrix("second", symmetric=True)
    n, p = (folds - 1) * m, [f * x for f, x in zip(feature, task, strict=True)]
    tau = sum(x * y for x, y in zip(p, task, strict=True)) + s**2
    long = np.zeros((3, 3), dtype=object)
    for i in range(2):
        for j in range(2):
            long[i, j] = n * (n + 1) * p[i] * p[j] + (n * tau * feature[i] if i == j else 0)
    values = {
        "cov": np.array([*feature, 1], object), "b": np.array([*task, s], object), "second": long,
        "query": np.array([*feature, 0], object), "one": m, "two": m, "rest": (folds - 2) * m,
    }  # fmt: skip
    word = (b.T @ one @ query @ two @ b) * (b.T @ (one + rest) @ second @ (two + rest) @ b)
    cross = expectation(word).at(values)
    groups = [Group(1, f, 0, x) for f, x in zip(feature, task, strict=True)]
    c2 = symbolic.risk_coefficients(Setting(n, m, tuple(groups), s**2))[2]
    return c2, folds * c2 + 4 * folds * (folds - 1) * cross


def by_entries(task, feature, noise, weights, folds):
    """c2 for folds of one pair, from the moments of the Gaussian entries of the data alone; noise is s."""
    d = len(task)
    _, *entries = ring([f"z{i}" for i in range(folds * (d + 1))], QQ)
    rows = [entries[i * (d + 1) : (i + 1) * (d + 1)] for i in range(folds)]
    x = [[z * f for z, f in zip(row[:d], feature, strict=True)] for row in rows]  # here feature is a standard deviation
    y = [dot(row, task) + z[d] * noise for row, z in zip(x, rows, strict=True)]
    own = [[value * label for value in row] for row, label in zip(x, y, strict=True)]
    u = [[sum(own[j][a] for j in range(folds) if j != i) for a in range(d)] for i in range(folds)]
    error = [y[i] - dot([dot(row, u[i]) for row in weights], x[i]) for i in range(folds)]
    n = folds - 1
    p = [f**2 * b for f, b in zip(feature, task, strict=True)]
    tau = dot(p, task) + noise**2
    second = [
        [n * (n + 1) * p[i] * p[j] + (n * tau * feature[i] ** 2 if i == j else 0) for j in range(d)] for i in range(d)
    ]
    change = [[sum(x[i][a] * error[i] * u[i][e] for i in range(folds)) for e in range(d)] for a in range(d)]
    total = sum(feature[a] ** 2 * dot([dot(row, change[a]) for row in second], change[a]) for a in range(d))
    return 4 * gaussian_mean(total)


def dot(a, b):
    """Polynomials are in b."""
    return sum(y * x for x, y in zip(a, b, strict=True))


CASES = ((2, (QQ(1), QQ(-1, 2)), (QQ(1), QQ(2))), (3, (QQ(3, 2),), (QQ(2, 3),)))


def independent(c):
    """All entries of the data; and the package from a dense, not symmetric W, with a new context."""
    claimed, package = [], []
    for folds, task, root in CASES:
        noise, d = QQ(1, 2), len(task)
        feature = [f**2 for f in root]
        sx = [[feature[i] if i == j else 0 for j in range(d)] for i in range(d)]
        one = risk_coefficients(task, sx, noise**2, [[0] * d] * d, folds - 1, 1)[2]
        zero = by_entries(task, root, noise, [[QQ(0)] * d] * d, folds)
        numbers = [[QQ.to_sympy(x) for x in values] for values in (task, feature, [noise**2, one, zero])]
        claimed.append((formula(c, *numbers[:2], numbers[2][0], 1, folds, numbers[2][1]), numbers[2][2]))
        weights = [[QQ(i + 1, 9) - QQ(j, 5) for j in range(d)] for i in range(d)]
        problem = Problem(1, folds - 1, np.array(task, float), np.array(feature, float), float(noise**2))
        exact = by_entries(task, root, noise, weights, folds)
        package.append((folds_curve(problem, np.array(weights, float), folds).c2, exact))
    return both(same_numbers(claimed), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    task, feature = (1, sp.Rational(1, 2), 0, 0), (1, sp.Rational(1, 2), 1, 1)
    problem = Problem(40, 20, np.array(task, float), np.array(feature, float), noise_var=1.0)
    groups = [Group(1, f, 0, b) for f, b in zip(feature, task, strict=True)]
    one = symbolic.risk_coefficients(Setting(40, 20, tuple(groups), 1))[2]
    claimed = float(formula(c, task, feature, 1, 20, 3, one))
    curve = estimate_curve(problem, 0.0, Folds(3), num_tasks=effort.num_small, seed=effort.seed)
    return judge([[Comparison(claimed, curve.c2, float(np.sqrt(curve.covariance[2, 2])))]])


CLAIM = Claim("K folds, exact", "this project", COEFFICIENTS, prove, independent, empirical)
