"""K-fold TTT against the paper's split, at an equal number N = n + k of labelled pairs: the paper's open question.

Isotropic and noiseless, N = 3 d. One fold: the first n pairs are the context of the other k. K folds: each fold of
N/K pairs is asked about once with the other N - N/K as its context, up to leave-one-out; one gradient step on the sum
of all N squared errors. Each takes its best step size, from the pretrained W* of its context length (warm) or from 0
(cold); at inference the context is new, of the training length ("fresh"), or that of the first fold ("same"). Lines:
the exact risks, of K folds at the divisors K of N. Markers: simulated at the exact best step size. Risks are in units
of |b|^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figure import Result, record
from ttt_jax import Folds, GradientStep, Problem, compare, exact_risk
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
        lines = {"one fold": [(1, n) for n in range(1, total)]}
        lines["K folds"] = [(f, total - total // f) for f in range(2, total + 1) if total % f == 0]
        for name, line in lines.items():
            own = [r for r in rows if r["series"] == f"{name}, {start}, {evaluation}"]
            means, stderrs = ([r[key] for r in own] for key in ("estimate", "stderr"))
            exact = [best_risk(d, n, folds, start, evaluation) for folds, n in line]
            label, points = f"{name}, {start}, {evaluation}", [r["x"] for r in own]
            series.append(Series(label, [n / total for _, n in line], exact, None, points, means, stderrs))
    figure = draw(
        series,
        x_label=f"context length n / N, of N = 3 d = {total} labelled pairs",
        y_label="risk after one best TTT step / |b|²",
        title=f"K-fold TTT (K = 2, 3, 5, 10, {total} from left to right), isotropic, noiseless, d = {d}",
    )
    notes = [f"approximate: of K folds, the best one-fold split of {total} pairs"]
    for start, evaluation in CASES:
        folded = [r for r in rows if r["series"] == f"K folds, {start}, {evaluation}"]
        best = min(folded, key=lambda r: r["exact"])
        notes.append(
            f"{start}, {evaluation}: best one-fold split {best['approximate']:.4f}, best K-fold "
            f"{best['exact']:.4f} at K = {best['folds']}, both exact"
        )
    return Result("kfold", rows, figure, notes)


def problem(n: int, total: int, d: int, evaluation: str) -> Problem:
    """One fold with n of the pairs as its context."""
    return Problem(n, total - n, np.ones(d) / np.sqrt(d), evaluation=evaluation)


def weights(n: int, d: int, start: str) -> float:
    """Where the step starts: W* for contexts of n pairs, or 0."""
    return 1 / (n + d + 1) if start == "warm" else 0.0


def best_risk(d: int, n: int, folds: int, start: str, evaluation: str) -> float:
    """The exact risk after the best step."""
    procedure = GradientStep() if folds == 1 else Folds(folds)
    return exact_risk(problem(n, 3 * d, d, evaluation), weights(n, d, start), procedure).optimal


def row(d: int, n: int, folds: int, start: str, evaluation: str, num_tasks: int, seed: int) -> dict[str, Any]:
    """One simulated cell at its exact best step size."""
    one, w = problem(n, 3 * d, d, evaluation), weights(n, d, start)
    c = compare(one, w, GradientStep() if folds == 1 else Folds(folds), num_tasks=num_tasks, seed=seed)
    best = min(best_risk(d, m, 1, start, evaluation) for m in range(1, 3 * d))
    name = f"{'one fold' if folds == 1 else 'K folds'}, {start}, {evaluation}"
    cell = record(name, n / (3 * d), c, one, approximate=None if folds == 1 else best)
    return cell | {"folds": folds, "k": 3 * d if folds > 1 else 3 * d - n}
