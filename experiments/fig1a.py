"""Figure 1a: risk after one TTT step from the pretrained weights against the context length, for three values of k/d.

Isotropic and noiseless, task b = (1, ..., 1). n is fixed and d varies, so that n/d runs from 0.1 to 4; k/d = 1, 2, 100.
The step size is Theorem 4.2's simplified one, as in the paper. Solid: the exact risk at that step size. Dashed: Theorem
4.2 before simplification at its own optimum, which is what the paper draws. Crosses (preset paper): read off its lines.
Thin grey: least squares on the n + k training pairs.
Risks are in units of |b|^2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from experiments.figure import Point, Result, least_squares_line, markers, run_cells
from ttt_jax import Pretraining, Problem, exact_risk, pretrained_weights
from ttt_jax.plotting import Series, draw
from ttt_jax.theory.paper import theorem_4_2

RATIOS = (0.1, 0.2, 1 / 3, 0.5, 2 / 3, 0.8, 1.0, 4 / 3, 2.0, 3.0, 4.0)  # n/d
K_OVER_D = (1, 2, 100)
DRAWN = {1: [(1.0, 0.439), (4.0, 0.198)], 2: [(1.0, 0.418)], 100: [(0.1, 0.192), (1.0, 0.378)]}
PRESETS: dict[str, dict[str, Any]] = {"quick": {"n": 24, "normals": 2e8}, "paper": {"n": 300, "normals": 1e10}}


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    n, normals = PRESETS[preset]["n"], PRESETS[preset]["normals"]
    drawn = {g: DRAWN[g] if preset == "paper" else [] for g in K_OVER_D}
    cells = [replace(cell(n, round(n / a), g), drawn=dict(drawn[g]).get(a)) for g in K_OVER_D for a in RATIOS]
    rows = run_cells(cells, normals=normals, seed=seed, title="fig1a")
    series, curves = [], {}
    for g in K_OVER_D:
        lines = [cell(n, d, g) for d in sorted({round(n / a) for a in np.geomspace(0.1, 4, 24)}, reverse=True)]
        exact = [exact_risk(c.problem, c.weights).at(c.lr) / c.problem.d for c in lines]
        paper = np.array([c.approximate for c in lines], float)
        name = f"k/d = {g}"
        curves[name] = exact
        series.append(Series(name, [c.x for c in lines], exact, paper, **markers(rows, name), drawn=drawn[g]))
    figure = draw(
        series,
        x_label="context length n / d",
        y_label="risk after one TTT step / |b|²",
        title=f"TTT from pretrained weights, isotropic, noiseless, n = {n}",
        approximate_label="Theorem 4.2 (unsimplified)",
    )
    yardstick = least_squares_line(figure, [c.x for c in lines], [c.problem for c in lines], curves)
    note = (
        "approximate: Theorem 4.2 before simplification at its own best step; exact, estimate: at its simplified step"
    )
    return Result("fig1a", rows, figure, [note, yardstick])


def cell(n: int, d: int, g: int) -> Point:
    """The cell at context length n, dimension d and k = g d."""
    k = g * d
    weights = pretrained_weights(Pretraining(n=n, d=d), dense=False)
    paper = theorem_4_2(n, k, d, task_norm2=d, simplified=False).optimal / d
    lr = theorem_4_2(n, k, d, task_norm2=d).optimal_lr
    return Point(f"k/d = {g}", n / d, Problem(n, k, np.ones(d)), weights, lr, paper)
