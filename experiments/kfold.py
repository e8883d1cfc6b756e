"""K-fold TTT against the paper's split, at an equal number N = n + k of labelled pairs: the paper's open question.

Isotropic and noiseless, N = 3 d. One fold: the first n pairs are the context of the other k. K folds: each fold of
N/K pairs is asked about once with the other N - N/K as its context, up to leave-one-out; one gradient step on the sum
of all N squared errors. Each takes its best step size, from the pretrained W* of its context length (warm) or from 0
(cold); at inference the context is new, of the training length ("fresh"), or that of the first fold ("same"). Lines:
the exact risk of one fold. Circles on them: one fold simulated in the same way. No formula is known for K folds:
markers only. Risks are in units of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, record
from ttt_jax import Folds, GradientStep, Problem, compare, estimate_curve, exact_risk
from ttt_jax._internal.progress import progress_bar
from ttt_jax.plotting import Series, draw

FOLDS = 2, 3, 5, 10
CASES = ("warm", "fresh"), ("cold", "fresh"), ("warm", "same")
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 20, "num_tasks": 20_000},
    "paper": {"d": 60, "num_tasks": 5000},
}


def run(preset: str, seed: int = 0) -> Result:
    """Simulate the preset and draw the figure."""
    d, num_tasks = PRESETS[preset]["d"], PRESETS[preset]["num_tasks"]
    total = 3 * d
    rows: list[dict[str, Any]] = []
    splits = [(1, total // 4), (1, total // 2), (1, 3 * total // 4)]
    splits += [(folds, total - total // folds) for folds in (*FOLDS, total)]
    jobs = [(*case, *split) for case in CASES for split in splits]
    for i, (start, evaluation, folds, n) in enumerate(progress_bar(jobs, "kfold")):
        rows += [row(d, n, folds, start, evaluation, num_tasks, seed + i)]
    series = []
    for start, evaluation in CASES:
        ns = range(1, total)
        exact = [exact_risk(problem(n, total, d, evaluation), weights(n, d, start)).optimal for n in ns]
        for name, line in ((f"one fold, {start}, {evaluation}", exact), (f"K folds, {start}, {evaluation}", None)):
            own = [r for r in rows if r["series"] == name]
            means, stderrs = ([r[key] for r in own] for key in ("estimate", "stderr"))
            points = [r["x"] for r in own]
            series.append(Series(name, [n / total for n in ns], line, None, points, means, stderrs))
    figure = draw(
        series,
        x_label=f"context length n / N, of N = 3 d = {total} labelled pairs",
        y_label="risk after one best TTT step / |b|²",
        title=f"K-fold TTT (K = 2, 3, 5, 10, {total} from left to right), isotropic, noiseless, d = {d}",
    )
    notes = [f"z: one fold against its exact risk; approximate: of K folds, the best one-fold split of {total} pairs"]
    for start, evaluation in CASES:
        folded = [r for r in rows if r["series"] == f"K folds, {start}, {evaluation}"]
        best = min(folded, key=lambda r: r["estimate"])
        notes.append(
            f"{start}, {evaluation}: best one-fold split {best['approximate']:.4f} (exact), best K-fold "
            f"{best['estimate']:.4f}({best['stderr']:.4f}) at K = {best['folds']}"
        )
    return Result("kfold", rows, figure, notes)


def problem(n: int, total: int, d: int, evaluation: str) -> Problem:
    """One fold with n of the pairs as its context."""
    return Problem(n, total - n, np.ones(d) / np.sqrt(d), evaluation=evaluation)


def weights(n: int, d: int, start: str) -> float:
    """Where the step starts: W* for contexts of n pairs, or 0."""
    return 1 / (n + d + 1) if start == "warm" else 0.0


def row(d: int, n: int, folds: int, start: str, evaluation: str, num_tasks: int, seed: int) -> dict[str, Any]:
    """One simulated cell at its best step size, which for K folds is that of a simulation of its own."""
    one, w = problem(n, 3 * d, d, evaluation), weights(n, d, start)
    if folds == 1:
        c = compare(one, w, GradientStep(), num_tasks=num_tasks, seed=seed)
    else:
        best_lr = estimate_curve(one, w, Folds(folds), num_tasks=num_tasks, seed=seed + 2**31).optimal_lr
        c = compare(one, w, Folds(folds, best_lr), num_tasks=num_tasks, seed=seed)
    best = min(exact_risk(problem(m, 3 * d, d, evaluation), weights(m, d, start)).optimal for m in range(1, 3 * d))
    name = f"{'one fold' if folds == 1 else 'K folds'}, {start}, {evaluation}"
    cell = record(name, n / (3 * d), c, one, approximate=None if folds == 1 else best)
    return cell | {"folds": folds, "k": 3 * d if folds > 1 else 3 * d - n}
