"""Isotropic warm start, approximate: for g = k/d > 1/2 the risk rises in a = n/d up to sqrt(3g/(g+1)) - 1, then falls.

For g <= 1/2 it falls for every a > 0.
"""

import math

import sympy as sp

from proofs_check.claim import (
    CONFIDENCE,
    ORACLE_SIZES,
    Claim,
    Verdict,
    both,
    exact_padded,
    falls_like_1_over_d,
    identities,
    isotropic,
    leading_quantities,
    quantities_of_oracle,
    setting_problem,
    simulate,
)
from ttt_jax.procedures import GradientStep
from ttt_jax.theory.paper import corollary_4_4_turning_point
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.infinity import value_at_infinity

LAW_SIZES = 200, 400
RISING, FALLING = sp.Integer(10), sp.Rational(2, 5)
"""Values of g with a hump and without."""


def turning_point(c, g):
    return sp.sqrt(c[0] * g / (g + c[1])) - c[2]


def warm(n, k, d):
    return isotropic(n, k, d, weight=1 / sp.sympify(n + d + 1))


def symbolic(c):
    """The slope in a is (T - a)(T + a + 2)/(1 + a)^4, T the turning point: its sign is that of T - a for a > 0."""
    a, g, d = sp.Symbol("a", positive=True), sp.Symbol("g", positive=True), sp.Symbol("d")
    q = leading_quantities(warm(a * d, g * d, d))
    slope = sp.diff(sp.cancel(q["initial"] - q["gain"]), a)
    top = turning_point(c, g)
    claimed = sp.expand((top - a) * (top + a + 2)) / (1 + a) ** 4
    return identities({"slope of the limit": (claimed, slope), "T at the threshold": (turning_point(c, c[3]), 0)})


def slope(d, a, g):
    """d/2 times the difference of the exact risks at n+1 and n-1."""
    n = round(a * d)
    above, below = (quantities_of_oracle(warm(rows, g * d, d)) for rows in (n + 1, n - 1))
    return (above["initial"] - above["gain"] - below["initial"] + below["gain"]) * d / 2


def independent(c):
    """At g = 3, where the turning point is 1/2; its two sides; and g = 2/5, where there is none."""
    top, size = turning_point(c, sp.Integer(3)), ORACLE_SIZES[-1]
    at, above, far = (corollary_4_4_turning_point(float(c[3] * m)) for m in (1, sp.Rational(101, 100), 6))
    if at or not above or abs(far - 0.5) > 1e-12:
        return Verdict(False, f"the package has {at}, {above} and {far} at 1, 1.01 and 6 times the threshold")
    rises = [slope(size, top * m, 3) > 0 for m in (sp.Rational(1, 5), sp.Rational(9, 10))]
    falls = [slope(size, top * m, 3) < 0 for m in (sp.Rational(11, 10), sp.Integer(4))]
    falls += [slope(size, sp.Rational(m, 10), FALLING) < 0 for m in (1, 2, 5, 20)]
    flat = falls_like_1_over_d(ORACLE_SIZES, [slope(d, top, 3) for d in ORACLE_SIZES])
    return both(flat, Verdict(all(rises + falls), f"rises at {len(rises)} and falls at {len(falls)} points"))


def empirical(c, effort):
    """Risks of the sampler "law" before, at and after the turning point, for d = infinity; where it is stays open."""

    def risk(a, g):
        values = []
        for d in LAW_SIZES:
            setting = warm(round(a * d), round(g * d), d)
            problem, weights = setting_problem(setting), setting.column("weight")
            best = GradientStep(exact_padded(problem, weights).optimal_lr)
            values.append(simulate(problem, weights, best, num_tasks=effort.num_large, seed=effort.seed, sampler="law"))
        return value_at_infinity(LAW_SIZES, [v.mean for v in values], [v.stderr for v in values])

    top = float(turning_point(c, RISING))
    before, at, after = (risk(a, RISING) for a in (top / 4, top, 4 * top))
    early, late = (risk(a, FALLING) for a in (0.2, 1.0))
    z = [(y[0] - x[0]) / math.hypot(x[1], y[1]) for x, y in ((before, at), (after, at), (late, early))]
    critical = critical_z(CONFIDENCE, len(z))
    ok = False if min(z) < -critical else True if min(z) > critical else None
    return Verdict(ok, f"rise and fall by {min(z):.0f} stderr or more (critical {critical:.2f})")


COEFFICIENTS = (3, 1, 1, sp.Rational(1, 2))
"""Of g, of 1 and the last 1 in the turning point; and the g at which it is 0."""
CLAIM = Claim("Where more context hurts", "Corollary 4.4", COEFFICIENTS, symbolic, independent, empirical)
