"""Figures with the risk after one best step from several starts W against the number of training queries k."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.figure import Point, markers, run_cells
from ttt_jax import Problem, exact_risk
from ttt_jax.plotting import Series
from ttt_jax.theory.paper import theorem_4_5, theorem_5_3


@dataclass(frozen=True, eq=False)
class Start:
    """One curve.

    Args:
        weights: W before the step.
        approximate: the approximate risk of the best step from there, None for none.
        evaluation: "fresh" or "same" context at inference.
        drawn: points (k/d, risk / |b|^2) read off the paper's figure.
    """

    weights: Any
    approximate: Callable[[Problem], float] | None = None
    evaluation: str = "fresh"
    drawn: Sequence[tuple[float, float]] = ()


def paper_start(weights: Any, drawn_initial: float | None = None) -> Start:
    """A start with the paper's Theorem 5.3, for W = 0 its Theorem 4.5, beside it, and what it draws at k = 0."""
    drawn = () if drawn_initial is None else [(0.0, drawn_initial)]
    if np.any(weights):
        return Start(weights, lambda problem: theorem_5_3(problem, weights).optimal, drawn=drawn)
    return Start(weights, lambda p: theorem_4_5(p.n, p.k, p.d, float(p.task @ p.task)).optimal, drawn=drawn)


def compare_starts(
    starts: Mapping[str, Start],
    problem: Callable[[int], Problem],
    max_k: int,
    *,
    num_points: int,
    normals: float,
    seed: int,
    title: str,
) -> tuple[list[dict[str, Any]], list[Series], dict[str, np.ndarray]]:
    """Rows of simulated cells at k = 0 and num_points values up to max_k, the series to draw, and the exact curves.

    The curves are at `lengths(max_k)`, the first of them k = 0. There is no step there; a problem has k >= 1, and lr 0.
    """

    def cell(name: str, k: int) -> Point:
        start = starts[name]
        one = replace(problem(max(k, 1)), evaluation=start.evaluation)
        lr = exact_risk(one, start.weights).optimal_lr if k else 0.0
        approximate = start.approximate(one) / float(one.task @ one.task) if start.approximate and k else None
        drawn = dict(start.drawn).get(k / one.d)
        return Point(name, k / one.d, one, start.weights, lr, approximate, drawn)

    points = [round(k) for k in np.linspace(0, max_k, num_points + 1)]
    rows = run_cells([cell(name, k) for name in starts for k in points], normals=normals, seed=seed, title=title)
    series, exact = [], {}
    for name, start in starts.items():
        cells = [cell(name, k) for k in lengths(max_k)[1:]]
        curves = [exact_risk(c.problem, c.weights) for c in cells]
        unit = float(cells[0].problem.task @ cells[0].problem.task)
        exact[name] = np.array([curves[0].initial, *(curve.optimal for curve in curves)]) / unit
        x = [0.0, *(c.x for c in cells)]
        approximate = [np.nan, *(np.nan if c.approximate is None else c.approximate for c in cells)]
        series.append(
            Series(
                name,
                x,
                exact[name],
                approximate if start.approximate else None,
                **markers(rows, name),
                drawn=start.drawn,
            )
        )
    return rows, series, exact


def lengths(max_k: int) -> list[int]:
    """About a hundred values of k from 0 to max_k, for lines."""
    return sorted({round(k) for k in np.linspace(0, max_k, 101)})


def crossing(x: np.ndarray, falls: np.ndarray, other: np.ndarray) -> float:
    """Where the first curve falls below the other one, by linear interpolation; nan if it never does."""
    gap = falls - other
    below = np.flatnonzero(gap[1:] <= 0)
    if not len(below):
        return float("nan")
    i = int(below[0]) + 1
    return float(x[i - 1] + (x[i] - x[i - 1]) * gap[i - 1] / (gap[i - 1] - gap[i])) if gap[i - 1] > 0 else float(x[i])
