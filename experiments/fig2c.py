"""Figure 2c: ten TTT steps with decaying step sizes, a new context and new queries at each step.

Isotropic, noiseless, n/d = 1/2, k = 50 d, from the pretrained W*. The first step has Theorem 4.2's size, and each later
one is smaller by a factor of .2, .4, .6 or .8. Solid: the exact risk after each step (`new_context_risk`). Dashed: its
leading order, the recursion of A. Preset paper: what the paper draws, a
little to the right, and how far that is from the lines. With one
batch and context for all steps the curves would be other ones: see the experiment several_steps. Dotted: least
squares on the n + k training pairs of one step. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import paper
from experiments.figure import BLUES, Result, least_squares, markers, path_rows
from ttt_jax import GradientSteps, Problem, asymptotic_risk, compare, exact_risk, plotting
from ttt_jax.plotting import Series
from ttt_jax.theory.paper import theorem_4_2

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "num_tasks": 200},
    "paper": {"n": 50, "d": 100, "num_tasks": 500},
}
STEPS = 10
ASIDE = 0.2, 0.0
"""The paper's points are drawn beside ours, not on them."""
FACTORS = {f"reduction factor {factor}": factor for factor in (0.2, 0.4, 0.6, 0.8)}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    rows = []
    for i, name in enumerate(FACTORS):
        problem, weights, procedure = setting(preset, name)
        num_tasks = PRESETS[preset]["num_tasks"]
        found = compare(problem, weights, procedure, num_tasks=num_tasks, seed=seed + i, progress=True)
        drawn = paper.drawn("fig2c", name, "lines")[:, 1] if preset == "paper" else ()
        rows += path_rows(name, found, problem, drawn=dict(enumerate(drawn)))
    return rows


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    n, d = PRESETS[preset]["n"], PRESETS[preset]["d"]
    series, curves, notes = [], {}, ["the cells of one series are the same simulated tasks"]
    for name, look in zip(FACTORS, BLUES, strict=True):
        problem, weights, procedure = setting(preset, name)
        exact, leading = (risk(problem, weights, procedure).risks for risk in (exact_risk, asymptotic_risk))
        curves[name] = exact[1:]
        drawn = paper.drawn("fig2c", name, "lines") + ASIDE if preset == "paper" else ()
        series.append(Series(name, range(STEPS + 1), exact, leading, **markers(rows, name), drawn=drawn, look=look))
        if preset == "paper":
            notes.append(paper.distance("fig2c", name, {"exact": exact, "leading order": leading}, "lines"))
    references, yardstick = least_squares(range(1, STEPS + 1), [problem] * STEPS, curves)
    figure = plotting.draw(
        series,
        references=references,
        x_label="TTT step, a new context at each",
        y_label="risk / |b|²",
        title=f"Steps of decaying size, isotropic, n = {n}, d = {d}, k = {50 * d}",
        approximate_label="leading order",
    )
    notes.append(yardstick)
    return Result("fig2c", rows, figure, notes)


def setting(preset: str, name: str) -> tuple[Problem, float, GradientSteps]:
    """The problem, W* and the steps of a series."""
    n, d = PRESETS[preset]["n"], PRESETS[preset]["d"]
    steps = theorem_4_2(n, 50 * d, d).optimal_lr * FACTORS[name] ** np.arange(STEPS)
    return Problem(n, 50 * d, np.ones(d) / np.sqrt(d)), 1 / (n + d + 1), GradientSteps(steps, new_context=True)
