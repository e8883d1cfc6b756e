"""Figure 2a: aligned and misaligned pretraining against the cold start as the TTT training set grows.

Two halves of coordinates, n/d = 1/2, noiseless, k up to 4 n. The task is b = (1, ..., .5, ...); pretraining tasks have
variances (1, .5) on the halves (aligned) or (.5, 1) (misaligned). Each start takes its exact best step. Solid: exact.
Dashed: Theorem 5.3, which is 1 - k/(k + d) for the cold start; the paper draws that too. The paper's caption gives a
covariance of 500 entries for d = 600; its curves fit n/d = 1/2 and equal halves, which is taken here. Dotted: least
squares on the n + k training pairs. Preset paper: its own markers, and how far they are from the lines. Risks are in
units of |b|^2.
"""

from __future__ import annotations

from typing import Any

from experiments.figure import Result
from experiments.starts import Starts, crossing, shifted_starts
from ttt_jax import make_shift, plotting
from ttt_jax.theory.paper import corollary_5_4_switch

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"n": 50, "d": 100, "every": 4, "normals": 1e8, "num_tasks": 20_000},
    "paper": {"n": 300, "d": 600, "every": 8, "normals": 5e9, "num_tasks": 1000},
}
SHIFTS = {"aligned": "aligned", "misaligned": "reversed"}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    return figure_of(preset).simulate(PRESETS[preset], seed)


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    n, d, figure = PRESETS[preset]["n"], PRESETS[preset]["d"], figure_of(preset)
    series = figure.series(rows)
    references, yardstick = figure.least_squares(series)
    picture = plotting.draw(
        series,
        x_label="TTT training queries k / d",
        y_label="risk after the step / |b|²",
        title=f"One best step, shifted tasks, n = {n}, d = {d}",
        differences=True,
        references=references,
        approximate_label="Theorem 5.3",
    )
    notes = [switch(figure, name) for name in SHIFTS]
    return Result("fig2a", rows, picture, [*notes, *figure.distances("Theorem 5.3"), yardstick])


def switch(figure: Starts, name: str) -> str:
    """Where the cold start overtakes."""
    (exact, dashed), cold = figure.risks(name, figure.ks), figure.risks("cold", figure.ks)
    crossings = [crossing(figure.x, cold[i], warm) for i, warm in enumerate((exact, dashed))]
    stated = corollary_5_4_switch(figure.problem(1), figure.starts[name].weights)
    return (
        f"cold start overtakes {name} at k/d = {crossings[0]:.3f} (exact), {crossings[1]:.3f} (dashed), {stated:.3f} "
        f"(Corollary 5.4); at k = 0: {exact[0]:.4f} (exact), {dashed[0]:.4f} (dashed)"
    )


def figure_of(preset: str) -> Starts:
    """The starts at the sizes of the preset."""
    n, d = PRESETS[preset]["n"], PRESETS[preset]["d"]
    starts = shifted_starts(SHIFTS, n, d)
    return Starts("fig2a", starts, lambda k: make_shift("aligned", n=n, k=k, d=d)[1], 4 * n, drawn=preset == "paper")
