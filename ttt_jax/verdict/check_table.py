"""How a check is printed: a row of text per problem, and below them what came of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ttt_jax._internal.plural import counted
from ttt_jax._internal.validate import shown
from ttt_jax.verdict.agreement import NOTICED
from ttt_jax.verdict.comparison import FLOAT32_ROUNDING

if TYPE_CHECKING:
    from ttt_jax.verdict.outcome import Check, CheckRow


def check_table(check: Check) -> str:
    """The rows of a check as aligned text columns, and below them the verdict."""
    last = {"==": "rel. error", "iff": "better"}.get(check.relation, "margin")
    named = [name for name in (check.rows[0].parameters if check.rows else ()) if name not in ("n", "k", "d")]
    sizes = [name for name in ("n", "k", "d") if name != check.along]
    table = [(*named, *sizes, "claimed", "exact", last, "simulated", "z")]
    for row in check.rows:
        exact = simulated = ("-", "-")
        if row.is_known:
            exact = f"{row.exact:.6g}", _last(row, check.relation)
        if not math.isnan(row.estimate):
            mark = {True: "", False: "*", None: "?"}[row.stderr_reliable]
            simulated = f"{row.estimate:.5g}({row.stderr:.1g})", f"{row.z:.2f}{mark}"
        elif row.stderr_reliable is False:
            simulated = "not finite", "-"
        claimed = {-1: "first", 1: "second"}[row.side] if check.relation == "iff" else f"{row.claimed:.6g}"
        own = [f"{v:.6g}" if isinstance(v := row.parameters[name], float) else shown(v, str) for name in named]
        table.append((*own, *(str(getattr(row, size)) for size in sizes), claimed, *exact, *simulated))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in table]
    unseen = "open" if check.relation == "iff" else "not compared"
    words = {True: "agrees", False: "DISAGREES", None: unseen if check.resolved else "not resolved"}
    known = sum(row.is_known for row in check.rows)
    where = f" in {known} of {len(check.rows)} rows" * (0 < known < len(check.rows) and math.isnan(check.resolution))
    lines.append(f"exact: {words[check.exact_ok]}{where}{_exact_detail(check)}")
    words[None] = unseen
    lines.append(f"simulation: {words[check.empirical_ok]}{_empirical_detail(check)}")
    if check.verdict == "open" and not check.complete:
        lines.append("open: not every row was compared with something")
    flags = [row.stderr_reliable for row in check.rows if not math.isnan(row.estimate)]
    if False in flags:
        lines.append("* not judged: too few tasks for the tails of the risk")
    if None in flags:
        lines.append("? the reliability of the standard error is not assessed")
    return "\n".join(lines)


def _last(row: CheckRow, relation: str) -> str:
    """Of an equality the relative error, of a sign the better one, of a bound by how much it holds."""
    if relation == "iff":
        return "first" if row.exact < 0 else "second" if row.exact > 0 else "equal"
    if relation == "==":
        return f"{row.relative_error:.1e}"
    if math.isinf(row.exact):
        return "-"
    return f"{-row.beyond(row.exact) / abs(row.exact):+.1e}" if row.exact else f"{-row.beyond(row.exact):+.1e} abs."


def _exact_detail(check: Check) -> str:
    if check.relation == "iff":
        return _sides(check, check.exact_ok, simulated=False)
    if without := sum(math.isinf(row.exact) for row in check.rows):
        where = f"in {without} of {counted(len(check.rows), 'row')}"
        return f" (the risks do not cross near the claimed {check.along}, {where})"
    if check.resolution == math.inf:
        return " (the sizes do not show how the error falls; larger d, or a rate if none is given, would tell more)"
    if not math.isnan(check.resolution):
        falls = "is" if math.isnan(check.rate) else f"falls like d^{check.rate:.2f} to"
        hint = "" if check.resolved else f"; larger d, or a rate if none is given, would tell {NOTICED:.0%} from 0"
        limit = f"{_percent(check.limit, '+')} +- {_percent(check.resolution)}"
        return f" (error {falls} {limit} at d = infinity{hint})"
    if check.exact_ok is not None and check.relation != "==" and all(map(math.isfinite, check.margins)):
        least, most = map(_percent, check.margins)
        holds = f"holds by {least}{f' to {most}' * (most != least)}"
        if not check.exact_ok:
            holds = f"is broken by up to {least.removeprefix('-')}"
        return f" (the bound {holds} of the value)"
    if check.exact_ok is False and all(row.relative_error < FLOAT32_ROUNDING for row in check.rows if row.is_known):
        return " (by no more than the rounding of float32: is the claim evaluated in float64?)"
    return ""


def _empirical_detail(check: Check) -> str:
    if not any(row.stderr > 0 for row in check.rows):
        return ""
    if check.relation == "iff":
        return _sides(check, check.empirical_ok, simulated=True)
    if check.empirical_ok is None:
        return ""
    if check.relation != "==":
        return f" (critical z {check.critical:.2f}, would notice a bound broken by {check.detectable:.1%})"
    limit = "" if math.isnan(check.limit_z) else f", z at d = infinity {check.limit_z:.2f}"
    return f" (critical |z| {check.critical:.2f}{limit}, would notice a relative error of {check.detectable:.1%})"


def _sides(check: Check, ok: bool | None, *, simulated: bool) -> str:
    """What was seen of a claim about signs."""
    if not simulated and not any(row.is_known for row in check.rows):
        return ""
    first, second = check.on_the_right_side(simulated)
    seen = f"as claimed, the first is seen to be better in {first}, the second in {second} of {len(check.rows)} rows"
    one_side = len({row.side for row in check.rows}) < 2
    hint = "" if ok is not None else ": one side was not tried" if one_side else ": a side is not resolved"
    return f" ({seen}{hint})"


def _percent(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}{'.2g' if abs(share) < 0.995 else '.0f'}}%"
