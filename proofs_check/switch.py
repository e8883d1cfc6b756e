"""Claims about the ratio k/d at which the warm and the cold start have the same risk after their best step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import sympy as sp

from proofs_check import symbolic
from proofs_check.claim import (
    CONFIDENCE,
    ORACLE_SIZES,
    Claim,
    Setting,
    Verdict,
    coefficients_of_oracle,
    exact_padded,
    falls_like_1_over_d,
    identities,
    quantities_in_symbols,
    setting_problem,
    simulate,
)
from ttt_jax.verdict.claim import POWER
from ttt_jax.verdict.comparison import critical_z
from ttt_jax.verdict.infinity import value_at_infinity


def switch_claim(
    name: str, number: str, coefficients: tuple, ratio: Callable, scaled: Callable[..., Setting], symbols: Setting,
    package: Callable[[Setting], float],
) -> Claim:  # fmt: skip
    """A claim that warm and cold start are level at k/d = ratio(coefficients, setting), to leading order.

    Args:
        scaled: the warm setting of (d, k) in numbers.
        symbols: the warm setting in symbols with k = g d.
        package: the ratio by the installed package.
    """

    def prove(c):
        d, g = sp.Symbol("d"), sp.Symbol("g", positive=True)
        warm, cold = (
            symbolic.leading(q["initial"] - q["gain"], d)
            for q in (quantities_in_symbols(symbols), quantities_in_symbols(cold_start(symbols)))
        )
        return identities({"risks at the switch": ((warm - cold).subs(g, ratio(c, symbols)), 0)})

    def real_k(c, size):
        k = sp.Rational(ratio(c, scaled(size, 1))) * size
        below = math.floor(k)
        return below, k - below

    def independent(c):
        def difference(size):
            k = sp.Rational(ratio(c, scaled(size, 1))) * size
            return risk(k, lambda queries: scaled(size, queries)) - risk(
                k, lambda queries: cold_start(scaled(size, queries))
            )

        def risk(k, setting):
            """At any real k: c1 is linear in k and c2 quadratic, so that k = 1 and 2 fix them."""
            (c0, slope, one), (_, _, two) = (coefficients_of_oracle(setting(queries)) for queries in (1, 2))
            curvature = (two - 2 * one) / 2
            return c0 - k * slope**2 / (4 * (one - curvature + curvature * k))

        verdict = falls_like_1_over_d(ORACLE_SIZES, [difference(size) for size in ORACLE_SIZES])
        example = scaled(ORACLE_SIZES[0], 1)
        if abs(package(example) / ratio(coefficients, example) - 1) > 0.01:
            return Verdict(False, f"the package has {package(example)}")
        return verdict

    def empirical(c, effort):
        values, stderrs = [], []
        for size in effort.sizes:
            below, fraction = real_k(c, size)
            value, variance = 0.0, 0.0
            for k, share in ((below, 1 - float(fraction)), (below + 1, float(fraction))):
                for sign, setting in ((1, scaled(size, k)), (-1, cold_start(scaled(size, k)))):
                    if share:
                        estimate = best_risk(setting, effort)
                        value += sign * share * estimate.mean
                        variance += (share * estimate.stderr) ** 2
            values.append(value)
            stderrs.append(math.sqrt(variance))
        limit, stderr = value_at_infinity(effort.sizes, values, stderrs)
        critical = critical_z(CONFIDENCE)
        slope = (
            best_risk(scaled(size, below + size // 4), effort).mean - best_risk(scaled(size, below), effort).mean
        ) - (
            best_risk(cold_start(scaled(size, below + size // 4)), effort).mean
            - best_risk(cold_start(scaled(size, below)), effort).mean
        )
        detectable = (critical + POWER) * stderr / abs(4 * slope * below / size)
        z = abs(limit / stderr)
        return Verdict(bool(z <= critical), f"max |z| {z:.2f} (critical {critical:.2f}), detects {detectable:.1%}")

    return Claim(name, number, coefficients, prove, independent, empirical)


def cold_start(setting: Setting) -> Setting:
    return replace(setting, groups=tuple(group._replace(weight=0) for group in setting.groups))


def best_risk(setting: Setting, effort):
    """The simulated risk at the exact optimal step."""
    problem, weights = setting_problem(setting), setting.column("weight")
    lr = exact_padded(problem, weights).optimal_lr
    return simulate(problem, weights, lr, num_tasks=effort.num_large, seed=effort.seed, evaluation="fresh")
