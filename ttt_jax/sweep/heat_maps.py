"""Heat maps of a sweep over two sizes: what a step gains, which start is best, how often it hurts, and |z|."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float

from ttt_jax.plotting import HeatMap, draw_heat_maps
from ttt_jax.problem import NotApplicable
from ttt_jax.procedures import with_lr
from ttt_jax.sweep.axes import LABELS, setting, varying_columns
from ttt_jax.sweep.spec import Spec
from ttt_jax.theory.prompt_law import known_law
from ttt_jax.verdict.agreement import critical_z

FEWEST = 3
"""Values that an axis of a heat map has at least."""
LOWEST_GAIN = -1.0
"""Where a risk more than doubles, the scale ends: a step that is too large multiplies it by any number."""


def heat_maps(spec: Spec, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Titles and figures, one per combination of the other axes; none unless two numeric axes have three values."""
    columns = varying_columns(spec)
    values: dict[str, list[Any]] = {name: list(dict.fromkeys(row.get(name) for row in rows)) for name in columns}
    sizes = [
        name
        for name in columns
        if len(values[name]) >= FEWEST and all(isinstance(value, int | float) for value in values[name])
    ]
    if len(sizes) < 2:
        return
    y, x = sorted(sorted(sizes, key=lambda name: -len(values[name]))[:2], key=columns.index)
    others = [name for name in columns if name not in (x, y)]
    cells = {tuple(row.get(name) for name in columns): row for row in rows}

    def table(fixed: dict[str, Any], value: Callable[[dict[str, Any]], float | None]) -> Float[np.ndarray, "Y X"]:
        found = np.full((len(ys), len(xs)), math.nan)
        for i, j in np.ndindex(found.shape):
            here = fixed | {y: ys[i], x: xs[j]}
            if (row := cells.get(tuple(here[name] for name in columns))) is not None:
                found[i, j] = math.nan if (number := value(row)) is None else number
        return found

    ys, xs = sorted(values[y]), sorted(values[x])
    for combination in product(*(values[name] for name in others)):
        fixed = dict(zip(others, combination, strict=True))
        gains = table(fixed, _gain)
        lowest = LOWEST_GAIN if (gains < LOWEST_GAIN).any() else None
        maps = [
            HeatMap("share of the risk that the step takes away", gains, (lowest, None)),
            HeatMap("probability that the step hurts", table(fixed, lambda row: _prob_hurt(spec, row))),
            HeatMap("|z| of the simulation, where it is judged", table(fixed, _z), (0.0, _bound(rows))),
        ]
        starts = values.get("init", [])
        if len(starts) > 1 and fixed["init"] == starts[0]:
            risks = np.stack([table(fixed | {"init": start}, lambda row: row["exact"]) for start in starts])
            best = np.where(np.isnan(risks).any(0), math.nan, np.argmin(risks, axis=0))
            maps.append(HeatMap("start of the smallest risk", best, words=tuple(map(str, starts))))
        maps = [one for one in maps if not np.isnan(one.values).all()]
        if maps:
            title = setting(others, combination)
            labels = LABELS.get(x, x), LABELS.get(y, y)
            yield title or "heat maps", draw_heat_maps(maps, xs, ys, *labels, title=title)


def _gain(row: dict[str, Any]) -> float | None:
    if row["exact"] is None or not row["initial"]:
        return None
    return 1 - row["exact"] / row["initial"]


def _z(row: dict[str, Any]) -> float | None:
    return abs(row["z"]) if row["z"] is not None and row["stderr_reliable"] is not False else None


def _bound(rows: Sequence[dict[str, Any]]) -> float:
    return critical_z(0.99, max(sum(_z(row) is not None for row in rows), 1))


def _prob_hurt(spec: Spec, row: dict[str, Any]) -> float | None:
    """Where there is a closed form."""
    if row["lr"] is None:
        return None
    cell = spec.cells[row["cell"]]
    problem, weights = cell.problem()
    try:
        return known_law(with_lr(cell.what(), row["lr"]), problem, weights).prob_hurt
    except (NotApplicable, ValueError):
        return None
