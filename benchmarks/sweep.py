"""A sweep of short cells beside its random numbers alone, and one of theory alone, in one run.

    python benchmarks/sweep.py                        # 1,000 cells of 20,000 tasks at d = 64, 10,000 of theory
    python benchmarks/sweep.py --cells 40 --theory 200

The cells have features of unequal variances. The random numbers of every cell are drawn by the same engine, in the same
blocks, and nothing else; each is compiled before it is timed. Seconds are those of a clock, and in brackets those of
the processor, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from throughput import law_floor

from ttt_jax.simulation.accumulate import Tally
from ttt_jax.simulation.worklist import tallies
from ttt_jax.sweep.run import run_sweep
from ttt_jax.sweep.spec import load_spec

SPEC = """
[sweep]
num_tasks = {tasks}
[grid]
d = 64
n = {n}
k = {k}
noise_var = 0.1
lr = 1e-9
shift = "features"
"""
TASKS = 20_000


def write_spec(folder: Path, cells: int, tasks: int) -> Path:
    """Nearly square in n and k."""
    side = max(1, round(math.sqrt(cells)))
    path = folder / f"{tasks}-{cells}.toml"
    path.write_text(SPEC.format(tasks=tasks, n=list(range(16, 16 + side)), k=list(range(40, 40 + cells // side))))
    return path


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def draw_alone(path: Path) -> tuple[float, float]:
    """What the random numbers of all cells take."""
    spec, _ = load_spec(path)
    runs = (spec.run(cell, *cell.problem(), cell.what(), None) for cell in spec.cells)
    works = [(replace(run, experiment=law_floor), Tally()) for run in runs]
    list(tallies(works[:1]))
    return timed(lambda: list(tallies(works)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--theory", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run_sweep(write_spec(folder, 1, TASKS), folder / "compiled", progress=False)
        cells = write_spec(folder, options.cells, TASKS)
        taken = timed(lambda: run_sweep(cells, folder / "cells", progress=False))
        alone = draw_alone(cells)
        count = len(load_spec(cells)[0].cells)
        for name, (clock, processor) in {f"{count} cells": taken, "their random numbers": alone}.items():
            print(f"{name:<24}{clock:9.2f} s ({processor:.2f} s)", flush=True)
        print(f"{'ratio':<24}{taken[0] / alone[0]:9.2f}   ({taken[1] / alone[1]:.2f})", flush=True)
        theory = write_spec(folder, options.theory, 0)
        clock, processor = timed(lambda: run_sweep(theory, folder / "theory", progress=False))
        count = len(load_spec(theory)[0].cells)
        print(f"{f'{count} of theory alone':<24}{clock:9.2f} s ({processor:.2f} s)")


if __name__ == "__main__":
    main()
