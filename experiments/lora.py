"""A step of LoRA against its rank: the risk after one best step on B in W + B A, with A fixed, from B = 0.

Isotropic features, label noise, a task of length 1, W* of tasks of that length, n/d = 1/2, k = 2 d. The step is the
plain one times A'A on the right, for the first r rows of one Gaussian A. Solid: its exact risk. Dashed: a projection
onto r random directions in place of A'A, the mean of exact risks over draws. Markers: simulated at the exact best step
size. Thin grey: the full step, and ridge regression on the same labelled pairs, both exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, markers, record
from ttt_jax import GradientStep, Pretraining, Problem, compare, exact_risk, pretrained_weights
from ttt_jax._internal.progress import progress_bar
from ttt_jax.plotting import Series, draw
from ttt_jax.theory.yardsticks import labelled_pairs, ridge_risk

NOISE_VAR = 0.5
SHARES = 1 / 40, 1 / 20, 1 / 10, 1 / 5, 2 / 5, 3 / 5, 4 / 5, 1  # r/d
SIMULATED = 1 / 20, 1 / 5, 3 / 5, 1
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 40, "draws": 20, "num_tasks": 50_000},
    "paper": {"d": 120, "draws": 100, "num_tasks": 10_000},
}


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    d, draws, num_tasks = (PRESETS[preset][name] for name in ("d", "draws", "num_tasks"))
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((d, d))
    ranks, simulated = (sorted({max(1, round(share * d)) for share in shares}) for shares in (SHARES, SIMULATED))
    weights = pretrained_weights(Pretraining(n=d // 2, d=d, task_cov=1 / d, noise_var=NOISE_VAR))
    bases = [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(draws)]
    rows: list[dict[str, Any]] = []
    levels: dict[str, tuple[float, int]] = {}
    series, notes = [], ["approximate: a projection onto random directions, mean over draws"]
    for evaluation in ("same", "fresh"):
        problem = Problem(d // 2, 2 * d, np.ones(d) / np.sqrt(d), noise_var=NOISE_VAR, evaluation=evaluation)
        name = f"LoRA, {evaluation} context"
        lora = {r: best_risk(problem, weights, a[:r]) for r in ranks}
        random = {r: float(np.mean([best_risk(problem, weights, basis[:r]) for basis in bases])) for r in ranks}
        for i, r in enumerate(progress_bar(simulated, name)):
            step = GradientStep(right=a[:r].T @ a[:r])
            c = compare(problem, weights, step, num_tasks=num_tasks, seed=seed + i)
            rows.append(record(name, r, c, problem, approximate=random[r]))
        series.append(Series(name, ranks, [*lora.values()], [*random.values()], **markers(rows, name)))
        full, ridge = exact_risk(problem, weights).optimal, ridge_risk(problem)
        above = 2 if evaluation == "same" else -9
        levels |= {
            f"full step, {evaluation} context": (full, -9),
            f"ridge, {labelled_pairs(problem)} pairs": (ridge, above),
        }
        initial = exact_risk(problem, weights).initial
        half = next((r for r, risk in lora.items() if initial - risk >= (initial - full) / 2), None)
        notes.append(
            f"{evaluation}: before the step {initial:.4f}, full step {full:.4f}, LoRA of rank d {lora[d]:.4f}, "
            f"half of the full gain from rank {half} on; ridge on the same {labelled_pairs(problem)} pairs {ridge:.4f}"
        )
    figure = draw(
        series,
        x_label="rank r of A",
        y_label="risk after one best step, noise included",
        title=f"LoRA step of rank r, isotropic, n = {d // 2}, k = {2 * d}, d = {d}, noise variance {NOISE_VAR}",
        approximate_label="random projection, mean",
    )
    axes = figure.axes[0]
    for label, (level, offset) in levels.items():
        axes.axhline(level, color="#8c8c8c", lw=0.9, zorder=1.5)
        axes.annotate(
            label, (d, level), (0, offset), textcoords="offset points", ha="right", fontsize=7, color="#555555"
        )
    axes.legend(loc="lower left", fontsize=8)
    return Result("lora", rows, figure, notes)


def best_risk(problem: Problem, weights: np.ndarray, a: np.ndarray) -> float:
    """The exact risk after the best step with R = A'A."""
    return exact_risk(problem, weights, GradientStep(right=a.T @ a)).optimal
