"""One prompt's risk is a function of four chi-squares: Sx = I, W = w I, no noise, the same context.

    risk = B [(1 - w t)^2 + w^2 t s] [(1 - theta q)^2 + theta^2 q m],     theta = 2 lr B t (t + s)

with independent t ~ chi2(n), s ~ chi2(d-1), q ~ chi2(k), m ~ chi2(d-1). Its mean is that of the exact risk; its second
moment, a polynomial too, gives the variance.
"""

from functools import lru_cache

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, both
from proofs_check.evidence import symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.oracle import gaussian_mean
from proofs_check.evidence.simulation import Comparison, given_setting, judge
from proofs_check.evidence.wishart import form_moment
from proofs_check.setting import isotropic
from ttt_jax.procedures import GradientStep
from ttt_jax.simulation import estimate_risk
from ttt_jax.theory.prompt_law import isotropic_moments, same_context_moments

COEFFICIENTS = (1, 1, 2, 1, 1)
"""Of w t; of w^2 t s; of theta; of s in it; of m."""

ENTRIES = (1, 1, 2, 1), (1, 1, 2, 2), (2, 1, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1)
"""n, k and d, few enough Gaussian entries to multiply them out; and the power of the risk."""


def moment(c, n, k, d, norm2, w, lr, power):
    """E risk^power."""
    polynomials, t, s, q, m = ring("t s q m", QQ[tuple(_symbols(n, k, d, norm2, w, lr))])
    n, k, d, norm2, w, lr, *c = (polynomials.domain.from_sympy(sp.sympify(x)) for x in (n, k, d, norm2, w, lr, *c))
    theta = t * (t + s * c[3]) * (c[2] * lr * norm2)
    before = (1 - t * (c[0] * w)) ** 2 + t * s * (c[1] * w**2)
    risk = before * ((1 - theta * q) ** 2 + theta**2 * q * m * c[4]) * norm2
    degrees = n, d - 1, k, d - 1
    total = polynomials.domain.zero
    for exponents, coefficient in (risk**power).terms():
        factor = coefficient
        for degree, exponent in zip(degrees, exponents, strict=True):
            for i in range(exponent):
                factor = factor * (degree + 2 * i)
        total += factor
    return polynomials.domain.to_sympy(total)


def _symbols(*values) -> list:
    return sorted(set().union(*(sp.sympify(x).free_symbols for x in values)), key=str) or [sp.Dummy("unused")]


def prove(c):
    """The mean is the exact parabola; the second moment for W = 0 follows from Wick's pairings of Xt'Xt."""
    n, k, d, w, b, lr = sp.symbols("n k d w b lr")
    c0, c1, c2 = symbolic.risk_coefficients(isotropic(n, k, d, b, 0, w, "same"))
    mean = moment(c, n, k, d, b**2, w, lr, 1)
    cold = sp.Poly(moment(c, n, k, d, b**2, 0, lr, 2), lr)
    pairs = {"mean": (mean, c0 - c1 * lr + c2 * lr**2)}
    for power in range(5):  # |r - x S r|^4 = (1 - 2 x s1 + x^2 s2)^2, s1 = r'Sr, s2 = r'S^2 r, x = 2 lr |u|^2
        forms = [(1, ()), (-4, (1,)), (4, (1, 1)), (-4, (1, 2)), (1, (2, 2))][power : power + 1]
        forms += [(2, (2,))] if power == 2 else []
        queries = sum(factor * form_moment(powers) for factor, powers in forms)
        lengths = sum(  # E |u|^(2 power) / B^power = E t^power (t + s)^power
            sp.binomial(power, i) * symbolic.chi2_moment(n, 2 * power - i) * symbolic.chi2_moment(d - 1, i)
            for i in range(power + 1)
        )
        derived = queries * lengths * 2**power * b ** (2 * power + 4)
        pairs[f"second moment, lr^{power}"] = cold.coeff_monomial(lr**power), derived
    return identities(pairs)


@lru_cache(None)
def by_entries(n, k, d, task, w, lr, power):
    """E risk^power from the Gaussian entries of the rows alone, by Wick pairings; b lies along the first axis."""
    polynomials, *x = ring([f"x{i}" for i in range((n + k) * d)], QQ)
    rows = [x[i * d : (i + 1) * d] for i in range(n + k)]

    def summary(rows, vector):
        along = [sum((row[i] * vector[i] for i in range(d)), polynomials.zero) for row in rows]
        return [sum((row[i] * y for row, y in zip(rows, along, strict=True)), polynomials.zero) for i in range(d)]

    b = [polynomials(task if i == 0 else 0) for i in range(d)]
    u = summary(rows[:n], b)
    r = [b[i] - u[i] * w for i in range(d)]
    v = summary(rows[n:], r)
    u2 = sum((y**2 for y in u), polynomials.zero)
    return gaussian_mean(sum(((r[i] - u2 * v[i] * (2 * lr)) ** 2 for i in range(d)), polynomials.zero) ** power)


def independent(c):
    task, w, lr = QQ(3, 2), QQ(1, 7), QQ(1, 50)
    numbers = [QQ.to_sympy(x) for x in (task**2, w, lr)]
    pairs = [
        (moment(c, *sizes, *numbers, power), QQ.to_sympy(by_entries(*sizes, task, w, lr, power)))
        for *sizes, power in ENTRIES
    ]
    sizes, numbers = (9, 7, 4), (sp.Rational(9, 4), sp.Rational(1, 16), sp.Rational(1, 2**14))
    first, second = (moment(COEFFICIENTS, *sizes, *numbers, power) for power in (1, 2))
    norm2, weight, size = map(float, numbers)
    task = np.array([1.5, 0.0, 0.0, 0.0])
    of_any, of_scalar = (
        same_context_moments(9, 7, task, weight, size * norm2),
        isotropic_moments(9, 7, 4, norm2, 1.0, 0.0, weight, size),
    )
    package = [(norm2 * of_any[0], first), (norm2**2 * of_any[1], second - first**2)]
    package += [(of_scalar[0], first), (of_scalar[1], second - first**2)]
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    """Mean and variance of simulated risks; the error of the variance is that of the fourth moment."""
    n, k, d, w, lr = 80, 60, 4, sp.Rational(1, 125), sp.Rational(6, 10**7)
    problem, weights, _ = given_setting(isotropic(n, k, d, 1, 0, w, "same"))
    found = estimate_risk(problem, weights, GradientStep(float(lr)), num_tasks=4 * effort.num_small, seed=effort.seed)
    first, second = (float(moment(c, n, k, d, 1, w, lr, p)) for p in (1, 2))
    variance = found.num_tasks * found.stderr**2
    error = variance * np.sqrt((found.kurtosis - 1) / found.num_tasks)
    return judge(
        [
            [Comparison(first, found.mean, found.stderr, found.stderr_reliable)],
            [Comparison(second - first**2, variance, float(error), found.stderr_reliable)],
        ]
    )


CLAIM = Claim("The law of one prompt's risk", "this project", COEFFICIENTS, prove, independent, empirical)
