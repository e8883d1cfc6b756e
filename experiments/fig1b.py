"""Figure 1b: warm start (pretrained W*) against cold start (W = 0) as the TTT training set grows.

Isotropic and noiseless, task b = (1, ..., 1), n/d = 1/2, k/d up to 2, each at its exact optimal step size. Solid: the
exact risk. Dashed: Theorem 4.2 before simplification (warm) and Theorem 4.5 (cold, where it is exact). Where the
starts cross is printed for the exact curves, for the drawn ones and for Corollary 4.6. Crosses (preset paper): read off
the paper's figure. Thin grey: least squares on the n + k training pairs. Risks are in units of |b|^2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from experiments.figure import Point, Result, least_squares_line, markers, run_cells
from experiments.starts import crossing
from ttt_jax import Pretraining, Problem, exact_risk, pretrained_weights
from ttt_jax.plotting import Series, draw
from ttt_jax.theory.paper import corollary_4_6_switch, theorem_4_2, theorem_4_5

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "num_points": 10, "normals": 1e8},
    "paper": {"n": 200, "d": 400, "num_points": 40, "normals": 1e9},
}
DRAWN = {"warm": [(2.0, 0.473)], "cold": [(2.0, 0.353)]}
STARTS = {"warm": "pretrained W*", "cold": "W = 0"}


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    n, d, num_points, normals = (PRESETS[preset][name] for name in ("n", "d", "num_points", "normals"))
    ks = [round(k) for k in np.linspace(0, 2 * d, num_points + 1)[1:]]
    points = {s: DRAWN[s] if preset == "paper" else [] for s in STARTS}
    cells = [replace(cell(n, k, d, s), drawn=dict(points[s]).get(k / d)) for s in STARTS for k in ks]
    rows = run_cells(cells, normals=normals, seed=seed, title="fig1b")
    lines = {start: [cell(n, k, d, start) for k in range(1, 2 * d + 1)] for start in STARTS}
    exact = {s: np.array([exact_risk(c.problem, c.weights).optimal / d for c in cells]) for s, cells in lines.items()}
    drawn = {s: np.array([c.approximate for c in cells]) for s, cells in lines.items()}
    x = np.array([c.x for c in lines["warm"]])
    figure = draw(
        [
            Series(f"{s} start, {w}", x, exact[s], drawn[s], **markers(rows, s), drawn=points[s])
            for s, w in STARTS.items()
        ],
        x_label="TTT training queries k / d",
        y_label="risk after one optimal TTT step / |b|²",
        title=f"Warm against cold start, isotropic, noiseless, n = {n}, d = {d}",
        approximate_label="Theorems 4.2 (unsimplified) and 4.5",
    )
    note = (
        f"the starts cross at k/d = {crossing(x, exact['cold'], exact['warm']):.3f} (exact), "
        f"{crossing(x, drawn['cold'], drawn['warm']):.3f} (as the paper draws), "
        f"{corollary_4_6_switch(n / d):.3f} (Corollary 4.6)"
    )
    yardstick = least_squares_line(figure, x.tolist(), [c.problem for c in lines["warm"]], exact)
    return Result("fig1b", rows, figure, [note, yardstick])


def cell(n: int, k: int, d: int, start: str) -> Point:
    """The cell at k training queries, for the warm or the cold start."""
    problem = Problem(n, k, np.ones(d))
    if start == "warm":
        weights = pretrained_weights(Pretraining(n=n, d=d), dense=False)
        paper = theorem_4_2(n, k, d, task_norm2=d, simplified=False)
    else:
        weights, paper = np.zeros(()), theorem_4_5(n, k, d, task_norm2=d)
    return Point(start, k / d, problem, weights, exact_risk(problem, weights).optimal_lr, paper.optimal / d)
