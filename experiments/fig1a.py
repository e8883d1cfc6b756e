"""Figure 1a: risk after one TTT step from the pretrained weights against the context length, for three values of k/d.

Isotropic and noiseless, task b = (1, ..., 1). n is fixed and d varies, so that n/d runs from 0.1 to 4; k/d = 1, 2, 100.
Two step sizes are compared. Solid and markers: the exact and the simulated risk at the simplified step size of Theorem
4.2, which the paper takes. Dashed: Theorem 4.2 before simplification at its own best step size, as the paper draws it.
Dotted: least squares on the n + k training pairs. Preset paper: its own markers, and how far they are from the
lines. A cell of more random numbers than the preset allows is simulated from the law of the summaries, with more tasks;
the column "sampler" tells. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import paper
from experiments.figure import BLUES, Point, Result, least_squares, markers, run_cells
from ttt_jax import Pretraining, Problem, exact_risk, plotting, pretrained_weights
from ttt_jax.plotting import Series
from ttt_jax.theory.paper import theorem_4_2

RATIOS = (0.1, 0.2, 1 / 3, 0.5, 2 / 3, 0.8, 1.0, 4 / 3, 2.0, 3.0, 4.0)  # n/d
TICKS = (0.1, 0.2, 0.5, 1, 2, 4)
K_OVER_D = (1, 2, 100)
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 24, "normals": 2e8, "num_tasks": 20_000},
    "paper": {"n": 300, "normals": 2e9, "num_tasks": 1000},
}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    n, normals, num_tasks = PRESETS[preset].values()
    drawn = {g: paper.drawn("fig1a", f"k/d = {g}")[:, 1] if preset == "paper" else [None] * 11 for g in K_OVER_D}
    cells = [cell(n, round(n / a), g, value) for g in K_OVER_D for a, value in zip(RATIOS, drawn[g], strict=False)]
    return run_cells(cells, normals=normals, num_tasks=num_tasks, seed=seed, title="fig1a")


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    n = PRESETS[preset]["n"]
    sizes = sorted({round(n / a) for a in (*RATIOS, *np.geomspace(0.1, 4, 60))}, reverse=True)
    series, curves, distances = [], {}, []
    for g, look in zip(K_OVER_D, BLUES[1:], strict=False):
        name, (exact, approximate) = f"k/d = {g}", risks(n, sizes, g)
        curves[name] = exact
        drawn = paper.drawn("fig1a", name) if preset == "paper" else ()
        x = [n / d for d in sizes]
        series.append(Series(name, x, exact, approximate, **markers(rows, name), drawn=drawn, look=look))
        if preset == "paper":
            at_markers = zip(("exact", "the dashed line"), risks(n, [round(n / a) for a in RATIOS], g), strict=True)
            distances.append(paper.distance("fig1a", name, dict(at_markers)))
    references, yardstick = least_squares(x, [cell(n, d, g).problem for d in sizes], curves)
    figure = plotting.draw(
        series,
        differences=True,
        references=references,
        x_label="context length n / d",
        y_label="risk after the step / |b|²",
        title=f"One step from W*, isotropic, noiseless, n = {n}",
        approximate_label="Theorem 4.2, its own best step",
    )
    figure.axes[-1].set_xscale("log")
    figure.axes[-1].set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    figure.axes[-1].minorticks_off()
    note = (
        "approximate: Theorem 4.2 before simplification at its own best step; exact, estimate: at its simplified step"
    )
    return Result("fig1a", rows, figure, [note, *distances, yardstick])


def risks(n: int, sizes: list[int], g: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact risk and Theorem 4.2, for every d."""
    cells = [cell(n, d, g) for d in sizes]
    exact = [exact_risk(c.problem, c.weights).at(c.lr) / c.problem.d for c in cells]
    return np.array(exact), np.array([c.approximate for c in cells], float)


def cell(n: int, d: int, g: int, drawn: float | None = None) -> Point:
    """The cell at context length n, dimension d and k = g d."""
    k = g * d
    weights = pretrained_weights(Pretraining(n=n, d=d), dense=False)
    formula = theorem_4_2(n, k, d, task_norm2=d, simplified=False).optimal / d
    lr = theorem_4_2(n, k, d, task_norm2=d).optimal_lr
    return Point(f"k/d = {g}", n / d, Problem(n, k, np.ones(d)), weights, lr, formula, drawn)
