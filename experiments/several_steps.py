"""Several TTT steps on one batch and context: the spectral theory of the steps against simulation.

Isotropic, noiseless, n = d, k = 2 d, five steps with theta_j = .9 * .7^(j-1) / (1 + g), lr_j = theta_j / (2 d |u|^2),
g = k/d, |u|^2 = n^2 B + n d B; from the pretrained W* and from 0, with a new context at evaluation and with the same.
"Best": T steps of the sizes that are best for T steps, which leave 1/(1 + g + ... + g^T) with the same context. Dashed:
integrals over Marchenko and Pastur's law, the leading order, with an error of order 1/d. There is no exact counterpart,
so a cell is judged by the simulated values at d and 2 d, extrapolated to d = infinity; the figure shows 2 d. The best
steps are not judged: the largest of them overshoots where |u|^2 is above its mean, so they need a far larger d than
this. Risks are in units of |b|^2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from experiments.figure import Result, markers, path_rows
from ttt_jax import GradientSteps, Problem, compare
from ttt_jax.plotting import Series, draw
from ttt_jax.theory.several_steps import best_step_sizes, best_steps_risk, one_batch_risk

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"sizes": (80, 160), "num_tasks": 3000},
    "paper": {"sizes": (200, 400), "num_tasks": 8000},
}
STEPS, BEST_STEPS, RATIO, LARGE = 5, 3, 2, 10**6


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    sizes, num_tasks = PRESETS[preset]["sizes"], PRESETS[preset]["num_tasks"]
    rows, series = [], []
    for i, (evaluation, start) in enumerate((e, s) for e in ("fresh", "same") for s in ("warm", "cold")):
        name = f"{start}, {evaluation} context"
        rows += judged_rows(name, start, evaluation, decaying_sizes, sizes, num_tasks, seed + 2 * i)
        problem = problem_of(sizes[1], evaluation)
        theory = one_batch_risk(problem, weights_of(sizes[1], start), decaying_sizes(problem))
        series.append(Series(name, range(STEPS + 1), None, theory, **markers(rows, name)))
    name = "cold, same context, best"
    for steps in range(1, BEST_STEPS + 1):
        sizes_of = partial(best_step_sizes, steps=steps)
        *_, last = judged_rows(name, "cold", "same", sizes_of, sizes, num_tasks, seed + 8 + 2 * steps)
        rows.append({**last, "z": None, "stderr_reliable": False})
    best = [best_steps_risk(problem_of(sizes[1], "same"), 0.0, steps) for steps in range(1, STEPS + 1)]
    series.append(Series(name, range(1, STEPS + 1), None, best, **markers(rows, name)))
    figure = draw(
        series,
        x_label="TTT step, one batch and context for all",
        y_label="risk / |b|²",
        title=f"Several steps on one batch, isotropic, noiseless, n = d = {sizes[1]}, k = {RATIO} d",
        approximate_label="leading order (Marchenko-Pastur)",
    )
    note = (
        f"z: the simulated value at d = infinity, extrapolated from d = {sizes[0]} and {sizes[1]}, against the theory"
    )
    return Result("several_steps", rows, figure, [note])


def judged_rows(
    name: str,
    start: str,
    evaluation: str,
    step_sizes: Callable[[Problem], np.ndarray],
    sizes: tuple[int, int],
    num_tasks: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The rows of the larger size, with the z-score of the extrapolation to d = infinity."""
    problems = [problem_of(d, evaluation) for d in sizes]
    small, found = (
        compare(
            problem,
            weights_of(problem.d, start),
            GradientSteps(step_sizes(problem)),
            num_tasks=num_tasks,
            seed=seed + j,
            progress=True,
        )
        for j, problem in enumerate(problems)
    )
    large = problem_of(LARGE, evaluation)
    limit = one_batch_risk(large, weights_of(LARGE, start), step_sizes(large))
    assert small.estimate is not None
    assert found.estimate is not None
    value = 2 * found.estimate.mean - small.estimate.mean
    stderr = np.hypot(2 * found.estimate.stderr, small.estimate.stderr)
    rows = path_rows(name, found, problems[1])
    for j, row in enumerate(rows, start=1):
        row |= {"limit": limit[j], "limit_estimate": value[j], "z": (value[j] - limit[j]) / stderr[j]}
    return rows


def problem_of(d: int, evaluation: str) -> Problem:
    """The problem at size d."""
    return Problem(d, RATIO * d, np.ones(d) / np.sqrt(d), evaluation=evaluation)


def weights_of(d: int, start: str) -> float:
    """The start at size d."""
    return 1 / (2 * d + 1) if start == "warm" else 0.0


def decaying_sizes(problem: Problem) -> np.ndarray:
    """The step sizes that do not depend on what is best."""
    return 0.9 * 0.7 ** np.arange(STEPS) / (1 + RATIO) / (4 * problem.d**3)
