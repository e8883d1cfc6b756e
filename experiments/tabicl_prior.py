"""Store tables of TabICL's prior, for a control arm of pretraining: what does another prior teach the same network?

It needs a Python with `tabicl` (BSD-3) and its PyTorch, and nothing of this package:

    python -m venv tabicl-venv
    tabicl-venv/bin/pip install torch tabicl==2.2.0 xgboost
    tabicl-venv/bin/python experiments/tabicl_prior.py --out shards --rows 512 --features 16 --files 20

`ttt_jax.tabular.pretraining.prior.stored.stored_tables` reads the files.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np


def batch(seed: int, tables: int, rows: int, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and num_features, as `Tables` has them: 2 to `features` columns, few more often than many."""
    import torch
    from tabicl.prior import PriorDataset
    from tabicl.prior.graph_lib._config import PriorConfig

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what tabicl draws from)
    torch.manual_seed(seed)
    prior = PriorDataset(
        prior_type="graph_scm",
        batch_size=tables,
        batch_size_per_gp=1,
        max_features=features,
        log_n_features=True,
        max_seq_len=rows,
        config=PriorConfig(filter_unpredictable_datasets=True),
        n_jobs=1,
    )
    x, y, num_features, _, _ = (part.numpy() for part in prior.get_batch())
    x = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (0, features - x.shape[2])))
    x[np.broadcast_to(np.arange(features) >= num_features[:, None, None], x.shape)] = 0
    return x, y.astype(np.int32), num_features.astype(np.int32)


def main(argv: list[str] | None = None) -> int:
    """Write ROWSxFEATURES-NUMBER.npz; files that are there already are kept."""
    parser = argparse.ArgumentParser(prog="python experiments/tabicl_prior.py", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of the files")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--features", type=int, required=True)
    parser.add_argument("--tables", type=int, default=128, help="in each file (default: 128)")
    parser.add_argument("--files", type=int, default=1, help="default: 1")
    parser.add_argument("--seed", type=int, default=0, help="of file 0; file i has seed + i (default: 0)")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    shape = arguments.rows, arguments.features
    for i in range(arguments.files):
        file = arguments.out / f"{shape[0]}x{shape[1]}-{arguments.seed + i:06d}.npz"
        if not file.exists():
            x, y, num_features = batch(arguments.seed + i, arguments.tables, *shape)
            scratch = file.with_suffix(".new")
            with scratch.open("wb") as stream:
                np.savez(stream, x=x, y=y, num_features=num_features)
            scratch.replace(file)
            print(f"wrote {file}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
