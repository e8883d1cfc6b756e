"""Thresholds: the ratio k/d at which the warm and the cold start have the same risk after their best step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sympy as sp

from proofs_check.claim import Claim, Verdict, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, falls_like_1_over_d, identities
from proofs_check.evidence.simulation import CONFIDENCE, Comparison, after_best_step, exact_curve, judge
from proofs_check.kinds.leading import LARGE, MODERATE, ORACLE_SIZES
from proofs_check.setting import Setting
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.infinity import limit_with_resolution

BESIDE = [sp.Rational(m) for m in ("1/10", "1/2", "9/10", "10/9", "2", "10")]
"""Multiples of the switch at which the right start must win."""


def switch_claim(
    name: str, number: str, coefficients: tuple, ratio: Callable, lead: Callable, families: Sequence[Callable],
    symbols: Setting, package: Callable[[Setting], float],
) -> Claim:  # fmt: skip
    """A claim that the warm start wins iff k/d < ratio(coefficients, setting), to leading order.

    Args:
        lead: a positive function of the setting: (1 + g) (warm - cold) = lead (g - ratio) for every g.
        families: warm settings in numbers, each a function of (d, k).
        symbols: the warm setting in symbols with k = g d.
        package: the ratio by the installed package.
    """

    def prove(c):
        d, g = sp.Symbol("d"), sp.Symbol("g", positive=True)
        warm, cold = (
            sp.cancel(q["initial"] - q["gain"])
            for q in map(symbolic.leading_quantities, (symbols, cold_start(symbols)))
        )
        assert not (warm - cold).has(d)
        sign = lead(symbols) * (g - ratio(c, symbols)) / (1 + g)
        return identities({"warm minus cold for every k/d": (warm - cold, sign)})

    def independent(c):
        return both(*(family_verdict(c, scaled) for scaled in families))

    def family_verdict(c, scaled):
        def difference(size, multiple=1):
            return difference_at(
                oracle.parabola, scaled, size, sp.Rational(ratio(c, scaled(size, 1))) * size * multiple
            )

        level = falls_like_1_over_d(ORACLE_SIZES, [difference(size) for size in ORACLE_SIZES])
        wrong = [m for m in BESIDE if (difference(ORACLE_SIZES[-1], m) < 0) != (m < 1)]
        example = scaled(ORACLE_SIZES[0], 1)
        if abs(package(example) / ratio(coefficients, example) - 1) > 0.01:
            return Verdict(False, f"the package has {package(example)}")
        sides = Verdict(
            not wrong, f"the wrong start wins at {wrong} x it" if wrong else "the right start wins beside it"
        )
        return both(level, sides)

    def empirical(c, effort):
        return both(*(simulated_family(c, scaled, effort) for scaled in families))

    def simulated_family(c, scaled, effort):
        """The switch by the sampler "law", for the many tasks; who wins at half of it and twice it by sampled data."""
        k = round(float(ratio(c, scaled(MODERATE, 1))) * MODERATE)
        beside = [
            simulated_difference(scaled(MODERATE, max(1, round(k * m))), effort.num_large // 8, effort.seed)
            for m in (0.5, 2)
        ]
        lead = min(-beside[0].found / beside[0].stderr, beside[1].found / beside[1].stderr)
        critical = critical_z(CONFIDENCE, 2)
        winner = f"beside it the right start wins by {lead:.0f} stderr"
        sides = Verdict(False if lead < -critical else True if lead > critical else None, winner)
        return both(judge([[switch_ratio(c, scaled, k, effort)]]), sides)

    def switch_ratio(c, scaled, k, effort):
        """Simulated / claimed switch: that of the exact risks at d = infinity, and what simulation adds to it."""

        def shift(size):
            """By what share the claimed switch is too large, and the difference there per share of the switch."""
            at = float(ratio(c, scaled(size, 1))) * size
            below, level, above = (difference_at(exact_parabola, scaled, size, at * m) for m in (0.99, 1, 1.01))
            return level / (above - below) * 0.02, (above - below) / 0.02

        limit = limit_with_resolution(LARGE, [1 - shift(size)[0] for size in LARGE], [FLOAT64] * len(LARGE), rate=1)
        one, (_, per_share) = (
            simulated_difference(scaled(MODERATE, k), 8 * effort.num_large, effort.seed, "law"),
            shift(MODERATE),
        )
        found = limit.value - (one.found - one.claimed) / per_share
        return Comparison(1.0, found, one.stderr / abs(per_share), one.reliable, limit.resolution)

    return Claim(name, number, coefficients, prove, independent, empirical)


def cold_start(setting: Setting) -> Setting:
    return replace(setting, groups=tuple(group._replace(weight=0) for group in setting.groups))


def difference_at(parabola: Callable, scaled: Callable, size: int, k: Any) -> Any:
    """Warm minus cold at any real k: c1 is linear in k and c2 quadratic, so that k = 1 and 2 fix them."""

    def risk(start):
        (c0, slope, one), (_, _, two) = (parabola(start(scaled(size, queries))) for queries in (1, 2))
        curvature = (two - 2 * one) / 2
        return c0 - k * slope**2 / (4 * (one - curvature + curvature * k))

    return risk(lambda warm: warm) - risk(cold_start)


def exact_parabola(setting: Setting) -> tuple[float, float, float]:
    curve = exact_curve(setting)
    return curve.c0, curve.c1, curve.c2


def simulated_difference(warm: Setting, num_tasks: int, seed: int, sampler: str = "data") -> Comparison:
    """Warm minus cold after the best step, exact and simulated."""
    one, other = (
        after_best_step(start, num_tasks, seed + i, sampler) for i, start in enumerate((warm, cold_start(warm)))
    )
    reliable, stderr = False not in (one.reliable, other.reliable), math.hypot(one.stderr, other.stderr)
    return Comparison(one.claimed - other.claimed, one.found - other.found, stderr, reliable)
