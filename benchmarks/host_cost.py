"""What the host spends on a task, in nanoseconds: to begin a call, to fetch its moments, to add them up.

    python benchmarks/host_cost.py

Of calls that are full, as on a device that does one in less than `SECONDS_PER_CALL`; the devices' own time is waited
for and left out. It is a bound on the tasks per second of any number of devices.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ttt_jax import Problem, estimate_risk
from ttt_jax.simulation import worklist
from ttt_jax.simulation.accumulate import Tally

D, FULL_CALLS = 64, 8
PARTS = {"begin": (worklist._Group, "dispatch"), "fetch": (worklist._Group, "collect"), "add": (Tally, "add")}


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The same function, which waits for its arguments and notes how long it takes then."""

    def run(*arguments: Any) -> Any:
        jax.block_until_ready(arguments[1:])
        started = time.perf_counter()
        found = function(*arguments)
        seconds.append(time.perf_counter() - started)
        return found

    return run


def main() -> None:
    seconds: dict[str, list[float]] = defaultdict(list)
    for part, (owner, name) in PARTS.items():
        setattr(owner, name, timed(getattr(owner, name), seconds[part]))
    worklist.SECONDS_PER_CALL = np.inf  # calls grow until they are full
    problem, most = Problem(n=D, k=D, task=np.ones(D), feature_cov=np.linspace(0.5, 1.5, D)), worklist.BLOCKS_PER_CALL
    options = {"sampler": "law", "block_size": 4096}
    estimate_risk(problem, 0.005, 1e-6, num_tasks=(2 + FULL_CALLS) * most * options["block_size"], **options)
    per_task = {part: np.median(found[-FULL_CALLS:]) / most / options["block_size"] for part, found in seconds.items()}
    words = ", ".join(f"{part} {1e9 * cost:.2f}" for part, cost in per_task.items())
    print(f"ns per task: {words}, together {1e9 * sum(per_task.values()):.2f}; d = {D}, law, calls of {most} blocks")


if __name__ == "__main__":
    main()
