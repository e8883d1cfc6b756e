"""Seconds that `TTTClassifier()` takes on 1,000 rows of 20 columns; the second time nothing is compiled.

python -m benchmarks.tabular_fit --weights default
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_jax.tabular import TTTClassifier


def timed(name: str, work: Callable[[], Any]) -> None:
    """Print the time on the clock and that of all processors together."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(f"{name:24}{time.perf_counter() - wall:8.1f} s  {time.process_time() - cpu:8.1f} CPU s", flush=True)


def main() -> None:
    """Time them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="default")
    model = TTTClassifier(parser.parse_args().weights, patience=9)  # all updates, whatever the held-out rows say
    X = np.random.default_rng(0).normal(size=(1000, 20))
    y = X[:, 0] + X[:, 1] * X[:, 2] > 0
    for name in ("first fit", "second fit"):
        timed(name, lambda: model.fit(X, y))
    for name in ("first prediction, 200", "second prediction, 200"):
        timed(name, lambda: model.predict_proba(X[:200]))


if __name__ == "__main__":
    main()
