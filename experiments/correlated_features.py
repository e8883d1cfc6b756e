"""Correlated features: Theorem C.4 and the corrected leading order against the exact risk of a plain step, as d grows.

n = d/2, k = 2 d, noiseless, feature variances .25, .5, 1, 2.25 in equal parts, task b = (1, ..., 1), from the weights
pretrained on isotropic tasks (warm) and from 0 (cold), each at its exact best step. Solid: exact. Dashed: the corrected
leading order, whose error falls like 1/d. Dotted: Theorem C.4, which tends to another limit: it is true
of a step preconditioned by Sx^-1. Risks are in units of b'Sx b = |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Point, Result, look_of, markers, run_cells
from ttt_jax import Pretraining, Problem, asymptotic_risk, exact_risk, plotting, pretrained_weights
from ttt_jax.plotting import Series
from ttt_jax.theory.paper import theorem_c4

VARIANCES = 0.25, 0.5, 1.0, 2.25
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"sizes": (16, 32, 64, 128), "normals": 1e8},
    "paper": {"sizes": (16, 32, 64, 128, 256, 512), "normals": 3e9},
}
LINE_SIZES = tuple(2**e for e in range(4, 14))


def cell(d: int, start: str) -> Point:
    """The cell at size d."""
    sx = np.repeat(VARIANCES, d // 4)
    problem = Problem(d // 2, 2 * d, np.ones(d) / np.sqrt(d), sx)
    warm = pretrained_weights(Pretraining(d // 2, sx, d=d), dense=False)
    weights = warm if start == "warm" else np.zeros(d)
    lr = exact_risk(problem, weights).optimal_lr
    return Point(start, d, problem, weights, lr, asymptotic_risk(problem, weights).optimal)


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    cells = [cell(d, start) for start in ("warm", "cold") for d in PRESETS[preset]["sizes"]]
    return run_cells(cells, normals=PRESETS[preset]["normals"], seed=seed, title="correlated_features")


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    series, theorem, notes = [], {}, []
    for start in ("warm", "cold"):
        lines = [cell(d, start) for d in LINE_SIZES]
        exact = np.array([exact_risk(c.problem, c.weights).optimal for c in lines])
        corrected = np.array([c.approximate for c in lines], float)
        paper = np.array([theorem_c4(c.problem, c.weights).optimal for c in lines])
        series.append(Series(start, LINE_SIZES, exact, corrected, **markers(rows, start), look=look_of(start)))
        theorem[f"Theorem C.4, {start}"] = paper
        notes.append(
            f"{start}, d = {LINE_SIZES[-1]}: exact {exact[-1]:.4f}, corrected {corrected[-1]:.4f}, Theorem C.4 "
            f"{paper[-1]:.4f}; error x d of the corrected law: "
            + ", ".join(f"{abs(x - y) * d:.2f}" for x, y, d in zip(corrected, exact, LINE_SIZES, strict=True))
        )
    figure = plotting.draw(
        series,
        x_label="number of features d",
        y_label="risk after the step / b'Sx b",
        title="One best plain step, correlated features, n = d/2, k = 2d",
        approximate_label="corrected leading order",
    )
    axes = figure.axes[0]
    axes.set_xscale("log")
    for (label, paper), colour in zip(theorem.items(), plotting.COLOURS, strict=False):
        axes.plot(LINE_SIZES, paper, color=colour, ls=plotting.DOTS, lw=1.0)
        axes.annotate(
            label, (LINE_SIZES[-1], paper[-1]), (0, -3), textcoords="offset points", ha="right", va="top", fontsize=7
        )
    axes.set_ylim(bottom=min(paper.min() for paper in theorem.values()) - 0.05)
    return Result("correlated_features", rows, figure, notes)
