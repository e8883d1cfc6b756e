"""Microseconds per task of the data path, the law path and the exact formula, beside peers and floors, in one run.

    python benchmarks/throughput.py                       # table on the terminal
    python benchmarks/throughput.py --json out/cpu.json   # and a JSON file

One task is one experiment: a context of n pairs, one gradient step on k queries, a fresh context of n pairs, the risk.
Peers: NumPy with the gradient written out, and torch.func (vmap of grad), each at the best of several batch sizes.
"law path" has features of unequal variances; where every matrix is a multiple of the identity, as in the other paths,
"in a frame" takes its place, with O(1) random numbers per task.
Floors: the random numbers of the path alone, drawn in the same blocks by the same engine. Every contender takes its
turn in every round, and its best round counts. On an accelerator the sizes are d = 64, 256, 1024, and a second floor
is the memory traffic of the stepped weights at the measured bandwidth.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ttt_jax import GradientStep, Problem, exact_risk
from ttt_jax.simulation.accumulate import Tally
from ttt_jax.simulation.estimate import make_run
from ttt_jax.simulation.rows import sum_over_rows
from ttt_jax.simulation.worklist import tallies

CPU_SIZES = (64, 32, 64), (256, 128, 512)
ACCELERATOR_SIZES = tuple((d, d // 2, d) for d in (64, 256, 1024))
BATCHES = 1, 4, 16, 64, 256, 1024
ROUNDS = 5
SECONDS = 0.4
NORMALS_IN_MEMORY = 2**27


def data_floor(key, setting):
    """The normals of the data path, added up."""
    scaled, keys = setting[0], jax.random.split(key, 4)

    def total(key, rows):
        args = scaled.task_mean, scaled.train, scaled.features
        return sum_over_rows(lambda x, y, live: x.sum(0) + y.sum(), key, rows, *args)

    return (total(keys[1], scaled.n) + total(keys[2], scaled.k) + total(keys[3], scaled.n)).sum()[None]


def law_floor(key, setting):
    """The normals and chi-squares of the law path, added up."""
    scaled, _, ((*_, rows),) = setting
    shape, dtype = scaled.task_mean.shape, scaled.task_mean.dtype
    _, key_rows, *keys = jax.random.split(key, 5)
    chi2 = (law(z) for law, z in zip(rows, jax.random.normal(key_rows, (3,), dtype), strict=True))
    return (sum(chi2) + sum(jax.random.normal(own, shape, dtype).sum() for own in keys))[None]


def frame_floor(key, setting):
    """Those of the law path in a frame, added up."""
    _, weight, ((_, law),) = setting
    laws = [one for pair in law.summaries for one in pair]
    numbers = list(jax.random.normal(key, (sum(range(3, 3 + len(law.summaries))),), weight.dtype))
    return (sum(law(z) for law, z in zip(laws, numbers, strict=False)) + sum(numbers[len(laws) :]))[None]


class Contender(NamedTuple):
    """run(count) runs count batches."""

    run: Callable[[int], None]
    batch: int


def engine(problem: Problem, weight: float, lr: float, sampler: str, floor: Callable | None = None) -> Contender:
    """The engine at its own block size, or what only draws the random numbers of it."""
    run = make_run(problem, weight, (GradientStep(lr),), num_tasks=10**6, sampler=sampler)

    def blocks(count: int) -> None:
        work = replace(run, experiment=floor or run.experiment, num_tasks=count * run.block_size)
        for _ in tallies([(work, Tally())]):
            pass

    return Contender(blocks, run.block_size)


def numpy_peer(problem: Problem, weight: float, lr: float, batch: int) -> Contender:
    rng, (d, n, k) = np.random.default_rng(0), (problem.d, problem.n, problem.k)
    task = problem.task.astype(np.float32)

    def context():
        x = rng.standard_normal((batch, n, d), dtype=np.float32)
        return np.matmul((x @ task)[:, None], x)[:, 0]

    def run(count: int) -> None:
        for _ in range(count):
            u = context()
            x = rng.standard_normal((batch, k, d), dtype=np.float32)
            residual = x @ task - np.matmul(x, (weight * u)[..., None])[..., 0]
            v = np.matmul(residual[:, None], x)[:, 0]
            u_new = context()
            predictor = weight * u_new + 2 * lr * v * np.sum(u * u_new, axis=1, keepdims=True)
            np.sum((task - predictor) ** 2, axis=1).mean()

    return Contender(run, batch)


def torch_peer(problem: Problem, weight: float, lr: float, batch: int) -> Contender:
    import torch

    d, n, k = problem.d, problem.n, problem.k
    task = torch.tensor(problem.task, dtype=torch.float32)
    start = weight * torch.eye(d)

    def loss(weights, u, x, y):
        return ((y - x @ (weights @ u)) ** 2).sum()

    def one_task(x_context, x_train, x_new):
        u = (x_context @ task) @ x_context
        stepped = start - lr * torch.func.grad(loss)(start, u, x_train, x_train @ task)
        error = task - stepped @ ((x_new @ task) @ x_new)
        return error @ error

    many = torch.func.vmap(one_task)

    def run(count: int) -> None:
        for _ in range(count):
            many(torch.randn(batch, n, d), torch.randn(batch, k, d), torch.randn(batch, n, d)).mean().item()

    return Contender(run, batch)


def exact(problem: Problem, weight: float) -> Contender:
    def run(count: int) -> None:
        for _ in range(count):
            exact_risk(problem, weight)

    return Contender(run, 1)


def bandwidth() -> float:
    """Bytes per second of adding one to a large array."""
    x = jnp.zeros(2**28, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    add(x).block_until_ready()
    best = min(timed(lambda _: add(x).block_until_ready(), 1) for _ in range(5))
    return 2 * x.nbytes / best


def timed(run: Callable[[int], None], count: int) -> float:
    started = time.perf_counter()
    run(count)
    return time.perf_counter() - started


def measure(contenders: dict[str, Contender]) -> dict[str, float]:
    """Seconds per task of each, the best of ROUNDS, each round in turn."""
    counts, best = {}, dict.fromkeys(contenders, math.inf)
    for name, one in contenders.items():
        one.run(1)
        counts[name] = max(1, round(SECONDS / timed(one.run, 1)))
    for _ in range(ROUNDS):
        for name, one in contenders.items():
            best[name] = min(best[name], timed(one.run, counts[name]) / (counts[name] * one.batch))
    return best


def contenders_at(d: int, n: int, k: int, peers: bool) -> dict[str, Contender]:
    problem, weight = Problem(n, k, np.ones(d) / math.sqrt(d)), 1 / (n + d + 1)
    lr = exact_risk(problem, weight).optimal_lr
    uneven = replace(problem, feature_cov=np.linspace(0.5, 1.5, d))
    runs = {
        "data path": engine(problem, weight, lr, "data"),
        "its normals": engine(problem, weight, lr, "data", data_floor),
        "law path": engine(uneven, weight, lr, "law"),
        "its random numbers": engine(uneven, weight, lr, "law", law_floor),
        "in a frame": engine(problem, weight, lr, "law"),
        "its few numbers": engine(problem, weight, lr, "law", frame_floor),
        "exact formula": exact(problem, weight),
    }
    if peers:
        batches = [batch for batch in BATCHES if batch * k * d <= NORMALS_IN_MEMORY]
        runs |= {f"NumPy, batch {batch}": numpy_peer(problem, weight, lr, batch) for batch in batches}
        if find_spec("torch"):
            runs |= {f"torch.func, batch {batch}": torch_peer(problem, weight, lr, batch) for batch in batches}
    return runs


def best_of(seconds: dict[str, float], peer: str) -> str | None:
    return min((name for name in seconds if name.startswith(peer)), key=seconds.__getitem__, default=None)


def main() -> None:
    """Measure, print, and write the JSON file if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements to FILE")
    parser.add_argument("--sizes", nargs="+", metavar="D,N,K", help="default: see above")
    options = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    sizes = CPU_SIZES if on_cpu else ACCELERATOR_SIZES
    if options.sizes:
        sizes = tuple(tuple(map(int, size.split(","))) for size in options.sizes)
    machine = f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, {platform.machine()}, jax {jax.__version__}"
    print(machine)
    if not find_spec("torch"):
        print("torch is not installed: no torch.func peer")
    record: dict = {"machine": machine, "sizes": []}
    bytes_per_second = None if on_cpu else bandwidth()
    for d, n, k in sizes:
        seconds = measure(contenders_at(d, n, k, peers=on_cpu))
        print(f"\nd = {d}, n = {n}, k = {k}")
        kept = [name for name in seconds if "batch" not in name]
        kept += [name for peer in ("NumPy", "torch") if (name := best_of(seconds, peer))]
        for name in kept:
            print(f"  {name:<26}{1e6 * seconds[name]:12.2f} us per task")
        ratios = {
            "data path / its normals": seconds["data path"] / seconds["its normals"],
            "law path / its random numbers": seconds["law path"] / seconds["its random numbers"],
            "in a frame / its few numbers": seconds["in a frame"] / seconds["its few numbers"],
        }
        for peer in ("NumPy", "torch"):
            if name := best_of(seconds, peer):
                ratios[f"data path / {name}"] = seconds["data path"] / seconds[name]
        if bytes_per_second:
            ratios["data path / traffic of the weights"] = seconds["data path"] * bytes_per_second / (8 * d * d)
        for name, ratio in ratios.items():
            print(f"  {name:<46}{ratio:8.2f}")
        microseconds = {name: 1e6 * value for name, value in seconds.items()}
        record["sizes"].append({"d": d, "n": n, "k": k, "microseconds": microseconds, "ratios": ratios})
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
