"""Figure 1b once more, with the TTT context used again at inference beside the paper's new context.

Isotropic and noiseless, task b = (1, ..., 1), n/d = 1/2, k/d up to 2, each start at its exact best step. Solid: exact.
Dashed: the leading order. With a new context the cold start overtakes the pretrained one; with the same context the
start of lower initial risk stays ahead for every k, and there is no switch. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result
from experiments.starts import Start, compare_starts, crossing, lengths
from ttt_jax import Problem, asymptotic_risk
from ttt_jax.plotting import draw

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "num_points": 6, "normals": 1e8},
    "paper": {"n": 200, "d": 400, "num_points": 20, "normals": 1e9},
}


def start(weights: Any, evaluation: str) -> Start:
    """A start with its leading order."""
    return Start(weights, lambda problem: asymptotic_risk(problem, weights).optimal, evaluation)


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    n, d, num_points, normals = (PRESETS[preset][name] for name in ("n", "d", "num_points", "normals"))
    weights = {"warm": np.asarray(1 / (n + d + 1)), "cold": np.zeros(())}
    starts = {f"{name}, {e} context": start(w, e) for e in ("fresh", "same") for name, w in weights.items()}
    rows, series, exact = compare_starts(
        starts,
        lambda k: Problem(n, k, np.ones(d)),
        2 * d,
        num_points=num_points,
        normals=normals,
        seed=seed,
        title="same_context",
    )
    figure = draw(
        series,
        x_label="TTT training queries k / d",
        y_label="risk after one optimal TTT step / |b|²",
        title=f"Context at inference new or that of TTT, isotropic, noiseless, n = {n}, d = {d}",
        approximate_label="leading order",
    )
    x = np.array(lengths(2 * d)) / d
    switches = {e: crossing(x, exact[f"cold, {e} context"], exact[f"warm, {e} context"]) for e in ("fresh", "same")}
    words = {e: "never" if np.isnan(at) else f"at k/d = {at:.3f}" for e, at in switches.items()}
    note = f"cold overtakes warm {words['fresh']} with a fresh context, {words['same']} with the same (k/d up to 2)"
    return Result("same_context", rows, figure, [note])
