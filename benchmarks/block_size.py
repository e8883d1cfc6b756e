"""Tasks per second against the block size, for both samplers: what BLOCK_BYTES in `simulation/blocks.py` is chosen by.

python benchmarks/block_size.py --d 64 --sizes 256 1024 4096
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

from ttt_jax import Problem, estimate_risk
from ttt_jax.simulation.estimate import SAMPLERS, make_run

SECONDS = 2.0


def tasks_per_second(problem: Problem, sampler: str, block_size: int) -> float:
    """The best of three runs that last about SECONDS together, compilation not counted."""

    def run(num_tasks: int) -> float:
        started = time.perf_counter()
        estimate_risk(problem, 1 / (1.5 * problem.d), 1e-9, num_tasks=num_tasks, sampler=sampler, block_size=block_size)
        return time.perf_counter() - started

    run(block_size)
    blocks = max(1, round(SECONDS / 3 / run(block_size)))
    run(blocks * block_size)
    return blocks * block_size / min(run(blocks * block_size) for _ in range(3))


def main() -> None:
    """Print a table for each sampler, the default block size marked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, nargs="+", default=[64])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2**i for i in range(6, 19, 2)])
    options = parser.parse_args()
    print(f"tasks per second on {jax.devices()}")
    for d in options.d:
        problem = Problem(d // 2, d, np.ones(d) / d**0.5, np.linspace(0.5, 1.5, d))
        for sampler in SAMPLERS:
            default = make_run(problem, 0.0, (1e-9,), num_tasks=2**20, sampler=sampler).block_size
            print(f"d = {d}, n = {d // 2}, k = {d}, {sampler}, default block {default}")
            for size in options.sizes:
                try:
                    print(f"  {size:>8,} {tasks_per_second(problem, sampler, size):>14,.0f}", flush=True)
                except MemoryError as error:
                    print(f"  {size:>8,}  {error}")
                    break


if __name__ == "__main__":
    main()
