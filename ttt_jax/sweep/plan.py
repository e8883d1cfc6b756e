"""How long a sweep will take, before it is run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from ttt_jax.simulation.accumulate import Tally
from ttt_jax.simulation.worklist import tallies
from ttt_jax.sweep.spec import Cell, Spec
from ttt_jax.verdict.comparison import resolved, theory

SECONDS = 0.5
"""For how long tasks are tried."""


def estimated_seconds(spec: Spec, cells: Sequence[Cell]) -> float:
    """From a cell of median size: its theory, and how fast its tasks are once they are compiled, by size.

    A size is that of the random numbers of a task, rows of features, or one row from the law. Right to a factor of two
    where the cells are of one kind; compilations, of some seconds per kind, come on top. nan if no cell has values.
    """

    def size(cell: Cell) -> int:
        return cell.d * (cell.n + cell.k if cell.sampler == "data" else 1)

    by_size = sorted(cells, key=size)
    middle = len(by_size) // 2
    for cell in by_size[middle:] + by_size[:middle]:
        with suppress(ValueError):  # a cell without values, whose note says why
            own, per_task = _measure(spec, cell)
            return sum(own + spec.num_tasks * per_task * size(other) / size(cell) for other in cells)
    return float("nan")


def _measure(spec: Spec, cell: Cell) -> tuple[float, float]:
    """Seconds of a cell without its tasks, and of a task."""
    for _ in range(2):  # the second time nothing is new
        started = time.perf_counter()
        problem, weights = cell.problem()
        exact, asymptotic, reason = theory(problem, weights, cell.what(), cell.seed)
        procedure = resolved(cell.what(), exact, asymptotic, reason)
        own = time.perf_counter() - started
    if not spec.num_tasks:
        return own, 0.0
    run = spec.run(cell, problem, weights, procedure, None)
    next(tallies([(run, Tally())]))
    tally, seconds, started = Tally(), 0.0, time.perf_counter()
    for found in tallies([(run, tally)]):
        tally, seconds = found[run], time.perf_counter() - started
        if seconds > SECONDS:
            break
    return own, seconds / tally.num_tasks
