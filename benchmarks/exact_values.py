"""Seconds for exact values, after a first call: problems of 1,000 features, and a map of many cells.

python benchmarks/exact_values.py --cells 100000 --d 100
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np

import ttt_jax as ttt
from ttt_jax.theory.decisions import best_context, best_scale, warm_or_cold
from ttt_jax.theory.schedules import looped_attention, one_batch
from ttt_jax.theory.yardsticks import least_squares_risk, ridge_risk


def seconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Of the wall and of the processors, per call, the first one not counted."""
    call()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats


def values(evaluation: str, d: int, rng: np.random.Generator) -> Iterator[tuple[str, Callable[[], object]]]:
    """One diagonal and one isotropic problem of d features, n = d/2, k = 2d, and what is known of them."""
    task, weights = rng.normal(size=d) / d**0.5, rng.uniform(0, 1, d) / (1.5 * d)
    diagonal = ttt.Problem(d // 2, 2 * d, task, rng.uniform(0.5, 2, d), 0.1, evaluation=evaluation)
    plain = ttt.Problem(d // 2, 2 * d, task, noise_var=0.1, evaluation=evaluation)
    clean = ttt.Problem(d // 2, 2 * d, task, evaluation=evaluation)
    lr = ttt.exact_risk(plain, 1 / d).optimal_lr
    left = rng.uniform(0, 1, d)
    yield "one step, diagonal", lambda: ttt.exact_risk(diagonal, weights)
    yield "one step, dense", lambda: ttt.exact_risk(diagonal, np.diag(weights) + 1e-9)
    yield "preconditioned step, diagonal", lambda: ttt.exact_risk(diagonal, weights, ttt.GradientStep("optimal", left))
    yield "5 folds, diagonal", lambda: ttt.exact_risk(diagonal, weights, ttt.Folds(5))
    yield "variance, isotropic", lambda: ttt.risk_law(plain, 1 / d, lr).var()
    if evaluation == "same":
        yield "variance, diagonal W", lambda: ttt.risk_law(clean, weights, lr).var()
        yield "P(hurt), diagonal W", lambda: ttt.risk_law(clean, weights, lr).prob_hurt()
        yield "quantile, isotropic", lambda: ttt.risk_law(clean, 1 / d, lr).quantile(0.9)
    yield "5 steps on one batch", lambda: ttt.exact_risk(plain, 1 / d, ttt.GradientSteps((lr / 5,) * 5))
    yield "best schedule of 5 steps", lambda: one_batch(plain, 1 / d, 5).best_step_sizes()
    yield "looped attention, 5 layers", lambda: looped_attention(d // 2, d, 5).bound()
    yield "warm or cold, diagonal", lambda: warm_or_cold(diagonal)
    yield "best scale, diagonal", lambda: best_scale(diagonal)
    yield "best context up to d", lambda: best_context(diagonal, max_n=d)
    yield "least squares, diagonal", lambda: least_squares_risk(diagonal)
    yield "ridge, isotropic", lambda: ridge_risk(plain)


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000, help="of the map (default 100000)")
    parser.add_argument("--d", type=int, default=100, help="features of the map's cells (default 100)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for evaluation in ("fresh", "same"):
        print(f"d = 1000, {evaluation}:")
        for name, call in values(evaluation, 1000, rng):
            wall, cpu = seconds(call, 5)
            print(f"  {name:32} {1e3 * wall:7.1f} ms, {1e3 * cpu:7.1f} ms of processors")
        n, k = rng.integers(1, 4 * options.d, (2, options.cells))
        noise_var = rng.uniform(0, 1, options.cells)
        wall, cpu = seconds(
            lambda e=evaluation, a=(n, k, noise_var): ttt.exact_map(*a, d=options.d, evaluation=e).optimal, 1
        )
        print(
            f"exact_map, {options.cells} cells, d = {options.d}, {evaluation}, at the best step: "
            f"{wall:.2f} s, {cpu:.2f} s of processors"
        )


if __name__ == "__main__":
    main()
