"""The law of the summary u = X'y: given t ~ chi2(n), u is Gaussian with mean t p and covariance t (tau Sx - p p').

p = Sx b and tau = b'Sx b + s2. The two laws have one moment generating function: for every vector a

    E exp(a'u) = [1 - 2 a'p - tau a'Sx a + (a'p)^2]^(-n/2).

Given u, the training statistic v = Xt'(yt - Xt W u) has the same law with k for n and b - W u for b, so that one TTT
experiment can be drawn with O(d) random numbers: the sampler "law".
"""

import math

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check.claim import Claim, both
from proofs_check.claims import exact_risk
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import contexts, judge, judge_samples, num_contexts, simulate_best

TASK, FEATURE_COV, NOISE_VAR = [QQ(1), QQ(1, 2)], [[QQ(2), QQ(1, 2)], [QQ(1, 2), QQ(1)]], QQ(1, 3)
DIRECTION = [QQ(1), QQ(-1, 3)]
ROWS = 1, 4


def formula(c, a_p, a_sx_a, tau):
    """What is raised to the power -n/2."""
    return 1 - c[0] * a_p - c[1] * tau * a_sx_a + c[2] * a_p**2


def symbolic(c):
    """E exp(z'Kz/2) = det(1 - Cov K)^(-1/2) for one row z = (x, y) against E exp(s t) = (1 - 2 s)^(-n/2), d = 2."""
    a0, a1, b0, b1, s00, s01, s11, s2 = sp.symbols("a0 a1 b0 b1 s00 s01 s11 s2")
    a, b, sx = sp.Matrix([a0, a1]), sp.Matrix([b0, b1]), sp.Matrix([[s00, s01], [s01, s11]])
    p = sx * b
    tau = b.dot(p) + s2
    covariance = sp.Matrix([[sx, p], [p.T, sp.Matrix([[tau]])]])
    form = sp.Matrix([[sp.zeros(2), a], [a.T, sp.zeros(1)]])
    of_row = (sp.eye(3) - covariance * form).det()
    of_mixture = 1 - 2 * (a.dot(p) + a.dot((tau * sx - p * p.T) * a) / 2)
    claimed = formula(c, a.dot(p), a.dot(sx * a), tau)
    return identities({"sampled rows": (claimed, of_row), "mixture": (claimed, of_mixture)})


def moments(c, n):
    """E (a'u)^m for m = 1, ..., 6 at a = DIRECTION, from the series of the generating function."""
    b, sx, a = sp.Matrix(TASK), sp.Matrix(FEATURE_COV), sp.Matrix(DIRECTION)
    p = sx * b
    x = sp.Symbol("x")
    generating = formula(c, x * a.dot(p), x**2 * a.dot(sx * a), b.dot(p) + NOISE_VAR) ** (-sp.Rational(n, 2))
    series = sp.series(generating, x, 0, oracle.DEGREE + 1).removeO()
    return [series.coeff(x, m) * sp.factorial(m) for m in range(1, oracle.DEGREE + 1)]


def independent(c):
    pairs = []
    for n in ROWS:
        of_u = oracle.context_moments(TASK, FEATURE_COV, NOISE_VAR, n)
        for m, claimed in enumerate(moments(c, n), start=1):
            terms = ((math.comb(m, i) * DIRECTION[0] ** i * DIRECTION[1] ** (m - i), (i, m - i)) for i in range(m + 1))
            pairs.append((claimed, sum(w * of_u.get(power, 0) for w, power in terms)))
    return same_numbers(pairs)


def empirical(c, effort):
    """Contexts of sampled rows against the moments; the sampler "law" against the risk of the rational oracle."""
    task, sx = np.array(TASK, dtype=float), np.array(FEATURE_COV, dtype=float)
    u = contexts(task, sx, float(NOISE_VAR), ROWS[-1], num_contexts(effort), effort.seed)
    along = u @ np.array(DIRECTION, dtype=float)
    rows = judge_samples([along**m for m in (1, 2, 3)], [float(x) for x in moments(c, ROWS[-1])[:3]])
    return both(rows, judge([list(sampler(evaluation, effort)) for evaluation in ("fresh", "same")]))


def sampler(evaluation, effort):
    """The sampler "law" on correlated features, noise and non-symmetric W."""
    for i, case in enumerate(exact_risk.LONG):
        c0, c1, c2 = exact_risk.of_oracle(case, evaluation)
        given = exact_risk.in_floats(case, evaluation)
        found = simulate_best(given, 4 * effort.num_small, effort.seed + i, sampler="law")
        yield found.compare("risk", QQ.to_sympy(c0 - c1**2 / (4 * c2)))


CLAIM = Claim("Mixture law of the summary", "this project", (2, 1, 1), symbolic, independent, empirical)
