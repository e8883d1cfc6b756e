"""A few tables of the prior, as scatter plots: `python -m experiments.prior_samples`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.prior_learnability import one_kind
from ttt_jax import plotting
from ttt_jax._internal.command import OneLineParser
from ttt_jax.tabular.pretraining.prior import KINDS, PriorConfig, host_tables

_TITLES = {
    "graph": "causal graph",
    "extra_trees": "random trees",
    "boosting": "boosted trees",
    "rules": "rules on categories",
}


@plotting.in_style()
def draw(seed: int = 0) -> Figure:
    """Five tables of two columns and 400 rows for each kind of table; the lightness is the class."""
    figure = plotting.blank(2 * plotting.WIDTH, 5.6)
    rng = np.random.default_rng(seed)
    for i, (row, kind) in enumerate(zip(figure.subplots(len(KINDS), 5), KINDS, strict=True)):
        tables = host_tables(one_kind(kind, PriorConfig()), seed, i, len(row), rows=400, features=2)
        for axes, x, y in zip(row, tables.x, tables.y, strict=True):
            axes.scatter(*_shown(rng, x).T, c=y, s=2.5, linewidths=0, cmap="cividis", vmin=0, vmax=1.1 * y.max())
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
        row[0].set_ylabel(_TITLES[kind], fontsize=8)
    return figure


def _shown(rng: np.random.Generator, x: Float[np.ndarray, "R 2"]) -> Float[np.ndarray, "R 2"]:
    """Columns between 0 and 1, outliers at the border, equal values side by side, missing ones below 0."""
    low, high = np.nanquantile(x, [0.01, 0.99], axis=0)
    x = np.where(np.isnan(x), -0.15, np.clip((x - low) / np.maximum(high - low, 1e-9), 0, 1))
    levels = np.array([len(np.unique(column)) for column in x.T])
    return x + np.where(levels < 20, 0.5 / levels, 0) * rng.uniform(-0.5, 0.5, x.shape)


def main(argv: list[str] | None = None) -> int:
    """Write prior_samples.png."""
    parser = OneLineParser(prog="python -m experiments.prior_samples", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="directory (default: out)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        parser.error(f"--seed must be an integer >= 0, got {arguments.seed}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(arguments.seed).savefig(arguments.out / "prior_samples.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
