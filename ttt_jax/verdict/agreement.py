"""When simulation agrees with theory: one rule and one sentence for every place that asks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ttt_jax._internal.plural import counted
from ttt_jax._internal.validate import level_number, real_array, shown

__all__ = ["POWER", "Verdict", "agreement_table", "critical_z", "family_verdict", "judge"]

POWER = NormalDist().inv_cdf(0.95)
"""Standard errors beyond the critical ones at which a difference is noticed with probability 95%."""

NOTICED = 0.05
"""What a constant of a leading order may be wrong by and the claim still agree: less than this."""

UNSEEN = 3.0
"""Standard errors beyond the critical ones that the tails may explain where nobody assessed them, see `is_unclear`."""


def critical_z(confidence: float, count: int = 1) -> float:
    """The bound on |z| that all of `count` independent scores keep with this probability if their claims hold.

    Example:
        >>> round(critical_z(0.95), 2), round(critical_z(0.99, count=3), 2)
        (1.96, 2.93)
    """
    return NormalDist().inv_cdf((1 + confidence ** (1 / count)) / 2)


def critical_one_sided(confidence: float, count: int = 1) -> float:
    """The bound that `count` independent scores all stay below with this probability if their claims hold.

    Example:
        >>> round(critical_one_sided(0.95), 2), round(critical_one_sided(0.99, count=3), 2)
        (1.64, 2.71)
    """
    return NormalDist().inv_cdf(confidence ** (1 / count))


def is_unclear(z: float, reliable: bool | None, critical: float) -> bool:
    """Whether a score beyond the critical one may still be that of a right claim, because nobody assessed the tails.

    Events rarer than one in T, with a share s of the variance, are absent from a typical run of T tasks. By
    Cauchy-Schwarz its mean is then off by at most sqrt(s / (1 - s)) of its own standard errors: UNSEEN at s = 9/10.

    Example:
        >>> [is_unclear(4.0, reliable, 2.58) for reliable in (True, None)], is_unclear(6.0, None, 2.58)
        ([False, True], False)
    """
    return reliable is None and critical < z <= critical + UNSEEN


def family_verdict(zs: Sequence[float], *, level: float = 0.01) -> tuple[bool, float]:
    """Whether all z-scores of a family are compatible with their claims, and the bound on |z| that decides it.

    The bound is the Sidak-corrected quantile of the normal law: were every claim true, at least one of len(zs)
    independent scores would exceed it with probability `level`.

    Example:
        >>> agree, bound = family_verdict([0.3, -2.9, 1.0])
        >>> agree, round(bound, 2)
        (True, 2.93)
    """
    scores = real_array("zs", zs)
    if scores.ndim != 1:
        raise ValueError(f"zs must be a sequence of numbers, got {shown(zs)}")
    bound = critical_z(1 - level_number("level", level), max(len(scores), 1))
    return bool((np.abs(scores) <= bound).all()), bound


@dataclass(frozen=True)
class Verdict:
    """Whether the cells of a family agree with theory.

    Args:
        judged: cells with a z-score that counts.
        outside: those with |z| above the bound.
        bound: on |z|, for a family-wise level of 1%.
        largest: |z| of the cells that are judged; 0 if none is.
        unassessed: judged cells whose standard errors nobody assessed (several steps, folds, models).
        unreliable: cells that are not judged, because the tails of the risk make their standard error doubtful, or,
            where nobody assessed it, may explain their z-score.
        broken: cells with risks that are not finite.
        empty: cells that could not be computed.
    """

    judged: int
    outside: int
    bound: float
    largest: float
    unassessed: int = 0
    unreliable: int = 0
    broken: int = 0
    empty: int = 0

    @property
    def agrees(self) -> bool | None:
        """None where nothing was judged, which is neither agreement nor the opposite."""
        return not self.outside if self.judged else None

    def __str__(self) -> str:
        if not self.judged:
            lacking = "a standard error that can be trusted" if self.unreliable or self.broken else "a z-score"
            parts = [f"no verdict: no cell has {lacking}"]
        elif self.outside:
            parts = [f"DISAGREE: {self.outside} of {counted(self.judged, 'cell')}, largest |z| {self.largest:.2f}"]
        else:
            parts = [f"agree: largest |z| {self.largest:.2f} of {counted(self.judged, 'cell')}"]
        if self.judged:
            parts[0] += f", critical {self.bound:.2f} (family-wise level 1%)"
        if self.unassessed:
            parts.append(f"the standard error is not assessed in {self.unassessed} of them")
        if self.unreliable:
            parts.append(f"{self.unreliable} not judged: too few tasks for the tails of the risk")
        if self.broken:
            parts.append(f"{self.broken} with risks that are not finite")
        if self.empty:
            parts.append(f"{self.empty} without values: the column note says why")
        return "; ".join(parts)


def judge(rows: Iterable[dict[str, Any]]) -> Verdict:
    """The verdict on rows as `Comparison.row` gives them, with `z`, `stderr_reliable` and, if present, the counts.

    Example:
        >>> rows = [{"z": 0.4, "stderr_reliable": True}, {"z": 9.0, "stderr_reliable": False}]
        >>> judge(rows).agrees, judge(rows).unreliable
        (True, 1)
    """
    rows = _records(rows, "z", "stderr_reliable")
    empty = sum(row.get("num_tasks") == 0 for row in rows)
    rows = [row for row in rows if row["z"] is not None or row.get("num_nonfinite")]
    scored = [row for row in rows if row["stderr_reliable"] is not False and row["z"] is not None]
    _, bound = family_verdict([row["z"] for row in scored])
    judged = [row for row in scored if not is_unclear(abs(row["z"]), row["stderr_reliable"], bound)]
    broken = sum(bool(row.get("num_nonfinite")) for row in rows)
    return Verdict(
        judged=len(judged),
        outside=sum(not abs(row["z"]) <= bound for row in judged),
        bound=bound,
        largest=max((abs(row["z"]) for row in judged), default=0.0),
        unassessed=sum(row["stderr_reliable"] is None for row in judged),
        unreliable=len(rows) - len(judged) - broken,
        broken=broken,
        empty=empty,
    )


def agreement_table(rows: Sequence[dict[str, object]], verdict: Verdict | str) -> str:
    """Rows of named values as aligned text columns, and below them the verdict.

    Example:
        >>> row = {"n/d": 0.5, "exact": 0.51234, "z": 0.4, "stderr_reliable": True}
        >>> print(agreement_table([{name: row[name] for name in ("n/d", "exact", "z")}], judge([row])))
        n/d   exact    z
        0.5  0.5123  0.4
        agree: largest |z| 0.40 of 1 cell, critical 2.58 (family-wise level 1%)
    """
    if not (rows := _records(rows)):
        raise ValueError("rows must not be empty")
    rows = _records(rows, *rows[0])
    header = list(rows[0])
    cells = [header] + [[_short(row[name]) for name in header] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([*lines, str(verdict)])


def _records(rows: Any, *keys: str) -> list[dict[str, Any]]:
    """The rows as a list; ValueError unless each is a dictionary with these keys."""
    rows = list(rows) if isinstance(rows, Iterable) else [rows]
    for row in rows:
        if not isinstance(row, Mapping) or not row.keys() >= set(keys):
            raise ValueError(f"rows must be dictionaries with {', '.join(keys) or 'values by name'}, got {shown(row)}")
    return rows


def finite_or_none(value: float | None) -> float | None:
    """The value, or None where it is not finite: JSON has no other word for it."""
    return value if value is not None and math.isfinite(value) else None


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
