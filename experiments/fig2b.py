"""Figure 2b: the best and the worst pretraining for a task, against the cold start, as the TTT training set grows.

The task is b = e_1, n/d = 1/2, noiseless, k up to 4 n. Pretraining tasks vary along e_1 only (best) or along all other
axes (worst). Each start takes its exact best step. Solid: exact. Dashed: Theorem 5.3, which is 1 - k/(k + d) for the
cold start. Dotted: least squares on the n + k training pairs. Preset paper: its own markers, how far they are from
the lines, and the n and d that fit the paper's lines, which are not those of its caption. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from experiments import paper
from experiments.figure import Result
from experiments.starts import Starts, shifted_starts
from ttt_jax import make_shift, plotting

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "every": 4, "normals": 1e8, "num_tasks": 20_000},
    "paper": {"n": 250, "d": 500, "every": 8, "normals": 5e9, "num_tasks": 1000},
}
SHIFTS = {"best": "low_rank", "worst": "orthogonal"}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    return figure_of(preset).simulate(PRESETS[preset], seed)


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    n, d, figure = PRESETS[preset]["n"], PRESETS[preset]["d"], figure_of(preset)
    series = figure.series(rows)
    references, yardstick = figure.least_squares(series)
    cold, best, worst = series
    picture = plotting.draw_panels(
        {"cold and worst": [cold, worst], "best": [best]},
        share_y=False,
        references=references,
        x_label="training queries k / d",
        y_label="risk after the step / |b|²",
        title=f"One best step, task along one axis, n = {n}, d = {d}",
        approximate_label="Theorem 5.3",
    )
    lines = {one.label: np.asarray(one.exact) for one in series}
    above = "yes" if (lines["worst"] > lines["cold"]).all() else "no"
    notes = [
        f"best: {lines['best'][0]:.4f} at k = 0, {lines['best'][-1]:.4f} at k = 4 n (exact)",
        f"worst: {lines['worst'][0]:.4f} at k = 0 (exact); above cold for every k: {above}",
    ]
    if figure.drawn:
        notes += fit_notes(n, d)
    notes += [*figure.distances("Theorem 5.3"), yardstick]
    return Result("fig2b", rows, picture, notes)


def figure_of(preset: str) -> Starts:
    """The starts at the sizes of the preset."""
    n, d = PRESETS[preset]["n"], PRESETS[preset]["d"]
    starts = shifted_starts(SHIFTS, n, d)
    return Starts("fig2b", starts, lambda k: make_shift("low_rank", n=n, k=k, d=d)[1], 4 * n, drawn=preset == "paper")


def theorem_5_3_lines(n: float, d: float, k_over_d: Float[np.ndarray, " x"]) -> dict[str, Float[np.ndarray, " x"]]:
    """Theorem 5.3 for the two shifts at any real n and d: A + spread - k/(k+d) A^2 / (A + spread).

    best: A = 4 / (n+2)^2, spread = n / (n+2)^2;    worst: A = 1, spread = n (d-1) / (n+d)^2
    """
    terms = {"best": (4 / (n + 2) ** 2, n / (n + 2) ** 2), "worst": (1.0, n * (d - 1) / (n + d) ** 2)}
    share = k_over_d / (k_over_d + 1)
    return {name: a + spread - share * a**2 / (a + spread) for name, (a, spread) in terms.items()}


def fitted_sizes() -> tuple[float, float]:
    """The n and d with the smallest sum of squared distances of Theorem 5.3 to the paper's two lines."""

    def errors(sizes: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " errors"]:
        return np.concatenate([*line_errors(*sizes).values()])

    n, d = least_squares(errors, (250.0, 500.0), x_scale=(250.0, 500.0), xtol=1e-12, ftol=1e-12).x
    return float(n), float(d)


def line_errors(n: float, d: float) -> dict[str, Float[np.ndarray, " x"]]:
    """The paper's lines less Theorem 5.3 at these sizes."""
    drawn = {name: paper.drawn("fig2b", name, "lines").T for name in SHIFTS}
    return {name: y - theorem_5_3_lines(n, d, x)[name] for name, (x, y) in drawn.items()}


def fit_notes(n: float, d: float) -> list[str]:
    """What sizes the paper's lines are of."""
    notes = []
    for what, sizes in ((f"n = {n}, d = {d} of its caption", (n, d)), ("the best fit", fitted_sizes())):
        errors = ", ".join(f"{name} {paper.rms(error):.5f}" for name, error in line_errors(*sizes).items())
        at = "" if sizes == (n, d) else f", n = {sizes[0]:.1f}, d = {sizes[1]:.1f}"
        notes.append(f"the paper's lines less Theorem 5.3 at {what}{at}: RMS {errors}")
    return notes
