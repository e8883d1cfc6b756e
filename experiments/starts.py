"""Figures with the risk after one best step from several starts W against the number of training queries k."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments import paper
from experiments.figure import Point, least_squares, look_of, markers, run_cells
from ttt_jax import Problem, RiskCurve, exact_risk, make_shift, pretrained_weights
from ttt_jax.plotting import Series
from ttt_jax.theory.paper import theorem_5_3


@dataclass(frozen=True, eq=False)
class Start:
    """One curve.

    Args:
        weights: W before the step.
        approximate: what an approximation says of the step from there.
        evaluation: "fresh" or "same" context at inference.
    """

    weights: Any
    approximate: Callable[[Problem], RiskCurve]
    evaluation: str = "fresh"


@dataclass(frozen=True, eq=False)
class Starts:
    """One figure.

    Args:
        name: of the experiment.
        starts: its curves, by name.
        problem: the problem at k training queries.
        max_k: the largest k.
        drawn: whether the paper's markers are beside it, which are known at its sizes.
    """

    name: str
    starts: Mapping[str, Start]
    problem: Callable[[int], Problem]
    max_k: int
    drawn: bool = False

    def simulate(self, settings: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
        """The rows at every so many k of the grid, up to its end."""
        cells, every = [], settings["every"]
        for name, start in self.starts.items():
            shown = paper.drawn(self.name, name)[:, 1] if self.drawn else [None] * 40
            for k, value in list(zip(paper_grid(self.max_k), shown, strict=True))[every - 1 :: every]:
                problem = self._problem(start, k)
                lr = exact_risk(problem, start.weights).optimal_lr
                approximate = start.approximate(problem).optimal / _unit(problem)
                cells.append(Point(name, k / problem.d, problem, start.weights, lr, approximate, value))
        effort = {name: settings[name] for name in ("normals", "num_tasks")}
        return run_cells(cells, **effort, seed=seed, title=self.name)

    def risks(self, name: str, ks: Sequence[int]) -> tuple[Float[np.ndarray, " ks"], Float[np.ndarray, " ks"]]:
        """The exact and the approximate risk after the best step, for k = 0 before it, in units of |b|^2."""
        start, found = self.starts[name], []
        for k in ks:
            problem = self._problem(start, max(k, 1))
            curves = exact_risk(problem, start.weights), start.approximate(problem)
            found.append([(curve.optimal if k else curve.initial) / _unit(problem) for curve in curves])
        exact, approximate = np.array(found).T
        return exact, approximate

    @property
    def ks(self) -> list[int]:
        """Values of k from 0 on, for lines."""
        return sorted({*paper_grid(self.max_k), *(round(k) for k in np.linspace(0, self.max_k, 101))})

    @property
    def x(self) -> Float[np.ndarray, " ks"]:
        """Their k/d."""
        return np.array(self.ks) / self.problem(1).d

    def series(self, rows: list[dict[str, Any]]) -> list[Series]:
        """What is drawn."""
        series = []
        for name in self.starts:
            exact, approximate = self.risks(name, self.ks)
            drawn = paper.drawn(self.name, name) if self.drawn else ()
            line = Series(name, self.x, exact, approximate, **markers(rows, name), drawn=drawn, look=look_of(name))
            series.append(line)
        return series

    def distances(self, formula: str) -> list[str]:
        """How far the paper's markers are from the exact curves and from its formula, a line for each start."""
        if not self.drawn:
            return []
        lines = {name: self.risks(name, paper_grid(self.max_k)) for name in self.starts}
        return [
            paper.distance(self.name, name, {"exact": exact, formula: approximate})
            for name, (exact, approximate) in lines.items()
        ]

    def least_squares(self, series: Sequence[Series]) -> tuple[dict[str, Any], str]:
        """Least squares on the n + k training pairs as a reference, and where it is above the exact curves."""
        curves = {one.label: np.asarray(one.exact) for one in series}
        return least_squares(self.x.tolist(), [self.problem(max(k, 1)) for k in self.ks], curves)

    def _problem(self, start: Start, k: int) -> Problem:
        return replace(self.problem(k), evaluation=start.evaluation)


def shifted_starts(shifts: Mapping[str, str], n: int, d: int) -> dict[str, Start]:
    """The cold start, and one pretrained under each shift, by name; with Theorem 5.3."""
    weights: dict[str, Any] = {"cold": np.zeros(())}
    weights |= {name: pretrained_weights(make_shift(s, n=n, k=1, d=d)[0], dense=False) for name, s in shifts.items()}
    return {name: Start(w, partial(theorem_5_3, weights=w)) for name, w in weights.items()}


def paper_grid(max_k: int) -> list[int]:
    """The values of k at which the paper has a marker, 40 from 0 to max_k, rounded down.

    Example:
        >>> paper_grid(800)[:4], paper_grid(800)[-1]
        ([0, 20, 41, 61], 800)
    """
    return np.linspace(0, max_k, 40).astype(int).tolist()


def crossing(x: np.ndarray, falls: np.ndarray, other: np.ndarray) -> float:
    """Where the first curve falls below the other one, by linear interpolation; nan if it never does."""
    gap = falls - other
    below = np.flatnonzero(gap[1:] <= 0)
    if not len(below):
        return float("nan")
    i = int(below[0]) + 1
    return float(x[i - 1] + (x[i] - x[i - 1]) * gap[i - 1] / (gap[i - 1] - gap[i])) if gap[i - 1] > 0 else float(x[i])


def _unit(problem: Problem) -> float:
    return float(problem.task @ problem.task)
