"""A step of LoRA against its rank: the risk after one best step on B in W + B A, with A fixed, from B = 0.

Isotropic features, label noise, a task of length 1, W* of tasks of that length, n/d = 1/2, k = 2 d. The step is the
plain one times A'A on the right, for the first r rows of one Gaussian A. Solid: its exact risk. Dashed: a projection
onto r random directions in place of A'A, the mean of exact risks over draws. Markers: simulated at the exact best step
size. Dotted: the full step, and ridge regression on the same labelled pairs, both exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.figure import Result, markers, record
from ttt_jax import GradientStep, Pretraining, Problem, compare, exact_risk, plotting, pretrained_weights
from ttt_jax._internal.progress import progress_bar
from ttt_jax.plotting import Series
from ttt_jax.theory.yardsticks import labelled_pairs, ridge_risk

NOISE_VAR = 0.5
SHARES = 1 / 40, 1 / 20, 1 / 10, 1 / 5, 2 / 5, 3 / 5, 4 / 5, 1  # r/d
SIMULATED = 1 / 20, 1 / 5, 3 / 5, 1
CONTEXTS = {"same context": "same", "new context": "fresh"}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 40, "draws": 20, "num_tasks": 50_000},
    "paper": {"d": 120, "draws": 100, "num_tasks": 10_000},
}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    d, draws, num_tasks = (PRESETS[preset][name] for name in ("d", "draws", "num_tasks"))
    a, bases = maps_of(d, draws, seed)
    rows: list[dict[str, Any]] = []
    for context, evaluation in CONTEXTS.items():
        problem, weights = setting(d, evaluation)
        for i, r in enumerate(progress_bar(ranks_of(d, SIMULATED), f"lora, {context}")):
            step = GradientStep(right=a[:r].T @ a[:r])
            c = compare(problem, weights, step, num_tasks=num_tasks, seed=seed + i)
            random = float(np.mean([best_risk(problem, weights, basis[:r]) for basis in bases]))
            rows.append(record(context, r, c, problem, approximate=random))
    return rows


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    d, draws = PRESETS[preset]["d"], PRESETS[preset]["draws"]
    a, bases = maps_of(d, draws, rows[0]["seed"])
    ranks, levels = ranks_of(d, SHARES), {}
    panels, notes = {}, ["approximate: a projection onto random directions, mean over draws"]
    for (context, evaluation), look in zip(CONTEXTS.items(), (0, 7), strict=True):
        problem, weights = setting(d, evaluation)
        lora = {r: best_risk(problem, weights, a[:r]) for r in ranks}
        random = [float(np.mean([best_risk(problem, weights, basis[:r]) for basis in bases])) for r in ranks]
        panels[context] = [Series(context, ranks, [*lora.values()], random, **markers(rows, context), look=look)]
        curve, ridge = exact_risk(problem, weights), ridge_risk(problem)
        pairs = labelled_pairs(problem)
        levels[context] = {"full step": curve.optimal, f"ridge, {pairs} pairs": ridge}
        half = next(
            (r for r, risk in lora.items() if curve.initial - risk >= (curve.initial - curve.optimal) / 2), None
        )
        notes.append(
            f"{context}: before the step {curve.initial:.4f}, full step {curve.optimal:.4f}, LoRA of rank d "
            f"{lora[d]:.4f}, half of the full gain from rank {half} on; ridge on the same {pairs} pairs {ridge:.4f}"
        )
    figure = plotting.draw_panels(
        panels,
        x_label="rank r of A",
        y_label="risk after the step",
        title=f"One best LoRA step, n = {d // 2}, k = {2 * d}, d = {d}, noise variance {NOISE_VAR}",
        approximate_label="random projection, mean",
    )
    for axes, (_, own) in zip(figure.axes, levels.items(), strict=True):
        for label, level in own.items():
            axes.axhline(level, color=plotting.GREY, lw=1.0, ls=plotting.DOTS, zorder=1.5)
            axes.annotate(
                label, (0, level), (2, -1), textcoords="offset points", va="top", fontsize=6, color=plotting.GREY
            )
    figure.axes[0].set_ylim(bottom=min(min(own.values()) for own in levels.values()) - 0.06)
    return Result("lora", rows, figure, notes)


def setting(d: int, evaluation: str) -> tuple[Problem, np.ndarray]:
    """The problem and the pretrained weights."""
    weights = pretrained_weights(Pretraining(n=d // 2, d=d, task_cov=1 / d, noise_var=NOISE_VAR))
    task = np.ones(d) / np.sqrt(d)
    return Problem(d // 2, 2 * d, task, noise_var=NOISE_VAR, evaluation=evaluation), weights


def maps_of(d: int, draws: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The Gaussian A, and random bases in its place."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((d, d)), [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(draws)]


def ranks_of(d: int, shares: Sequence[float]) -> list[int]:
    """The ranks at these shares of d."""
    return sorted({max(1, round(share * d)) for share in shares})


def best_risk(problem: Problem, weights: np.ndarray, a: np.ndarray) -> float:
    """The exact risk after the best step with R = A'A."""
    return exact_risk(problem, weights, GradientStep(right=a.T @ a)).optimal
