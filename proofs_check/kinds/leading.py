"""Leading orders: formulas that become right as d grows, with an error of order 1/d.

The claimed and the exact value are compared at large d and extrapolated, which costs nothing; the simulated and the
exact value at moderate d. Together they say how far the claim is from simulation at d = infinity: an error of the exact
value that did not vanish there would be seen at moderate d.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, Verdict, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, falls_like_1_over_d, identities, same_numbers
from proofs_check.evidence.simulation import Comparison, exact_curve, given_setting, judge, simulate_best
from proofs_check.kinds.exact import Formula, Package
from proofs_check.setting import Setting, of_parabola
from ttt_jax.verdict.infinity import limit_with_resolution

ORACLE_SIZES = 20_000, 40_000
LARGE = 4000, 8000, 16000
"""d at which claimed and exact values are compared."""
MODERATE = 64
"""d at which exact and simulated values are."""

Family = Callable[[int], Setting]


def leading_claim(
    name: str, number: str, coefficients: tuple, formula: Formula, families: Sequence[Family],
    symbols: Sequence[Setting], package: Package | None = None,
) -> Claim:  # fmt: skip
    """A claim that formula(coefficients, setting) is the leading order of some of initial, optimal_lr, gain.

    Args:
        families: settings in numbers, each a function of the size d.
        symbols: settings in symbols, one of them called d.
        package: the same quantities by the installed package.
    """
    d = sp.Symbol("d")

    def prove(c):
        return both(*(proof(c, setting) for setting in symbols))

    def proof(c, setting):
        derived = symbolic.leading_quantities(setting)
        return identities(
            {f"limit of {k}": (symbolic.leading_term(v, d) / derived[k], 1) for k, v in formula(c, setting).items()}
        )

    def independent(c):
        return both(*(family_verdict(c, scaled) for scaled in families))

    def family_verdict(c, scaled):
        settings = [scaled(size) for size in ORACLE_SIZES]
        values = [formula(c, setting) for setting in settings]
        exact = [oracle.quantities(setting) for setting in settings]
        verdicts = [
            falls_like_1_over_d(ORACLE_SIZES, [v[key] / e[key] - 1 for v, e in zip(values, exact, strict=True)])
            for key in values[0]
        ]
        if package:
            computed = package(settings[0])
            pairs = ((computed[key], value) for key, value in formula(coefficients, settings[0]).items())
            verdicts.append(same_numbers(pairs, tolerance=FLOAT64))
        return both(*verdicts)

    def empirical(c, effort):
        return leading_verdict([family_ratios(lambda setting: formula(c, setting), s, effort) for s in families])

    return Claim(name, number, coefficients, prove, independent, empirical)


def family_ratios(formula: Callable[[Setting], dict[str, Any]], scaled: Family, effort) -> dict[str, Comparison | None]:
    """Simulated / claimed at d = infinity, which is claimed to be 1, by quantity; None where it has no limit."""
    settings = [scaled(size) for size in LARGE]
    claimed = [formula(setting) for setting in settings]
    exact = [of_parabola(c.c0, c.c1, c.c2) for c in map(exact_curve, settings)]
    moderate = scaled(MODERATE)
    curve, found = exact_curve(moderate), simulate_best(given_setting(moderate), effort.num_large, effort.seed)
    at_moderate = of_parabola(curve.c0, curve.c1, curve.c2)
    ratios: dict[str, Comparison | None] = {}
    for key in claimed[0]:
        values = np.array([float(e[key] / v[key]) for v, e in zip(claimed, exact, strict=True)])
        ratios[key] = at_infinity(values, found.compare(key, at_moderate[key]))
    return ratios


def at_infinity(exact: np.ndarray, simulated: Comparison) -> Comparison | None:
    """From exact / claimed at LARGE sizes, and exact and simulated values at a moderate one."""
    if min(exact) <= 0:
        return None
    limit = limit_with_resolution(LARGE, np.log(exact), [FLOAT64] * len(LARGE), rate=1)
    if limit.resolution == math.inf:
        return None
    share = 1 / simulated.claimed
    found = math.exp(limit.value) + simulated.found * share - 1
    return Comparison(1.0, found, simulated.stderr * abs(share), simulated.reliable, limit.resolution)


def leading_verdict(families: Sequence[dict[str, Comparison | None]]) -> Verdict:
    """All quantities of all families."""
    comparisons = [one for family in families for one in family.values()]
    if None in comparisons:
        return Verdict(False, f"claimed / exact does not tend to a limit at d = {', '.join(map(str, LARGE))}")
    return judge([one] for one in comparisons if one)
