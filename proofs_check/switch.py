"""Claims about the ratio k/d at which the warm and the cold start have the same risk after their best step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import sympy as sp

from proofs_check.claim import (
    CONFIDENCE,
    ORACLE_SIZES,
    Claim,
    Setting,
    Verdict,
    both,
    coefficients_of_oracle,
    exact_padded,
    falls_like_1_over_d,
    identities,
    leading_quantities,
    setting_problem,
    simulate,
)
from ttt_jax.procedures import GradientStep
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.claim import POWER
from ttt_jax.verdict.infinity import value_at_infinity

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
            for q in (leading_quantities(symbols), leading_quantities(cold_start(symbols)))
        )
        assert not (warm - cold).has(d)
        sign = lead(symbols) * (g - ratio(c, symbols)) / (1 + g)
        return identities({"warm minus cold for every k/d": (warm - cold, sign)})

    def independent(c):
        return both(*(family_verdict(c, scaled) for scaled in families))

    def family_verdict(c, scaled):
        def difference(size, multiple=1):
            k = sp.Rational(ratio(c, scaled(size, 1))) * size * multiple
            return risk(k, lambda queries: scaled(size, queries)) - risk(
                k, lambda queries: cold_start(scaled(size, queries))
            )

        def risk(k, setting):
            """At any real k: c1 is linear in k and c2 quadratic, so that k = 1 and 2 fix them."""
            (c0, slope, one), (_, _, two) = (coefficients_of_oracle(setting(queries)) for queries in (1, 2))
            curvature = (two - 2 * one) / 2
            return c0 - k * slope**2 / (4 * (one - curvature + curvature * k))

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
        """Warm minus cold for d = infinity: 0 at the switch, below 0 at half of it and above 0 at twice it."""
        critical = critical_z(CONFIDENCE, 3 * len(families))
        at, sides, detectable = [], [], []
        for scaled in families:
            switch = float(ratio(c, scaled(effort.sizes[-1], 1)))
            (level, stderr), *beside = (difference_at_infinity(scaled, switch * m, effort) for m in (1, 0.5, 2))
            slope = (beside[1][0] - beside[0][0]) / 1.5  # per relative change of the switch
            at.append(abs(level) / stderr)
            sides += [-beside[0][0] / beside[0][1], beside[1][0] / beside[1][1]]
            detectable.append((critical + POWER) * stderr / abs(slope))
        detail = f"max |z| {max(at):.2f} (critical {critical:.2f}), detects {max(detectable):.0%}"
        if max(at) > critical or min(sides) < -critical:
            return Verdict(False, f"{detail}; beside the switch z = {min(sides):.1f}")
        resolved = True if min(sides) > critical else None
        return Verdict(resolved, f"{detail}; beside the switch the right start wins by {min(sides):.0f} stderr")

    return Claim(name, number, coefficients, prove, independent, empirical)


def cold_start(setting: Setting) -> Setting:
    return replace(setting, groups=tuple(group._replace(weight=0) for group in setting.groups))


def difference_at_infinity(scaled: Callable, ratio: float, effort) -> tuple[float, float]:
    """Simulated warm minus cold risk at k = ratio d, extrapolated to d = infinity, and its standard error."""
    values, stderrs = [], []
    for size in effort.sizes:
        below = math.floor(ratio * size)
        fraction = ratio * size - below
        value, variance = 0.0, 0.0
        for k, share in ((below, 1 - fraction), (below + 1, fraction)):
            for sign, setting in ((1, scaled(size, k)), (-1, cold_start(scaled(size, k)))):
                if share:
                    estimate = best_risk(setting, effort)
                    value += sign * share * estimate.mean
                    variance += (share * estimate.stderr) ** 2
        values.append(value)
        stderrs.append(math.sqrt(variance))
    return value_at_infinity(effort.sizes, values, stderrs)


def best_risk(setting: Setting, effort):
    """The simulated risk at the exact optimal step."""
    problem, weights = setting_problem(setting), setting.column("weight")
    lr = exact_padded(problem, weights).optimal_lr
    return simulate(problem, weights, GradientStep(lr), num_tasks=effort.num_large, seed=effort.seed)
