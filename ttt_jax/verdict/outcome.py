"""What comes of a check: its rows, its verdict, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ttt_jax.verdict.agreement import UNSEEN
from ttt_jax.verdict.check_table import check_table

__all__ = ["Check", "CheckRow"]

SIDES = {"==": 0, "<=": -1, ">=": 1}
"""Of the claimed value, where the quantity is said to be."""


@dataclass(frozen=True)
class CheckRow:
    """One problem of a check. What was not asked for (exact value, simulation) is nan.

    Args:
        n, k, d: the sizes.
        claimed: the value of the claim; 0 where the claim is about the sign of a difference.
        exact: the exact value.
        estimate: the simulated value.
        stderr: its standard error.
        stderr_reliable: False where z is not judged, None where that is not assessed, as in `Estimate`; also False
            where it is not assessed and z is on the wrong side by no more than unseen tails explain.
        exact_stderr: standard error of the exact value, where `exact_risk` had to sample tasks; else 0.
        exact_rounding: rounding error of the exact value.
        side: 0 if the quantity is said to be the claimed value, -1 if at most that, 1 if at least that.
        parameters: the caller's own, by name.
    """

    n: int
    k: int
    d: int
    claimed: float
    exact: float
    estimate: float
    stderr: float
    stderr_reliable: bool | None
    exact_stderr: float
    exact_rounding: float
    side: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether there is an exact value."""
        return not math.isnan(self.exact)

    @property
    def is_judged(self) -> bool:
        """Whether there is a simulated value whose standard error counts."""
        return self.stderr_reliable is not False and 0 < self.stderr < math.inf

    @property
    def relative_error(self) -> float:
        """|claimed / exact - 1|; 0 within rounding, inf where exact is 0."""
        if abs(self.claimed - self.exact) <= self.exact_rounding:
            return 0.0
        return abs(self.claimed / self.exact - 1) if self.exact else math.inf

    @property
    def z(self) -> float:
        """(estimate - claimed) / stderr."""
        return (self.estimate - self.claimed) / self.stderr if self.stderr else math.nan

    @property
    def unseen(self) -> float:
        """Standard errors that the tails of the risk may hide: none, unless nobody assessed them."""
        return UNSEEN if self.stderr_reliable is None else 0.0

    @property
    def value(self) -> float:
        """The exact value, or the simulated one where there is none."""
        return self.exact if self.is_known else self.estimate

    def beyond(self, value: float) -> float:
        """How far a value is on the wrong side of the claimed one; of an equality, how far from it; < 0 on the right
        side."""
        return self.side * (self.claimed - value) if self.side else abs(value - self.claimed)


@dataclass(frozen=True)
class Check:
    """The verdict on a claim; its truth value is whether all rows were compared and nothing speaks against it.

    Args:
        rows: one `CheckRow` per problem.
        critical: the |z| beyond which a row contradicts the claim, from the confidence of the whole family (Sidak); of
            an inequality or a sign, the z on the wrong side. Where nobody assessed the tails of the risk a row
            contradicts the claim `UNSEEN` standard errors beyond that, and says nothing in between.
        exact_ok: whether the claim agrees with the exact risk: to rounding (and critical standard errors, where tasks
            were sampled) if it is exact; if approximate, False if the limit is beyond the resolution, else True if a
            constant wrong by 5% would have been refused. Rows without an exact value are left out. None if not
            compared, or not resolved.
        empirical_ok: whether the claim agrees with simulation: every |z| <= critical if it is exact; if approximate,
            whether its error at d = infinity is within critical standard errors and the resolution of the
            extrapolation. Only rows that are judged count; None if there are too few, or, if approximate, where unseen
            tails would decide.
        detectable: the smallest relative error, common to all rows (if approximate, at d = infinity), that the
            simulation would have noticed with probability 95%; nan if not simulated, or about a sign.
        rate: the exponent with which claimed / exact approaches its limit, as the last three sizes show it, < 0; nan
            where they do not, and unless approximate.
        limit: claimed / exact - 1 at d = infinity; nan unless approximate.
        resolution: how far off 1 + limit may be, as a share of it; inf where the sizes support no extrapolation, nan
            unless approximate.
        limit_z: z of the simulated relative error at d = infinity; nan unless approximate and simulated.
        relation: "==", "<=", ">=" or "iff".
        quantity: what the claim is about.
        along: for a switch, the size that varies; its values in the problems do not matter.
    """

    rows: tuple[CheckRow, ...]
    critical: float
    exact_ok: bool | None
    empirical_ok: bool | None
    detectable: float
    rate: float = math.nan
    limit: float = math.nan
    resolution: float = math.nan
    limit_z: float = math.nan
    relation: str = "=="
    quantity: str = "risk"
    along: str | None = None

    @property
    def resolved(self) -> bool:
        """False where an approximate claim is neither confirmed nor refused: the sizes are too small to say."""
        return self.exact_ok is not None or math.isnan(self.resolution)

    @property
    def complete(self) -> bool:
        """Whether every row was compared, by theory or simulation; an approximate claim needs no more than a limit."""
        has_limit = not (math.isnan(self.resolution) and math.isnan(self.limit_z))
        return has_limit or all(row.is_known or row.is_judged for row in self.rows)

    @property
    def ok(self) -> bool:
        verdicts = self.exact_ok, self.empirical_ok
        return self.resolved and self.complete and True in verdicts and False not in verdicts

    @property
    def verdict(self) -> str:
        """One word: "holds", "refuted", or "open" where nothing speaks against the claim and too little for it."""
        return "holds" if self.ok else "refuted" if False in (self.exact_ok, self.empirical_ok) else "open"

    @property
    def margins(self) -> tuple[float, float]:
        """How far the bound of an inequality is from the value, relative to it: of the tightest row and the loosest.

        Of the exact values, or where there is none of the simulated ones. Negative where the bound does not hold; nan
        for other claims.
        """
        if self.relation not in ("<=", ">="):
            return math.nan, math.nan
        rows = [row for row in self.rows if row.is_known] or self.rows
        rooms = [-row.beyond(row.value) for row in rows]
        shares = [
            room / abs(row.value) if row.value else math.copysign(math.inf, room) if room else 0.0
            for room, row in zip(rooms, rows, strict=True)
        ]
        return min(shares), max(shares)

    def on_the_right_side(self, simulated: bool) -> tuple[int, int]:
        """Rows of a claim about signs whose sign is seen, and as claimed: of the first as the better one, the second.

        Args:
            simulated: by simulation, else by the exact risk.
        """
        seen = [row.side for row in self.rows if _seen(row, self.critical, simulated)]
        return seen.count(-1), seen.count(1)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return check_table(self)


def _seen(row: CheckRow, critical: float, simulated: bool) -> bool:
    if simulated:
        return row.is_judged and -row.beyond(row.estimate) > (critical + row.unseen) * row.stderr
    return row.is_known and -row.beyond(row.exact) > row.exact_rounding + critical * row.exact_stderr
