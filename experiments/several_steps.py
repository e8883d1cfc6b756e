"""Several TTT steps on one batch and context: the spectral theory of the steps against simulation.

Isotropic, noiseless, n = d, k = 2 d, five steps with theta_j = .9 * .7^(j-1) / (1 + g), lr_j = theta_j / (2 d |u|^2),
g = k/d, |u|^2 = n^2 B + n d B; from the pretrained W* and from 0, with a new context at evaluation and with the same.
Dashed: integrals over Marchenko and Pastur's law, the leading order, with an error of order 1/d. There is no exact
counterpart, so a cell is judged by the simulated values at d and 2 d, extrapolated to d = infinity; the figure shows
2 d. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, markers, trajectory_rows
from ttt_jax import Problem, estimate_trajectory
from ttt_jax.plotting import Series, draw
from ttt_jax.several_steps import best_steps_fraction, one_batch_risk

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"sizes": (40, 80), "num_tasks": 1000},
    "paper": {"sizes": (100, 200), "num_tasks": 4000},
}
STEPS, RATIO, LARGE = 5, 2, 10**6


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    sizes, num_tasks = PRESETS[preset]["sizes"], PRESETS[preset]["num_tasks"]
    rows, series = [], []
    for i, (evaluation, start) in enumerate((e, s) for e in ("fresh", "same") for s in ("warm", "cold")):
        name = f"{start}, {evaluation} context"
        found = [
            estimate_trajectory(
                *cell(d, start), evaluation=evaluation, num_tasks=num_tasks, seed=seed + 2 * i + j, progress=True
            )
            for j, d in enumerate(sizes)
        ]
        problem, _, steps = cell(sizes[1], start)
        theory, limit = (one_batch_risk(*cell(d, start), evaluation) for d in (sizes[1], LARGE))
        value = 2 * found[1].mean - found[0].mean
        stderr = np.hypot(2 * found[1].stderr, found[0].stderr)
        own = trajectory_rows(
            name, problem, steps, found[1], None, theory, evaluation=evaluation, seed=seed + 2 * i + 1
        )
        for j, row in enumerate(own, start=1):
            z = (value[j] - limit[j]) / stderr[j]
            row |= {"limit": limit[j], "limit_estimate": value[j], "z": z, "stderr_reliable": True}
        rows += own
        series.append(Series(name, range(STEPS + 1), None, theory, **markers(rows, name)))
    figure = draw(
        series,
        x_label="TTT step, one batch and context for all",
        y_label="risk / |b|²",
        title=f"Several steps on one batch, isotropic, noiseless, n = d = {sizes[1]}, k = {RATIO} d",
        approximate_label="leading order (Marchenko-Pastur)",
    )
    best = ", ".join(f"{best_steps_fraction(RATIO, steps):.3f}" for steps in range(1, STEPS + 1))
    notes = [
        f"z: the simulated value at d = infinity, extrapolated from d = {sizes[0]} and {sizes[1]}, against the theory",
        f"the best 1, ..., {STEPS} steps of any sizes would leave {best} of the initial risk with the same context",
    ]
    return Result("several_steps", rows, figure, notes)


def cell(d: int, start: str) -> tuple[Problem, float, np.ndarray]:
    """The problem, the weights and the step sizes at size d."""
    weights = 1 / (2 * d + 1) if start == "warm" else 0.0
    steps = 0.9 * 0.7 ** np.arange(STEPS) / (1 + RATIO) / (2 * d * (d**2 + d * d))
    return Problem(d, RATIO * d, np.ones(d) / np.sqrt(d)), weights, steps
