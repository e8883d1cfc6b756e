"""Isotropic warm start, approximate: for g = k/d > 1/2 the risk rises in a = n/d up to sqrt(3g/(g+1)) - 1, then falls.

For g <= 1/2 it falls for every a > 0.
"""

import math

import sympy as sp

from proofs_check.claim import Claim, Verdict, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, falls_like_1_over_d, identities
from proofs_check.evidence.simulation import CONFIDENCE, Comparison, after_best_step, exact_curve, judge
from proofs_check.kinds.leading import LARGE, ORACLE_SIZES
from proofs_check.setting import isotropic
from ttt_jax.theory.paper import corollary_4_4_turning_point
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.infinity import limit_with_resolution

LAW_SIZE, WIDTH = 120, 0.3
RISING, FALLING = sp.Integer(10), sp.Rational(2, 5)
"""Values of g with a hump and without."""


def turning_point(c, g):
    return sp.sqrt(c[0] * g / (g + c[1])) - c[2]


def warm(n, k, d):
    return isotropic(n, k, d, weight=1 / sp.sympify(n + d + 1))


def prove(c):
    """The slope in a is (T - a)(T + a + 2)/(1 + a)^4, T the turning point: its sign is that of T - a for a > 0."""
    a, g, d = sp.Symbol("a", positive=True), sp.Symbol("g", positive=True), sp.Symbol("d")
    q = symbolic.leading_quantities(warm(a * d, g * d, d))
    slope = sp.diff(sp.cancel(q["initial"] - q["gain"]), a)
    top = turning_point(c, g)
    claimed = sp.expand((top - a) * (top + a + 2)) / (1 + a) ** 4
    return identities({"slope of the limit": (claimed, slope), "T at the threshold": (turning_point(c, c[3]), 0)})


def slope(d, a, g):
    """d/2 times the difference of the exact risks at n+1 and n-1."""
    n = round(a * d)
    above, below = (oracle.quantities(warm(rows, g * d, d)) for rows in (n + 1, n - 1))
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
    """Where the risk is largest, and that it rises before and falls after; the sampler "law"."""
    return both(judge([[turning_point_ratio(c, effort)]]), rise_and_fall(c, effort))


def turning_point_ratio(c, effort):
    """Simulated / claimed: that of the exact risks at d = infinity, and what simulation adds to it at LAW_SIZE."""
    top = float(turning_point(c, RISING))

    def risks(d, step):
        """Exact ones at three n, a share `step` of d apart, around the claimed point; slope and curvature in n/d."""
        middle, width = round(top * d), round(step * d)
        settings = [warm(middle + i * width, int(RISING * d), d) for i in (-1, 0, 1)]
        before, at, after = (exact_curve(setting).optimal for setting in settings)
        h = width / d
        return settings, middle / d, (after - before) / (2 * h), (after - 2 * at + before) / h**2

    def exact(d):
        _, at, slope, curvature = risks(d, 0.01)
        return (at - slope / curvature) / top

    limit = limit_with_resolution(LARGE, [exact(d) for d in LARGE], [FLOAT64] * len(LARGE), rate=1)
    (before, _, after), *_ = risks(LAW_SIZE, WIDTH)
    *_, curvature = risks(LAW_SIZE, 0.05)
    one, other = (
        after_best_step(setting, 4 * effort.num_large, effort.seed + i, "law")
        for i, setting in enumerate((before, after))
    )
    share = 1 / (2 * WIDTH * curvature * top)
    found = limit.value - share * ((other.found - other.claimed) - (one.found - one.claimed))
    return Comparison(1.0, found, abs(share) * math.hypot(one.stderr, other.stderr), slack=limit.resolution)


def rise_and_fall(c, effort):
    top = float(turning_point(c, RISING))

    def risk(a, g):
        """The hump is one of large d: the exact risk there, with the simulated deviation from it at LAW_SIZE."""
        at, far = (warm(round(a * d), round(g * d), d) for d in (LAW_SIZE, LARGE[-1]))
        one = after_best_step(at, effort.num_large, effort.seed + 2, "law")
        return one._replace(found=exact_curve(far).optimal + one.found - one.claimed)

    before, at, after = (risk(a, RISING) for a in (top / 4, top, 4 * top))
    early, late = (risk(a, FALLING) for a in (0.2, 1.0))
    z = [(y.found - x.found) / math.hypot(x.stderr, y.stderr) for x, y in ((before, at), (after, at), (late, early))]
    critical = critical_z(CONFIDENCE, len(z))
    ok = False if min(z) < -critical else True if min(z) > critical else None
    return Verdict(ok, f"rise and fall by {min(z):.0f} stderr or more")


COEFFICIENTS = (3, 1, 1, sp.Rational(1, 2))
"""Of g, of 1 and the last 1 in the turning point; and the g at which it is 0."""
CLAIM = Claim("Where more context hurts", "Corollary 4.4", COEFFICIENTS, prove, independent, empirical)
