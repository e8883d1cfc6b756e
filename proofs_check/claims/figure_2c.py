"""Several steps, Sx = I, noiseless, all pairs drawn anew before each step, approximate: Figure 2c's recursion.

A <- (1 - 2 x) A + x^2 (1 + 1/g) (A + S) with x = 2 lr n^2 B k, g = k/d; the risk is A + S, S = n B |W|_F^2 constant.
"""

from functools import lru_cache

import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.claims import new_context
from proofs_check.evidence.equality import FLOAT64, falls_like_1_over_d, identities, same_numbers
from proofs_check.evidence.simulation import Comparison, simulate_steps
from proofs_check.evidence.symbolic import leading
from proofs_check.kinds.leading import LARGE, MODERATE, ORACLE_SIZES, at_infinity, leading_verdict
from proofs_check.setting import isotropic
from ttt_jax._internal.plural import counted
from ttt_jax.theory.several_steps import new_context_risk_leading

STEPS = sp.Rational(3, 10), sp.Rational(1, 5)
A, G, WEIGHT, X1, X2 = sp.symbols("a g w x1 x2")
"""Values of x."""


def formula(c, a, g, weight, steps):
    """B = 1, W = (weight/d) I, n = a d, k = g d."""
    misfit, spread = (1 - c[0] * a * weight) ** 2, c[1] * a * weight**2
    for x in steps:
        misfit = (1 - c[2] * x) * misfit + c[3] * x**2 * (1 + c[4] / g) * (misfit + spread)
    return c[5] * (misfit + spread)


def exact(n, k, d, weight, steps):
    """The exact recursion, which `new_context` checks."""
    state = weight, weight**2, weight**2 * d
    for x in steps:
        state = new_context.recursion(
            new_context.COEFFICIENTS, n, k, d, sp.Integer(1), sp.Integer(0), state, x / (2 * n**2 * k)
        )
    return new_context.risk(n, 1, 0, state)


@lru_cache(None)
def limit(steps):
    d = sp.Symbol("d")
    return leading(exact(A * d, G * d, d, WEIGHT / d, steps), d)


def symbolic(c):
    pairs = {
        f"limit of {counted(len(steps), 'step')}": (formula(c, A, G, WEIGHT, steps), limit(steps))
        for steps in ((X1,), (X1, X2))
    }
    return identities(pairs)


def independent(c):
    def error(d):
        d = sp.Integer(d)
        return (
            formula(c, sp.Rational(1, 2), 2, sp.Rational(2, 3), STEPS)
            / exact(d / 2, 2 * d, d, sp.Rational(2, 3) / d, STEPS)
            - 1
        )

    problem = scaled(60).problem()
    lr = [float(x) / (2 * problem.n**2 * problem.k) for x in STEPS]
    package = new_context_risk_leading(problem, 2 / 3 / 60, lr)[-1]
    value = formula(CLAIM.coefficients, sp.Rational(1, 2), 2, sp.Rational(2, 3), STEPS)
    return both(
        falls_like_1_over_d(ORACLE_SIZES, [error(d) for d in ORACLE_SIZES]),
        same_numbers([(package, value)], tolerance=FLOAT64),
    )


def scaled(d):
    return isotropic(d // 2, 2 * d, d, weight=sp.Rational(2, 3 * d))


def empirical(c, effort):
    def claimed_and_exact(d):
        d, weight = sp.Integer(d), sp.Rational(2, 3 * d)
        return formula(c, sp.Rational(1, 2), 2, sp.Rational(2, 3), STEPS), exact(d / 2, 2 * d, d, weight, STEPS)

    ratios = [float(value / claim) for claim, value in map(claimed_and_exact, LARGE)]
    setting = scaled(MODERATE)
    steps = tuple(float(x) / (2 * setting.n**2 * setting.k) for x in STEPS)
    found = simulate_steps(setting, steps, True, effort.num_large, effort.seed)
    simulated = Comparison(float(claimed_and_exact(MODERATE)[1]), float(found.mean[-1]), float(found.stderr[-1]))
    return leading_verdict([{"risk": at_infinity(ratios, simulated)}])


CLAIM = Claim("Several steps, new contexts", "Figure 2c", (1, 1, 2, 1, 1, 1), symbolic, independent, empirical)
