"""Seconds for exact values, after compilation: one diagonal problem of 1,000 features, and a map of many cells.

python benchmarks/exact_values.py --cells 100000 --d 100
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from ttt_jax import Problem, exact_map, exact_risk


def seconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Of the wall and of the processors, per call, the first one not counted."""
    call()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=100)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for evaluation in ("fresh", "same"):
        features, weights = rng.uniform(0.5, 2, 1000), rng.uniform(0, 1, 1000) / 1500
        problem = Problem(500, 2000, rng.normal(size=1000) / 1000**0.5, features, 0.1, evaluation=evaluation)
        wall, cpu = seconds(lambda p=problem, w=weights: exact_risk(p, w), 20)
        print(f"exact_risk, diagonal, d = 1000, {evaluation}: {1e3 * wall:.1f} ms, {1e3 * cpu:.1f} ms of processors")
        n, k = rng.integers(1, 4 * options.d, (2, options.cells))
        noise_var = rng.uniform(0, 1, options.cells)
        wall, cpu = seconds(
            lambda e=evaluation, a=(n, k, noise_var): exact_map(*a, d=options.d, evaluation=e).optimal, 1
        )
        print(
            f"exact_map, {options.cells} cells, d = {options.d}, {evaluation}, at the best step: "
            f"{wall:.2f} s, {cpu:.2f} s of processors"
        )


if __name__ == "__main__":
    main()
