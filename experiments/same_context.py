"""Figure 1b once more, with the TTT context used again at inference beside the paper's new context.

Isotropic and noiseless, task b = (1, ..., 1), n/d = 1/2, k/d up to 2, each start at its exact best step. Solid: exact.
Dashed: the leading order. With a new context the cold start overtakes the pretrained one; with the same context the
start of lower initial risk stays ahead for every k, and there is no switch. Risks are in units of |b|^2.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from experiments.figure import Result
from experiments.starts import Start, Starts, crossing
from ttt_jax import Problem, asymptotic_risk, plotting

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "every": 8, "normals": 1e8, "num_tasks": 20_000},
    "paper": {"n": 200, "d": 400, "every": 4, "normals": 1e9, "num_tasks": 20_000},
}


CONTEXTS = "fresh", "same"


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    return figure_of(preset).simulate(PRESETS[preset], seed)


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    n, d, figure = PRESETS[preset]["n"], PRESETS[preset]["d"], figure_of(preset)
    series = figure.series(rows)
    panels = {
        f"{e} context": [replace(one, label=one.label.split(",")[0]) for one in series if e in one.label]
        for e in CONTEXTS
    }
    picture = plotting.draw_panels(
        panels,
        x_label="training queries k / d",
        y_label="risk after the step / |b|²",
        title=f"One best step, isotropic, noiseless, n = {n}, d = {d}",
        approximate_label="leading order",
    )
    exact = {one.label: np.asarray(one.exact) for one in series}
    switches = {e: crossing(figure.x, exact[f"cold, {e} context"], exact[f"warm, {e} context"]) for e in CONTEXTS}
    words = {e: "never" if np.isnan(at) else f"at k/d = {at:.3f}" for e, at in switches.items()}
    note = f"cold overtakes warm {words['fresh']} with a fresh context, {words['same']} with the same (k/d up to 2)"
    return Result("same_context", rows, picture, [note])


def figure_of(preset: str) -> Starts:
    """The starts with either context, each with its leading order."""
    n, d = PRESETS[preset]["n"], PRESETS[preset]["d"]
    weights = {"warm": np.asarray(1 / (n + d + 1)), "cold": np.zeros(())}
    starts = {
        f"{s}, {e} context": Start(w, partial(asymptotic_risk, start=w), e)
        for e in CONTEXTS
        for s, w in weights.items()
    }
    return Starts("same_context", starts, lambda k: Problem(n, k, np.ones(d)), 2 * d)
