"""What a pretraining step costs on this machine: time and speed of its gradient, and the share of making its tables.

    taskset -c 0 python -m benchmarks.pretraining_step [--preset cpu] [--rows 64 512 1024] [--features 8 32]

FLOP are those of the matrix products: a gradient counts as three forward passes, over the real columns only. A CPU pads
columns to the next of few widths, so that the products of padding lower the speed that is shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.pretraining.config import PRESETS
from ttt_jax.tabular.pretraining.objective import loss_and_gradients
from ttt_jax.tabular.pretraining.prior import host_tables

_REPEATS = 3


def flop(config: PFNConfig, rows: int, keys: int, columns: int) -> float:
    """Of the gradient for one table.

    Example:
        >>> config = PFNConfig(128, num_layers=6, num_heads=2, mlp_factor=3, architecture="slots")
        >>> round(flop(config, rows=640, keys=448, columns=12) / 1e9)
        98
    """
    width, all_rows = config.embedding_size, rows + config.thinking_rows
    dense = all_rows * columns * (8 + 2 * config.mlp_factor) * width**2
    between_rows = all_rows * columns * (keys + config.thinking_rows) * 2 * width
    between_columns = all_rows * columns**2 * 2 * width
    return 3 * 2 * config.num_layers * (dense + between_rows + between_columns)


def fastest(f: Callable[[int], Any]) -> float:
    """Seconds of the fastest of a few calls after a first one."""
    seconds = []
    for i in range(_REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(f(i))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def main() -> None:
    """Print a row per size of table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 512, 1024])
    parser.add_argument("--features", type=int, nargs="+", default=[8, 32])
    options = parser.parse_args()
    config = PRESETS[options.preset]
    pfn = PFN.init(config.network)
    print(f"{'rows':>6}{'features':>10}{'tables':>8}{'tables/s':>10}{'GF/s':>8}{'share of the prior':>20}")
    for rows in options.rows:
        for features in options.features:
            one_size = {"rows": (rows,), "row_shares": (1.0,), "features": (features,), "feature_shares": (1.0,)}
            sized = replace(config, most_cells=max(config.most_cells, rows * features), **one_size)
            shape, sizes = sized.shape(0), sized.context_sizes(0)
            tables = host_tables(sized.prior, 0, 0, *shape)

            def step(_: int, tables: Any = tables, most: int = shape.most_context, sizes: Any = sizes) -> Any:
                return loss_and_gradients(pfn, most, tables, sizes)

            made = fastest(lambda i, sized=sized, shape=shape: host_tables(sized.prior, 0, i, *shape))
            seconds = fastest(step)
            work = sum(flop(config.network, rows, shape.most_context, int(c)) for c in np.asarray(tables.num_features))
            print(
                f"{rows:>6}{features:>10}{shape.tables:>8}{shape.tables / seconds:>10.2f}{work / seconds / 1e9:>8.1f}"
                f"{made / (made + seconds):>20.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
