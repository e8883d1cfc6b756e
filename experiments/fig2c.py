"""Figure 2c: ten TTT steps with decaying step sizes, a new context and new queries at each step.

Isotropic, noiseless, n/d = 1/2, k = 50 d, from the pretrained W*. The first step has Theorem 4.2's size, and each later
one is smaller by a factor of .2, .4, .6 or .8. Solid: the exact risk after each step (`new_context_risk`). Dashed: its
leading order, the recursion of A. Crosses: read off the paper's figure. With one batch and context for all steps the
curves would be other ones: see the experiment several_steps. Thin grey: least squares on the n + k
training pairs of one step. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, least_squares_line, markers, path_rows
from ttt_jax import GradientSteps, Problem, RiskPath, compare
from ttt_jax.plotting import Series, draw
from ttt_jax.theory.paper import theorem_4_2

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "num_tasks": 1000},
    "paper": {"n": 50, "d": 100, "num_tasks": 2000},
}
STEPS = 10
DRAWN_LAST = {0.2: 0.40, 0.4: 0.33, 0.6: 0.30, 0.8: 0.27}
DRAWN_FIRST = 0.42


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    n, d, num_tasks = (PRESETS[preset][name] for name in ("n", "d", "num_tasks"))
    problem, weights = Problem(n, 50 * d, np.ones(d) / np.sqrt(d)), 1 / (n + d + 1)
    rows, series, curves = [], [], {}
    notes = ["the cells of one series are the same simulated tasks"]
    for i, (factor, last) in enumerate(DRAWN_LAST.items()):
        steps = theorem_4_2(n, 50 * d, d).optimal_lr * factor ** np.arange(STEPS)
        procedure = GradientSteps(steps, new_context=True)
        c = compare(problem, weights, procedure, num_tasks=num_tasks, seed=seed + i, progress=True)
        assert isinstance(c.exact, RiskPath)
        assert isinstance(c.asymptotic, RiskPath)
        exact, leading = c.exact.risks, c.asymptotic.risks
        name = f"reduction factor {factor}"
        curves[name] = exact
        drawn = {1: DRAWN_FIRST, STEPS: last}
        rows += path_rows(name, c, problem, drawn=drawn)
        notes.append(f"factor {factor}, after {STEPS} steps: {exact[-1]:.3f} (exact), {last} (drawn in the paper)")
        points = [(1, DRAWN_FIRST), (STEPS, last)]
        series.append(Series(name, range(STEPS + 1), exact, leading, **markers(rows, name), drawn=points))
    figure = draw(
        series,
        x_label="TTT step, a new context at each",
        y_label="risk / |b|²",
        title=f"Several steps of decaying size, isotropic, noiseless, n = {n}, d = {d}, k = {50 * d}",
        approximate_label="leading order",
    )
    notes.append(
        least_squares_line(figure, range(1, STEPS + 1), [problem] * STEPS, {n: c[1:] for n, c in curves.items()})
    )
    return Result("fig2c", rows, figure, notes)
