"""The verdict on a claim over its rows: row by row, approximate where d is infinite, of signs on both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ttt_jax.verdict.agreement import NOTICED, POWER, critical_one_sided, critical_z, is_unclear
from ttt_jax.verdict.infinity import Limit, limit_with_resolution
from ttt_jax.verdict.outcome import Check, CheckRow
from ttt_jax.verdict.quantities import ROUNDING

FLAT = math.log1p(NOTICED) / 2
"""The largest resolution of log(claimed / exact) at which a claim agrees: 5% more would be beyond it."""


def judge_rows(
    rows: tuple[CheckRow, ...],
    *,
    relation: str = "==",
    quantity: str = "risk",
    along: str | None = None,
    approximate: bool = False,
    rate: float | None = None,
    confidence: float = 0.99,
) -> Check:
    """The verdict on an exact claim row by row, on an approximate one by its error at d = infinity."""
    known = [row for row in rows if row.is_known]
    judged = [row for row in rows if row.is_judged]
    count = 1 if approximate else max(len(judged), sum(row.exact_stderr > 0 for row in known), 1)
    critical = (critical_z if relation == "==" else critical_one_sided)(confidence, count)
    if any(math.isinf(row.exact) for row in rows):  # a switch that does not exist
        found = Check(rows, critical, False, None, math.nan)
    elif approximate:
        found = _leading_order(rows, judged, critical, rate, len(known) == len(rows))
    else:
        rows = tuple(_without_doubt(row, critical) for row in rows)
        judged = [row for row in rows if row.is_judged]
        found = Check(
            rows,
            critical,
            _none_beyond(known, critical) if known else None,
            all(row.beyond(row.estimate) <= critical * row.stderr for row in judged) if judged else None,
            min(((critical + row.unseen + POWER) * _relative_error(row) for row in judged), default=math.nan),
        )
    found = replace(found, relation=relation, quantity=quantity, along=along)
    return _with_both_sides(found) if relation == "iff" else found


def _without_doubt(row: CheckRow, critical: float) -> CheckRow:
    """The row, not judged if it is on the wrong side by no more than tails explain that nobody assessed."""
    unclear = row.is_judged and is_unclear(row.beyond(row.estimate) / row.stderr, row.stderr_reliable, critical)
    return replace(row, stderr_reliable=False) if unclear else row


def _relative_error(row: CheckRow) -> float:
    return row.stderr / abs(row.estimate or math.nan)


def _none_beyond(rows: Sequence[CheckRow], critical: float) -> bool:
    """Whether every exact value is where the claim has it, to rounding and the errors of sampled tasks."""
    return all(row.beyond(row.exact) <= row.exact_rounding + critical * row.exact_stderr for row in rows)


def _with_both_sides(check: Check) -> Check:
    """A claim about signs agrees only if both signs are seen where it has them; else it is open."""
    verdicts = [
        ok and (all(check.on_the_right_side(simulated)) or None)
        for ok, simulated in ((check.exact_ok, False), (check.empirical_ok, True))
    ]
    return replace(check, exact_ok=verdicts[0], empirical_ok=verdicts[1], detectable=math.nan)


def _leading_order(
    rows: tuple[CheckRow, ...], judged: list[CheckRow], critical: float, rate: float | None, has_exact: bool
) -> Check:
    exact_ok = empirical_ok = None
    detectable = exponent = limit = resolution = limit_z = math.nan
    if has_exact:
        found, sign = _limit(rows, critical, rate, has_exact)
        exponent, limit, resolution = found.exponent, sign * math.exp(found.value) - 1, found.resolution
        if resolution < math.inf and (sign < 0 or abs(found.value) > resolution):
            exact_ok = False
        elif resolution <= FLAT:
            exact_ok = True
    if len(judged) >= 2:
        seen_alone, with_unseen = (
            _simulated_limit(judged[-3:], critical, rate, has_exact, np.array([share * r.unseen for r in judged[-3:]]))
            for share in (0.0, 1.0)
        )
        empirical_ok, limit_z, detectable = with_unseen
        empirical_ok = empirical_ok if seen_alone[0] is empirical_ok else None
    return Check(
        rows, critical, exact_ok, empirical_ok, detectable, -exponent, limit, float(np.expm1(resolution)), limit_z
    )


def _simulated_limit(
    rows: Sequence[CheckRow],
    critical: float,
    rate: float | None,
    has_exact: bool,
    unseen: Float[np.ndarray, " rows"],
) -> tuple[bool | None, float, float]:
    """Whether the claim agrees with simulation at d = infinity, its z there, and the error that would be noticed.

    Args:
        unseen: standard errors that every estimate may be off beside its noise.
    """
    found, sign = _limit(rows, critical + unseen, rate, has_exact)
    if found.resolution == math.inf:
        return None, math.nan, math.nan
    reference = np.array([row.exact if has_exact else row.estimate for row in rows])
    claimed, estimate, stderr = np.array([(r.claimed, r.estimate, r.stderr) for r in rows]).T
    errors = found.weights @ (np.log(abs(reference / claimed)) + estimate / reference - 1)
    error = float(errors.min() + errors.max()) / 2
    noise = float(np.linalg.norm(found.weights * (stderr / reference), axis=1).max())
    bound = found.resolution
    if has_exact:  # else both are in the resolution
        bound += critical * noise + float((abs(found.weights) @ (unseen * stderr / abs(reference))).max())
    return sign > 0 and abs(error) <= bound, error / noise, bound + POWER * noise


def _limit(
    rows: Sequence[CheckRow], critical: float | Float[np.ndarray, " rows"], rate: float | None, has_exact: bool
) -> tuple[Limit, float]:
    """log |claimed / exact|, or / estimate, at d = infinity by the last three rows, and the sign of the ratio."""
    rows = rows[-3:]
    values, stderrs = np.array([(r.exact, r.exact_stderr) if has_exact else (r.estimate, r.stderr) for r in rows]).T
    ratios = np.array([row.claimed for row in rows]) / values
    logs = np.log(abs(ratios))
    steps = np.array([(row.exact_rounding / row.exact) ** 2 if has_exact else 0.0 for row in rows])  # of a whole k or n
    bounds = abs(logs) * _off_power_law(rows) + critical * stderrs / abs(values) + ROUNDING + steps
    found = limit_with_resolution([row.d for row in rows], logs, bounds, rate=rate, flat=FLAT)
    if len({*np.sign(ratios)}) > 1:
        found = found._replace(resolution=math.inf)
    return found, float(np.sign(ratios[-1]))


def _off_power_law(rows: Sequence[CheckRow]) -> float:
    """How far n or k of the middle of three rows is from a power of d through the others, as a share: its rounding."""
    if len(rows) < 3:
        return 0.0
    d, *nk = np.log([(row.d, row.n, row.k) for row in rows]).T
    return max(abs(size[1] - np.interp(d[1], d[::2], size[::2])) for size in nk)
