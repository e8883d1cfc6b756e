"""What the mean risk hides: how often one TTT step makes a prompt worse, against its step size.

Isotropic, n = d, from the pretrained W*, with the context of TTT used again at inference and with a new one, with and
without noise. Step sizes are in units of the best one, of the smallest mean risk; at twice that the mean risk is what
it was before the step. A prompt is worse if its own risk, averaged over its query, has grown. Solid: in closed form,
for the same context without noise. Dashed: from sampled prompts of seven to twelve random numbers each, which have the
same law. Markers: sampled rows and jax.grad steps. Vertical lines: the best step and twice that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from experiments.figure import Result, markers
from ttt_jax import GradientStep, Problem, RiskLaw, exact_risk, plotting, risk_law
from ttt_jax.plotting import Series
from ttt_jax.simulation.prompt_risks import prompt_risks
from ttt_jax.verdict.law_quantities import of_prompts

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 20, "num_tasks": 4000, "points": (0.75, 1.0, 1.5, 2.0, 2.5, 3.0)},
    "paper": {"d": 100, "num_tasks": 10_000, "points": (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)},
}
CASES = {
    "same context, k = d / 2": ("same", 0.5, 0.0),
    "same context, k = 8 d": ("same", 8.0, 0.0),
    "same context, k = 2 d, σ² = |b|²": ("same", 2.0, 1.0),
    "new context, k = 2 d": ("fresh", 2.0, 0.0),
    "new context, k = 2 d, σ² = |b|²": ("fresh", 2.0, 1.0),
}
LABELS = {"k = d / 2": 8, "k = 8 d": 0, "k = 2 d": 7, "k = 2 d, σ² = |b|²": 4}
"""Their looks: blue without noise, the darker the larger k."""
LINE = np.linspace(0.25, 3.25, 13)


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    d, num_tasks, points = (PRESETS[preset][name] for name in ("d", "num_tasks", "points"))
    rows: list[dict[str, Any]] = []
    for name, case in CASES.items():
        rows += [row(name, d, case, x, num_tasks, seed + len(rows) + i) for i, x in enumerate(points)]
    return rows


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    d, seed = PRESETS[preset]["d"], rows[0]["seed"]
    panels: dict[str, list[Series]] = {"same context": [], "new context": []}
    notes = []
    for name, case in CASES.items():
        laws = [law(d, case, x, seed) for x in LINE]
        line = [one.prob_hurt() for one in laws]
        closed = laws[0].source == "closed form"
        context, label = name.split(", ", 1)
        exact, sampled = (line, None) if closed else (None, line)
        panels[context].append(Series(label, LINE, exact, sampled, **markers(rows, name), look=LABELS[label]))
        best, double = (law(d, case, x, seed) for x in (1.0, 2.0))
        notes.append(f"{name}: worse {best.prob_hurt():.3f} at the best step, {double.prob_hurt():.3f} at twice that")
    figure = plotting.draw_panels(
        panels,
        x_label="step size / best",
        y_label="share made worse",
        title=f"What the mean hides, isotropic, from W*, n = d = {d}",
        approximate_label="from the law, sampled",
    )
    for axes in figure.axes:
        for x in (1, 2):
            axes.axvline(x, color="black", ls=":", lw=0.8, zorder=0)
    return Result("harm", rows, figure, notes)


def problem_of(d: int, case: tuple[str, float, float]) -> Problem:
    """The problem at size d."""
    evaluation, ratio, noise_var = case
    return Problem(d, round(ratio * d), np.ones(d) / np.sqrt(d), noise_var=noise_var, evaluation=evaluation)


def step_of(problem: Problem, x: float) -> tuple[float, GradientStep]:
    """W*, and the step of x times the best size from it."""
    weights = 1 / (problem.n + problem.d + 1 + problem.d * problem.noise_var)  # of tasks as long as this one
    return weights, GradientStep(x * exact_risk(problem, weights).optimal_lr)


def law(d: int, case: tuple[str, float, float], x: float, seed: int) -> RiskLaw:
    """The law of the risk of one prompt."""
    problem = problem_of(d, case)
    return risk_law(problem, *step_of(problem, x), seed=seed)


def row(name: str, d: int, case: tuple[str, float, float], x: float, num_tasks: int, seed: int) -> dict[str, Any]:
    """The share of simulated prompts beside the law."""
    theory, problem = law(d, case, x, seed), problem_of(d, case)
    weights, step = step_of(problem, x)
    prompts = prompt_risks(problem, weights, step, num_tasks=num_tasks, seed=seed, sampler="data")
    share = theory.prob_hurt()
    estimate, stderr, reliable = of_prompts("prob_hurt", prompts, share, None)
    stderr = math.hypot(stderr, theory.stderr("prob_hurt"))
    closed = theory.source == "closed form"
    return {
        "series": name, "x": x, "d": d, "n": problem.n, "k": problem.k, "evaluation": case[0], "drawn": None,
        "approximate": None if closed else share, "lr": step.lr, "exact": share if closed else None,
        "estimate": estimate, "stderr": stderr, "stderr_reliable": reliable,
        "z": (estimate - share) / stderr, "num_tasks": num_tasks, "seed": seed,
    }  # fmt: skip
