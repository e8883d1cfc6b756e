"""What comes of a check: its rows, its verdict, and how they are printed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ttt_jax.verdict.comparison import FLOAT32_ROUNDING

__all__ = ["NOTICED", "Check", "CheckRow"]

NOTICED = 0.05
"""What a constant of a leading order may be wrong by and the claim still agree: less than this."""


@dataclass(frozen=True)
class CheckRow:
    """One problem of a check. What was not asked for (exact value, simulation) is nan.

    Args:
        n, k, d: the sizes.
        claimed: the value of the claim.
        exact: the exact value.
        relative_error: |claimed / exact - 1|.
        estimate: the simulated value.
        stderr: its standard error.
        z: (estimate - claimed) / stderr.
        stderr_reliable: False where z is not judged, None where that is not assessed, as in `Estimate`.
        exact_stderr: standard error of the exact value, where `exact_risk` had to sample tasks; else 0.
        exact_rounding: rounding error of the exact value.
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

    @property
    def relative_error(self) -> float:
        if abs(self.claimed - self.exact) <= self.exact_rounding:
            return 0.0
        return abs(self.claimed / self.exact - 1) if self.exact else math.inf

    @property
    def z(self) -> float:
        return (self.estimate - self.claimed) / self.stderr if self.stderr else math.nan


@dataclass(frozen=True)
class Check:
    """The verdict on a claim; true in a condition if it was compared with something and nothing speaks against it.

    Args:
        rows: one `CheckRow` per problem.
        critical: the |z| beyond which a row contradicts the claim, from the confidence of the whole family (Sidak).
        exact_ok: whether the claim agrees with the exact risk: to rounding (and critical standard errors, where tasks
            were sampled) if it is exact; if approximate, False if the limit is beyond the resolution, else True if a
            constant wrong by 5% would have been. None if not compared, or not resolved.
        empirical_ok: whether the claim agrees with simulation: every |z| <= critical if it is exact; if approximate,
            whether its error at d = infinity is within critical standard errors and the resolution of the
            extrapolation. Only rows of reliable standard error count; None if there are too few.
        detectable: the smallest relative error, common to all rows (if approximate, at d = infinity), that the
            simulation would have noticed with probability 95%; nan if not simulated.
        rate: the exponent with which claimed / exact approaches its limit, as the last three sizes show it, < 0; nan
            where they do not, and unless approximate.
        limit: claimed / exact - 1 at d = infinity; nan unless approximate.
        resolution: how far off 1 + limit may be, as a share of it; inf where the sizes support no extrapolation, nan
            unless approximate.
        limit_z: z of the simulated relative error at d = infinity; nan unless approximate and simulated.
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

    @property
    def resolved(self) -> bool:
        """False where an approximate claim is neither confirmed nor refused: the sizes are too small to say."""
        return self.exact_ok is not None or math.isnan(self.resolution)

    @property
    def ok(self) -> bool:
        verdicts = self.exact_ok, self.empirical_ok
        return self.resolved and True in verdicts and False not in verdicts

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        table = [("n", "k", "d", "claimed", "exact", "rel. error", "simulated", "z")]
        for row in self.rows:
            exact = simulated = ("-", "-")
            if not math.isnan(row.exact):
                exact = f"{row.exact:.6g}", f"{row.relative_error:.1e}"
            if not math.isnan(row.estimate):
                mark = {True: "", False: "*", None: "?"}[row.stderr_reliable]
                simulated = f"{row.estimate:.5g}({row.stderr:.1g})", f"{row.z:.2f}{mark}"
            table.append((str(row.n), str(row.k), str(row.d), f"{row.claimed:.6g}", *exact, *simulated))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in table]
        words = {True: "agrees", False: "DISAGREES", None: "not compared"}
        verdict = words[self.exact_ok] if self.resolved else "not resolved"
        lines.append(f"exact: {verdict}{self._exact_detail()}")
        lines.append(f"simulation: {words[self.empirical_ok]}{self._empirical_detail()}")
        flags = [row.stderr_reliable for row in self.rows]
        if False in flags:
            lines.append("* not judged: too few tasks for the tails of the risk")
        if None in flags:
            lines.append("? the reliability of the standard error is not assessed")
        return "\n".join(lines)

    def _exact_detail(self) -> str:
        if self.resolution == math.inf:
            return " (the sizes do not show how the error falls; larger d, or a rate if none is given, would tell more)"
        if not math.isnan(self.resolution):
            falls = "is" if math.isnan(self.rate) else f"falls like d^{self.rate:.2f} to"
            hint = "" if self.resolved else f"; larger d, or a rate if none is given, would tell {NOTICED:.0%} from 0"
            limit = f"{_percent(self.limit, '+')} +- {_percent(self.resolution)}"
            return f" (error {falls} {limit} at d = infinity{hint})"
        if self.exact_ok is False and max(row.relative_error for row in self.rows) < FLOAT32_ROUNDING:
            return " (by no more than the rounding of float32: is the claim evaluated in float64?)"
        return ""

    def _empirical_detail(self) -> str:
        if self.empirical_ok is None:
            return ""
        limit = "" if math.isnan(self.limit_z) else f", z at d = infinity {self.limit_z:.2f}"
        return f" (critical |z| {self.critical:.2f}{limit}, would notice a relative error of {self.detectable:.1%})"


def _percent(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}{'.2g' if abs(share) < 0.995 else '.0f'}}%"
