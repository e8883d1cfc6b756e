"""K-fold TTT against the paper's split, at an equal number N = n + k of labelled pairs: the paper's open question.

Isotropic and noiseless, N = 3 d. One fold: the first n pairs are the context of the other k. K folds: each fold of
N/K pairs is asked about once with the other N - N/K as its context, up to leave-one-out; one gradient step on the sum
of all N squared errors. Each takes its best step size, from the pretrained W* of its context length (warm) or from 0
(cold); at inference the context is new, of the training length ("fresh"), or that of the first fold ("same"). Lines:
the exact risks, of K folds at the divisors K of N. Markers: simulated at the exact best step size; K is written at
those of K folds. Risks are in units of |b|^2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from experiments.figure import Result, markers, record
from ttt_jax import Folds, GradientStep, Problem, compare, exact_risk, plotting
from ttt_jax._internal.progress import progress_bar
from ttt_jax.plotting import Series
from ttt_jax.theory.folds import folds_curve

FOLDS = 2, 3, 5, 10
CASES = ("warm", "fresh"), ("cold", "fresh"), ("warm", "same")
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 20, "num_tasks": 20_000},
    "paper": {"d": 60, "num_tasks": 5000},
}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    d, num_tasks = PRESETS[preset]["d"], PRESETS[preset]["num_tasks"]
    total = 3 * d
    splits = [(1, total // 4), (1, total // 2), (1, 3 * total // 4)]
    splits += [(folds, total - total // folds) for folds in (*FOLDS, total)]
    jobs = [(*case, *split) for case in CASES for split in splits]
    best = {case: min(exact_lines(d, *case)["one fold"].values()) for case in CASES}
    return [
        row(d, n, folds, start, evaluation, None if folds == 1 else best[start, evaluation], num_tasks, seed + i)
        for i, (start, evaluation, folds, n) in enumerate(progress_bar(jobs, "kfold"))
    ]


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    d = PRESETS[preset]["d"]
    total = 3 * d
    lines = {case: exact_lines(d, *case) for case in CASES}
    panels: dict[str, list[Series]] = {}
    for (start, evaluation), named in lines.items():
        panels[f"{start}, {'new' if evaluation == 'fresh' else 'same'}"] = [
            Series(
                name,
                [n / total for n in risks],
                [*risks.values()],
                **markers(rows, f"{name}, {start}, {evaluation}"),
                look=look,
            )
            for (name, risks), look in zip(named.items(), (6, 4), strict=True)
        ]
    figure = plotting.draw_panels(
        panels,
        x_label="n / N",
        y_label="risk after the step / |b|²",
        title=f"One best step, K folds of N = {total} labelled pairs",
    )
    write_folds(figure.axes, panels.values())
    notes = [f"approximate: of K folds, the best one-fold split of {total} pairs"]
    for case, named in lines.items():
        (n, one), (m, many) = (min(risks.items(), key=itemgetter(1)) for risks in named.values())
        folds = total // (total - m)
        exact = f"best one-fold split {one:.4f} at n = {n}, best K-fold {many:.4f} at K = {folds}, both exact"
        notes.append(f"{', '.join(case)}: {exact}")
    whole = (f"{all_pairs_risk(d, folds):.4f} at K = {folds}" for folds in (*FOLDS, total))
    notes.append(f"warm, all pairs as the context at inference, exact: {', '.join(whole)}")
    return Result("kfold", rows, figure, notes)


def write_folds(places: Sequence[Any], panels: Iterable[Sequence[Series]]) -> None:
    """Write K at the simulated points, in turn below and above them."""
    for axes, (_, folds) in zip(places, panels, strict=True):
        for i, (x, mean) in enumerate(zip(np.asarray(folds.points), np.asarray(folds.means), strict=True)):
            up = i % 2
            where: dict[str, Any] = {"va": "bottom" if up else "top", "ha": "center", "fontsize": 6}
            axes.annotate(f"{round(1 / (1 - x))}", (x, mean), (0, 3 if up else -3), textcoords="offset points", **where)


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


def exact_lines(d: int, start: str, evaluation: str) -> dict[str, dict[int, float]]:
    """The exact risk after the best step by context length: of one fold, and of K for the divisors K of N."""
    lengths = {3 * d - 3 * d // folds: folds for folds in range(2, 3 * d + 1) if 3 * d % folds == 0}
    return {
        "one fold": {n: best_risk(d, n, 1, start, evaluation) for n in range(1, 3 * d)},
        "K folds": {n: best_risk(d, n, folds, start, evaluation) for n, folds in lengths.items()},
    }


def all_pairs_risk(d: int, folds: int) -> float:
    """The exact risk after the best step from W*, with the N pairs of training as the context at inference."""
    n = 3 * d - 3 * d // folds
    return folds_curve(problem(n, 3 * d, d, "fresh"), weights(n, d, "warm"), folds, context="all").optimal


def row(
    d: int, n: int, folds: int, start: str, evaluation: str, best: float | None, num_tasks: int, seed: int
) -> dict[str, Any]:
    """One simulated cell at its exact best step size."""
    one, w = problem(n, 3 * d, d, evaluation), weights(n, d, start)
    c = compare(one, w, GradientStep() if folds == 1 else Folds(folds), num_tasks=num_tasks, seed=seed)
    name = f"{'one fold' if folds == 1 else 'K folds'}, {start}, {evaluation}"
    cell = record(name, n / (3 * d), c, one, approximate=best)
    return cell | {"folds": folds, "k": 3 * d if folds > 1 else 3 * d - n}
