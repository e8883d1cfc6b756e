"""Least squares on N labelled pairs, of minimum norm, exact; Sx = I, or any for N > d + 1:

N > d + 1:  s2 + s2 d / (N - d - 1),        d > N + 1:  s2 + B (1 - N/d) + s2 N / (d - N - 1).
"""

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import judge_samples
from ttt_jax.problem import Problem
from ttt_jax.theory.yardsticks import least_squares_risk

CASES = (9, 4, sp.Rational(9, 4), sp.Rational(1, 2)), (3, 7, sp.Rational(9, 4), sp.Rational(1, 2)), (5, 8, 1, 2)
"""N, d, B and s2."""


def formula(c, rows, d, norm2, noise_var):
    if rows > d:
        return noise_var + c[0] * noise_var * d / (rows - d - c[1])
    return noise_var + norm2 * (1 - c[2] * rows / d) + c[3] * noise_var * rows / (d - rows - c[4])


def prove(c):
    """By the laws: 1 / (S^-1)_ii ~ chi2(N - d + 1), and |P b|^2 / B ~ Beta(N/2, (d - N)/2) for the row space P."""
    rows, d, nu = sp.symbols("N d nu", positive=True)

    def inverse_chi2(degrees):  # int of 1/x times the density, by the integral of Gamma
        return sp.gammasimp(sp.gamma(nu / 2 - 1) / (2 * sp.gamma(nu / 2))).subs(nu, degrees)

    beta = sp.gammasimp(sp.gamma(rows / 2 + 1) * sp.gamma(d / 2) / sp.gamma(rows / 2) / sp.gamma(d / 2 + 1))
    return identities(
        {
            "spread, N > d": (c[0] * d / (rows - d - c[1]), d * inverse_chi2(rows - d + 1)),
            "what is missed, N < d": (1 - c[2] * rows / d, 1 - beta),
            "spread, N < d": (c[3] * rows / (d - rows - c[4]), rows * inverse_chi2(d - rows + 1)),
        }
    )


def inverse_trace(rows, d):
    """E tr S^-1, S = T'T: column by column of T^-1, T upper triangular with chi2(N), chi2(N-1), ... on its diagonal."""
    total = sp.Integer(0)
    for j in range(d):
        column = [sp.Rational(1, rows - j - 2)]
        for i in reversed(range(j)):
            column.append(sp.Rational(1, rows - i - 2) * sum(column))
        total += sum(column)
    return total


def independent(c):
    rational, package = [], []
    for rows, d, norm2, noise_var in CASES:
        missed = norm2 * sp.Rational(max(d - rows, 0), d)  # the trace of a projection is its rank
        exact = noise_var + missed + noise_var * inverse_trace(max(rows, d), min(rows, d))
        rational.append((formula(c, sp.Integer(rows), sp.Integer(d), norm2, noise_var), exact))
        problem = Problem(1, rows - 1, np.sqrt(float(norm2)) * np.eye(d)[0], 1.0, float(noise_var), evaluation="same")
        package.append((least_squares_risk(problem), exact))
    correlated = Problem(5, 9, np.ones(2), np.array([[2.0, 0.5], [0.5, 1.0]]), 3.0, evaluation="same")
    package.append((least_squares_risk(correlated), 3 + 3 * inverse_trace(14, 2)))
    return both(same_numbers(rational), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    """The pseudo-inverse of sampled rows; the mean over the query is the distance of the fit from the task."""
    rng = np.random.default_rng(effort.seed)
    samples, claimed = [], []
    for rows, d in ((16, 4), (4, 16)):
        task = np.full(d, d**-0.5)
        x = rng.standard_normal((2 * effort.num_small, rows, d))
        y = x @ task + np.sqrt(0.5) * rng.standard_normal((2 * effort.num_small, rows))
        fitted = np.einsum("tdn,tn->td", np.linalg.pinv(x), y)
        samples.append(0.5 + np.sum((task - fitted) ** 2, axis=1))
        claimed.append(float(formula(c, rows, d, 1, 0.5)))
    return judge_samples(samples, claimed)


CLAIM = Claim("Least squares", "inverse Wishart", (1, 1, 1, 1, 1), prove, independent, empirical)
