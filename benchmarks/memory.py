"""Peak memory of a law-level run above start-up: it does not grow with the number of tasks.

python benchmarks/memory.py --tasks 1000000 10000000
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from ttt_jax import Problem, estimate_risk


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print a line per number of tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--d", type=int, default=64)
    options = parser.parse_args()
    d, before = options.d, peak_bytes()
    problem = Problem(d // 2, d, np.ones(d) / np.sqrt(d))
    for tasks in options.tasks:
        started = time.perf_counter()
        estimate_risk(problem, 1 / (1.5 * d), 1e-6, num_tasks=tasks, sampler="law")
        seconds, above = time.perf_counter() - started, peak_bytes() - before
        print(f"{tasks:>12,} tasks, d = {d}: {seconds:6.1f} s, peak {above / 2**30:.2f} GiB above start-up", flush=True)


if __name__ == "__main__":
    main()
