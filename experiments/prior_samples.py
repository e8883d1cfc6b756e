"""A few tables of the prior, as scatter plots: `python -m experiments.prior_samples --out docs/figures`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from ttt_jax.tabular.pretraining.prior import MAX_CLASSES, sample_tasks


def draw(seed: int = 0) -> Figure:
    """Twelve tables of two columns and 300 rows; colours are classes, missing values lie at the lower left edges."""
    x, y = (
        np.asarray(a) for a in sample_tasks(jax.random.key(seed, impl="threefry2x32"), tables=12, rows=300, features=2)
    )
    figure = Figure(figsize=(9, 6.8), layout="constrained", dpi=100)
    for axes, points, labels in zip(figure.subplots(3, 4).flat, x, y, strict=True):
        low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
        points = np.where(np.isnan(points), low - 0.1 * (high - low + 1e-9), points)
        axes.scatter(*points.T, c=labels, s=6, cmap="tab10", vmin=0, vmax=MAX_CLASSES - 1)
        axes.set(xticks=[], yticks=[], title=f"{len(set(labels))} classes")
    return figure


def main(argv: list[str] | None = None) -> int:
    """Write prior_samples.png."""
    parser = argparse.ArgumentParser(prog="python -m experiments.prior_samples", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="directory (default: docs/figures)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(arguments.seed).savefig(arguments.out / "prior_samples.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
