"""What a claim is: a statement with its coefficients taken out, and three verdicts on it.

A test changes the coefficients one at a time: a check that passes with a wrong one is none. Each verdict is a function
of them: symbolic (exact algebra), independent (Wick pairings in rational arithmetic), empirical (simulated data and
jax.grad steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sympy import Rational

Coefficients = Sequence[Any]


class Verdict(NamedTuple):
    """ok is True if the claim holds, False if it fails, None if nothing was judged, for the reason in detail.

    detects: the smallest relative error of the claim that simulation would have noticed with probability 95%; nan where
    nothing is simulated.
    """

    ok: bool | None
    detail: str
    detects: float = math.nan


def both(*verdicts: Verdict) -> Verdict:
    """All of several verdicts: the first that fails, else the first that judged nothing."""
    for bad in (False, None):
        if found := [verdict for verdict in verdicts if verdict.ok is bad]:
            return found[0]
    detects = [verdict.detects for verdict in verdicts if not math.isnan(verdict.detects)]
    return Verdict(True, "; ".join(verdict.detail for verdict in verdicts), max(detects, default=math.nan))


class Effort(NamedTuple):
    """How many tasks to simulate per problem, of a few features and of many, and at which d where d must grow."""

    num_small: int
    num_large: int
    seed: int = 0
    sizes: tuple[int, ...] = (30, 60, 120)


QUICK, FULL = Effort(20_000, 4_000, sizes=(30, 60)), Effort(400_000, 40_000)


@dataclass(frozen=True)
class Claim:
    """One statement and its three verdicts, each a function of the coefficients, the last also of the effort."""

    name: str
    number: str
    coefficients: tuple
    symbolic: Callable[[Coefficients], Verdict]
    independent: Callable[[Coefficients], Verdict]
    empirical: Callable[[Coefficients, Effort], Verdict]

    def with_wrong(self, i: int) -> list[Any]:
        """The coefficients, the i-th changed by 5%."""
        return [c * Rational(21, 20) if j == i else c for j, c in enumerate(self.coefficients)]


@dataclass(frozen=True)
class Statement:
    """A statement of another paper: its coefficients as printed, and what exact theory and simulation say of them.

    Args:
        number: of the equation or theorem.
        text: the statement in the paper's notation.
        coefficients: as printed.
        exact: the verdict of algebra, exact arithmetic or a proved formula; None where there is none.
        simulated: the verdict of simulation.
        at_finite_size: for a reader, where the statement stops being true at finite size.
        corrected: coefficients with which the statement holds, where as printed it does not.
        bound: whether it is an upper bound, which a wrong coefficient makes wrong only by making it smaller.
    """

    number: str
    text: str
    coefficients: tuple
    exact: Callable[[Coefficients], Verdict] | None
    simulated: Callable[[Coefficients, Effort], Verdict]
    at_finite_size: str
    corrected: tuple | None = None
    bound: bool = False

    def judge(self, coefficients: Coefficients, effort: Effort) -> Verdict:
        """Both verdicts together."""
        exact = [self.exact(coefficients)] if self.exact else []
        return both(*exact, self.simulated(coefficients, effort))


@dataclass(frozen=True)
class Paper:
    """A paper whose statements are on trial.

    Args:
        name: how it is cited, with the arXiv number.
        read: the text that was read, and whether it is the paper's own, a copy or code.
        convention: how its symbols become those of this project.
        statements: what it says.
    """

    name: str
    read: str
    convention: str
    statements: tuple[Statement, ...]
