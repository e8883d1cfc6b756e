"""Several TTT steps on one batch and context: exact and to leading order, against simulation.

Isotropic, noiseless, n = d, k = 2 d, five steps with theta_j = .4 * .7^(j-1) / (1 + g), lr_j = theta_j / (2 d |u|^2),
g = k/d, |u|^2 = n^2 B + n d B; from the pretrained W* and from 0, with a new context at evaluation and with the same.
"Best": T steps of the sizes that are best for T steps, as n, k, d grow without bound, where they leave
1/(1 + g + ... + g^T) with the same context, and at this size. At finite size the largest of the first ones overshoots
where |u|^2 is above its mean; up to three steps are simulated. Solid: exact. Dashed: integrals over Marchenko and
Pastur's law, the leading order, with an error of order 1/d. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, look_of, markers, path_rows
from ttt_jax import GradientSteps, Problem, compare, plotting
from ttt_jax.plotting import Series
from ttt_jax.theory.schedules import one_batch
from ttt_jax.theory.several_steps import best_step_sizes, best_steps_risk, one_batch_risk

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 160, "num_tasks": 3000},
    "paper": {"d": 400, "num_tasks": 8000},
}
STEPS, BEST_STEPS, RATIO = 5, 3, 2
CASES = {
    f"{start}, {evaluation} context": (start, evaluation)
    for evaluation in ("fresh", "same")
    for start in ("warm", "cold")
}
BEST = "best in the limit", "best at this size"


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    d, num_tasks = PRESETS[preset]["d"], PRESETS[preset]["num_tasks"]
    rows: list[dict[str, Any]] = []
    for i, (name, (start, evaluation)) in enumerate(CASES.items()):
        problem = problem_of(d, evaluation)
        rows += rows_of(name, problem, weights_of(d, start), decaying_sizes(problem), num_tasks, seed + i)
    problem = problem_of(d, "same")
    for name, schedules in best_schedules(problem).items():
        for sizes in schedules[:BEST_STEPS]:
            *_, last = rows_of(name, problem, 0.0, sizes, num_tasks, seed + 3 + len(rows))
            rows.append(last | {"stderr_reliable": False})  # not judged, for its tails
    return rows


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    d = PRESETS[preset]["d"]
    panels: dict[str, list[Series]] = {"new context": [], "same context": []}
    for name, (start, evaluation) in CASES.items():
        problem, w = problem_of(d, evaluation), weights_of(d, start)
        sizes = decaying_sizes(problem)
        exact, leading = one_batch(problem, w, STEPS).risks(sizes), one_batch_risk(problem, w, sizes)
        line = Series(start, range(STEPS + 1), exact, leading, **markers(rows, name), look=look_of(start))
        panels["new context" if evaluation == "fresh" else "same context"].append(line)
    problem, counts = problem_of(d, "same"), range(1, STEPS + 1)
    for (name, schedules), look in zip(best_schedules(problem).items(), (4, 5), strict=True):
        ends = [one_batch(problem, 0.0, STEPS).risks(sizes)[-1] for sizes in schedules]
        limit = [best_steps_risk(problem, 0.0, steps) for steps in counts] if name == BEST[0] else None
        panels["same context"].append(Series(f"cold, {name}", counts, ends, limit, **markers(rows, name), look=look))
    figure = plotting.draw_panels(
        panels,
        x_label="step",
        y_label="risk / |b|²",
        title=f"Steps on one batch, isotropic, n = d = {d}, k = {RATIO}d",
        approximate_label="leading order",
    )
    figure.axes[0].set(yscale="log", ylim=(0.02, 5))
    figure.axes[0].set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2], ["0.05", "0.1", "0.2", "0.5", "1", "2"])
    figure.axes[0].minorticks_off()
    note = f"best: {BEST_STEPS} steps at most are simulated; their risks have heavy tails where one step overshoots"
    return Result("several_steps", rows, figure, [note])


def best_schedules(problem: Problem) -> dict[str, list[np.ndarray]]:
    """The best sizes of 1, 2, ... steps from W = 0, as n, k, d grow without bound and at this size."""
    here, counts = one_batch(problem, 0.0, STEPS), range(1, STEPS + 1)
    limit = [np.asarray(best_step_sizes(problem, steps)) for steps in counts]
    return dict(zip(BEST, (limit, [np.asarray(here.best_step_sizes(steps)) for steps in counts]), strict=True))


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
