"""Figure 1b: warm start (pretrained W*) against cold start (W = 0) as the TTT training set grows.

Isotropic and noiseless, task b = (1, ..., 1), n/d = 1/2, k/d up to 2, each at its exact optimal step size. Solid: the
exact risk. Dashed: Theorem 4.2 before simplification (warm) and Theorem 4.5 (cold, where it is exact). Where the
starts cross is printed for the exact curves, for the dashed ones and for Corollary 4.6. Dotted: least squares on the
n + k training pairs. Preset paper: its own markers, and how far they are from the lines. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result
from experiments.starts import Start, Starts, crossing
from ttt_jax import Pretraining, Problem, plotting, pretrained_weights
from ttt_jax.theory.paper import corollary_4_6_switch, theorem_4_2, theorem_4_5

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "every": 4, "normals": 1e8, "num_tasks": 20_000},
    "paper": {"n": 200, "d": 400, "every": 4, "normals": 5e9, "num_tasks": 1500},
}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    return figure_of(preset).simulate(PRESETS[preset], seed)


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    n, d, figure = PRESETS[preset]["n"], PRESETS[preset]["d"], figure_of(preset)
    series = figure.series(rows)
    references, yardstick = figure.least_squares(series)
    picture = plotting.draw(
        series,
        x_label="TTT training queries k / d",
        y_label="risk after the step / |b|²",
        title=f"One best step, isotropic, noiseless, n = {n}, d = {d}",
        differences=True,
        references=references,
        approximate_label="Theorems 4.2 and 4.5",
    )
    warm, cold = figure.risks("warm", figure.ks), figure.risks("cold", figure.ks)
    exact, dashed = (crossing(figure.x, c, w) for c, w in zip(cold, warm, strict=True))
    switches = f"{exact:.3f} (exact), {dashed:.3f} (dashed), {corollary_4_6_switch(n / d):.3f} (Corollary 4.6)"
    notes = [
        f"the starts cross at k/d = {switches}",
        *figure.distances("the dashed line"),
        yardstick,
    ]
    return Result("fig1b", rows, picture, notes)


def figure_of(preset: str) -> Starts:
    """The starts at the sizes of the preset."""
    n, d = PRESETS[preset]["n"], PRESETS[preset]["d"]
    pretrained = pretrained_weights(Pretraining(n=n, d=d), dense=False)
    starts = {
        "warm": Start(pretrained, lambda p: theorem_4_2(p.n, p.k, d, d, simplified=False)),
        "cold": Start(np.zeros(()), lambda p: theorem_4_5(p.n, p.k, d, d)),
    }
    return Starts("fig1b", starts, lambda k: Problem(n, k, np.ones(d)), 2 * d, drawn=preset == "paper")
