"""How often nominal 95% intervals of the Monte Carlo mean cover the exact risk, beside what `stderr_reliable` says.

    python benchmarks/coverage.py

Each row is one problem and run length: the share of the variance from events rarer than one in a run
(`ttt_jax.simulation.reliability`; the flag is True up to MAX_UNSEEN_VARIANCE), the coverage over
independent runs, and its binomial standard error.
"""

from __future__ import annotations

import itertools

import numpy as np

from ttt_jax import GradientStep, Problem, exact_risk
from ttt_jax.simulation.estimate import MAX_UNSEEN_VARIANCE, make_run
from ttt_jax.simulation.reliability import unseen_variance
from ttt_jax.simulation.worklist import all_draws

SIZES = [(1, 1, 1), (1, 1, 3), (2, 2, 2), (3, 5, 2), (3, 3, 10), (5, 5, 5), (2, 40, 20), (10, 20, 10), (20, 40, 20)]
LENGTHS = (1_000, 20_000)
NUM_TASKS = 2**21


def main():
    """Print the rows, least reliable first, and the mean coverage on either side of the flag."""
    rows = []
    for (n, k, d), evaluation, fraction in itertools.product(SIZES, ("fresh", "same"), (0.3, 1.0)):
        problem = Problem(n, k, np.ones(d) / np.sqrt(d), evaluation=evaluation)
        weights = np.asarray(1 / (n + d + 1))
        curve = exact_risk(problem, weights)
        lr = fraction * curve.optimal_lr
        run = make_run(problem, weights, (GradientStep(lr),), num_tasks=NUM_TASKS, sampler="law", block_size=4096)
        risks = np.concatenate(list(all_draws(run)))[:, 0]
        for length in LENGTHS:
            runs = risks[: len(risks) // length * length].reshape(-1, length)
            z = (runs.mean(axis=1) - curve.at(lr)) / (runs.std(axis=1, ddof=1) / np.sqrt(length))
            share = unseen_variance(problem, weights, lr, length)
            rows.append(
                (share, np.mean(abs(z) < 1.96), len(runs), f"{n:3} {k:3} {d:3}  {evaluation:5} {fraction:4}", length)
            )
    print("unseen variance  coverage  +-     n   k   d  context  lr/optimal  tasks per run")
    for share, coverage, count, name, length in sorted(rows, reverse=True):
        print(f"{share:15.3f}  {coverage:8.3f}  {np.sqrt(0.05 * 0.95 / count):.3f}  {name}  {length:6}")
    for flag in (True, False):
        side = [coverage for share, coverage, *_ in rows if (share <= MAX_UNSEEN_VARIANCE) is flag]
        spread = f"{min(side):.3f} to {max(side):.3f}, mean {np.mean(side):.3f}"
        print(f"stderr_reliable {flag}: {len(side)} rows, coverage {spread}")


if __name__ == "__main__":
    main()
