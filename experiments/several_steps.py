"""Several TTT steps on one batch and context: exact and to leading order, against simulation.

Isotropic, noiseless, n = d, k = 2 d, five steps with theta_j = .4 * .7^(j-1) / (1 + g), lr_j = theta_j / (2 d |u|^2),
g = k/d, |u|^2 = n^2 B + n d B; from the pretrained W* and from 0, with a new context at evaluation and with the same.
"Best": T steps of the sizes that are best for T steps, as n, k, d grow without bound, where they leave
1/(1 + g + ... + g^T) with the same context, and at this size. At finite size the largest of the first ones overshoots
where |u|^2 is above its mean. Solid: exact. Dashed: integrals over Marchenko and Pastur's law, the leading order, with
an error of order 1/d. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, markers, path_rows
from ttt_jax import GradientSteps, Problem, compare
from ttt_jax.plotting import Series, draw
from ttt_jax.theory.schedules import one_batch
from ttt_jax.theory.several_steps import best_step_sizes, best_steps_risk, one_batch_risk

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 160, "num_tasks": 3000},
    "paper": {"d": 400, "num_tasks": 8000},
}
STEPS, BEST_STEPS, RATIO = 5, 3, 2


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    d, num_tasks = PRESETS[preset]["d"], PRESETS[preset]["num_tasks"]
    rows: list[dict[str, Any]] = []
    series = []
    for i, (evaluation, start) in enumerate((e, s) for e in ("fresh", "same") for s in ("warm", "cold")):
        name, problem, w = f"{start}, {evaluation} context", problem_of(d, evaluation), weights_of(d, start)
        sizes = decaying_sizes(problem)
        rows += rows_of(name, problem, w, sizes, num_tasks, seed + i)
        exact, leading = one_batch(problem, w, STEPS).risks(sizes), one_batch_risk(problem, w, sizes)
        series.append(Series(name, range(STEPS + 1), exact, leading, **markers(rows, name)))
    problem = problem_of(d, "same")
    schedules, counts = one_batch(problem, 0.0, STEPS), range(1, STEPS + 1)
    limit = [best_steps_risk(problem, 0.0, steps) for steps in counts]
    best = {
        "in the limit": ([best_step_sizes(problem, steps) for steps in counts], limit),
        "at this size": ([schedules.best_step_sizes(steps) for steps in counts], None),
    }
    for where, (schedule, known) in best.items():
        name = f"cold, same context, best {where}"
        for sizes in schedule[:BEST_STEPS]:
            *_, last = rows_of(name, problem, 0.0, sizes, num_tasks, seed + 3 + len(rows))
            rows.append(last | {"stderr_reliable": False})  # not judged, for its tails
        line = [schedules.risks(sizes)[-1] for sizes in schedule]
        series.append(Series(name, counts, line, known, **markers(rows, name)))
    figure = draw(
        series,
        x_label="TTT step, one batch and context for all",
        y_label="risk / |b|²",
        title=f"Several steps on one batch, isotropic, noiseless, n = d = {d}, k = {RATIO} d",
        approximate_label="leading order (Marchenko-Pastur)",
    )
    note = "best: three steps at most are simulated; their risks have heavy tails where one step overshoots"
    return Result("several_steps", rows, figure, [note])


def rows_of(
    name: str, problem: Problem, weights: float, step_sizes: np.ndarray, num_tasks: int, seed: int
) -> list[dict[str, Any]]:
    """The simulated risk after each step beside the theory."""
    found = compare(problem, weights, GradientSteps(step_sizes), num_tasks=num_tasks, seed=seed, progress=True)
    return path_rows(name, found, problem)


def problem_of(d: int, evaluation: str) -> Problem:
    """The problem at size d."""
    return Problem(d, RATIO * d, np.ones(d) / np.sqrt(d), evaluation=evaluation)


def weights_of(d: int, start: str) -> float:
    """The start at size d."""
    return 1 / (2 * d + 1) if start == "warm" else 0.0


def decaying_sizes(problem: Problem) -> np.ndarray:
    """The step sizes that do not depend on what is best."""
    return 0.4 * 0.7 ** np.arange(STEPS) / (1 + RATIO) / (4 * problem.d**3)
