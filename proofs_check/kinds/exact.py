"""Equalities: some of the initial risk, the best step size and its gain equal a formula at every size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp

from proofs_check.claim import Claim, Coefficients, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import compare_settings, judge
from proofs_check.setting import Setting, isotropic

Formula = Callable[[Coefficients, Setting], dict[str, Any]]
Package = Callable[[Setting], dict[str, float]]

SHORT = (6, 9, 3, 1, 0), (2, 4, 3, sp.Rational(3, 2), 0), (9, 30, 3, 2, sp.Rational(1, 2)), (5, 2, 4, 1, 3)
LONG = (60, 60, 4, 1, 0), (80, 20, 4, sp.Rational(3, 2), sp.Rational(1, 2))
"""n, k, d, |b| and s2 of isotropic problems."""


def isotropic_settings(
    sizes: Sequence[tuple], weight: Callable[..., Any] = lambda n, d, s2: 0, evaluation: str = "fresh"
) -> list[Setting]:
    """With the W = weight(n, d, s2) I."""
    return [isotropic(n, k, d, task, s2, sp.sympify(weight(n, d, s2)), evaluation) for n, k, d, task, s2 in sizes]


def exact_claim(
    name: str, number: str, coefficients: tuple, formula: Formula, symbols: Setting, settings: Sequence[Setting],
    simulated: Sequence[Setting], package: Package | None = None,
) -> Claim:  # fmt: skip
    """A claim that some of initial, optimal_lr, gain equal formula(coefficients, setting), exactly.

    Args:
        symbols: the setting in symbols, for the proof.
        settings: settings in numbers, for the oracle: short contexts show the lower terms.
        simulated: the same for simulation: long contexts have light tails.
        package: the same quantities by the installed package.
    """

    def prove(c):
        derived = symbolic.quantities(symbols)
        return identities({key: (value, derived[key]) for key, value in formula(c, symbols).items()})

    def independent(c):
        rational = same_numbers(
            (value, oracle.quantities(setting)[key], f"{key} at {setting}")
            for setting in settings
            for key, value in formula(c, setting).items()
        )
        if not package:
            return rational
        of_package = same_numbers(
            (
                (value, oracle.quantities(setting)[key], f"the package's {key} at {setting}")
                for setting in settings
                for key, value in package(setting).items()
            ),
            tolerance=FLOAT64,
        )
        return both(rational, of_package)

    def empirical(c, effort):
        claimed = [formula(c, setting) for setting in simulated]
        return judge(compare_settings(simulated, claimed, effort.num_small, effort.seed))

    return Claim(name, number, coefficients, prove, independent, empirical)
