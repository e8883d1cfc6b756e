"""Figure 2a: aligned and misaligned pretraining against the cold start as the TTT training set grows.

Two halves of coordinates, n/d = 1/2, noiseless, k up to 4 n. The task is b = (1, ..., .5, ...); pretraining tasks have
variances (1, .5) on the halves (aligned) or (.5, 1) (misaligned). Each start takes its exact best step. Solid: exact.
Dashed: Theorem 5.3 (warm) and Theorem 4.5 (cold, where it is exact). Crosses (preset paper): read off its figure.
The paper's caption gives a covariance of 500 entries for d = 600; its curves fit n/d = 1/2 and equal halves, which is
taken here. Thin grey: least squares on the n + k training pairs. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, least_squares_line
from experiments.starts import compare_starts, crossing, lengths, paper_start
from ttt_jax import Problem, make_shift, pretrained_weights
from ttt_jax.plotting import draw
from ttt_jax.theory.paper import corollary_5_4_switch

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "num_points": 8, "normals": 1e8},
    "paper": {"n": 300, "d": 600, "num_points": 40, "normals": 1e9},
}
SHIFTS = {"aligned": "aligned", "misaligned": "reversed"}
DRAWN_INITIAL = {"aligned": 0.62, "misaligned": 0.74}
DRAWN_CROSSING = {"aligned": 1.04, "misaligned": 0.68}


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    n, d, num_points, normals = (PRESETS[preset][name] for name in ("n", "d", "num_points", "normals"))
    drawn = {"cold": 1.0, **DRAWN_INITIAL} if preset == "paper" else {}
    starts = {"cold": paper_start(np.zeros(()), drawn.get("cold"))}
    for name, shift in SHIFTS.items():
        weights = pretrained_weights(make_shift(shift, n=n, k=1, d=d)[0], dense=False)
        starts[name] = paper_start(weights, drawn.get(name))

    def problem(k: int) -> Problem:
        return make_shift("aligned", n=n, k=k, d=d)[1]

    rows, series, exact = compare_starts(
        starts, problem, 4 * n, num_points=num_points, normals=normals, seed=seed, title="fig2a"
    )
    figure = draw(
        series,
        x_label="TTT training queries k / d",
        y_label="risk after one optimal TTT step / |b|²",
        title=f"Aligned and misaligned pretraining against cold start, noiseless, n = {n}, d = {d}",
        approximate_label="Theorems 5.3 and 4.5",
    )
    ks = lengths(4 * n)
    x = np.array(ks) / d
    notes = [
        f"cold start overtakes {name} at k/d = {crossing(x, exact['cold'], exact[name]):.3f} (exact), "
        f"{corollary_5_4_switch(problem(1), starts[name].weights):.3f} (Corollary 5.4), "
        f"{DRAWN_CROSSING[name]} (drawn in the paper); at k = 0: {exact[name][0]:.4f} (exact), "
        f"{DRAWN_INITIAL[name]} (drawn)"
        for name in SHIFTS
    ]
    notes.append(least_squares_line(figure, x.tolist(), [problem(max(k, 1)) for k in ks], exact))
    return Result("fig2a", rows, figure, notes)
