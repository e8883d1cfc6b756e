"""Tables that another program has drawn and stored: the control arm of pretraining."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttt_jax.tabular.pretraining.prior.tables import Tables


def stored_tables(directory: str | Path, seed: int, step: int, tables: int, rows: int, features: int) -> Tables:
    """Random tables of a random file for this shape, as `experiments/tabicl_prior.py` writes them.

    Raises:
        ValueError: no file has tables of this shape, or one has fewer tables than are asked for.
    """
    files = sorted(Path(directory).glob(f"{rows}x{features}-*.npz"))
    if not files:
        raise ValueError(f"{directory} must have files {rows}x{features}-*.npz, got none")
    rng = np.random.default_rng((seed, step))
    with np.load(rng.choice(np.array(files)), allow_pickle=False) as file:
        stored = Tables(*(file[name] for name in Tables._fields))
    if len(stored.y) < tables:
        raise ValueError(f"tables must be at most the {len(stored.y)} of a file, got {tables}")
    chosen = rng.choice(len(stored.y), tables, replace=False)
    return Tables(stored.x[chosen], stored.y[chosen], stored.num_features[chosen])
