"""Figure 2b: the best and the worst pretraining for a task, against the cold start, as the TTT training set grows.

The task is b = e_1, n/d = 1/2, noiseless, k up to 4 n. Pretraining tasks vary along e_1 only (best) or along all other
axes (worst). Each start takes its exact best step. Solid: exact. Dashed: Theorem 5.3 and Theorem 4.5 (cold, exact).
Crosses (preset paper): read off the paper's figure, of n = 250. Thin grey: least squares on the n + k training pairs.
Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, least_squares_line
from experiments.starts import compare_starts, lengths, paper_start
from ttt_jax import Problem, make_shift, pretrained_weights
from ttt_jax.plotting import draw

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "num_points": 8, "normals": 1e8},
    "paper": {"n": 250, "d": 500, "num_points": 40, "normals": 1e9},
}
SHIFTS = {"best": "low_rank", "worst": "orthogonal"}
DRAWN_INITIAL = {"best": 0.005, "worst": 1.22}


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    n, d, num_points, normals = (PRESETS[preset][name] for name in ("n", "d", "num_points", "normals"))
    drawn = DRAWN_INITIAL if preset == "paper" else {}
    starts = {"cold": paper_start(np.zeros(()))}
    for name, shift in SHIFTS.items():
        weights = pretrained_weights(make_shift(shift, n=n, k=1, d=d)[0], dense=False)
        starts[f"{name} alignment"] = paper_start(weights, drawn.get(name))

    def problem(k: int) -> Problem:
        return make_shift("low_rank", n=n, k=k, d=d)[1]

    rows, series, exact = compare_starts(
        starts, problem, 4 * n, num_points=num_points, normals=normals, seed=seed, title="fig2b"
    )
    figure = draw(
        series,
        x_label="TTT training queries k / d",
        y_label="risk after one optimal TTT step / |b|²",
        title=f"Best and worst alignment against cold start, noiseless, n = {n}, d = {d}",
        approximate_label="Theorems 5.3 and 4.5",
    )
    cold, best, worst = exact.values()
    notes = [
        f"best alignment: {best[0]:.4f} at k = 0, {best[-1]:.4f} at k = 4 n (exact); drawn flat at .005",
        f"worst alignment: {worst[0]:.3f} at k = 0 (exact), 1.22 (drawn); above cold for every k: "
        f"{'yes' if (worst[1:] > cold[1:]).all() else 'no'}",
    ]
    ks = lengths(4 * n)
    notes.append(least_squares_line(figure, [k / d for k in ks], [problem(max(k, 1)) for k in ks], exact))
    return Result("fig2b", rows, figure, notes)
