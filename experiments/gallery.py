"""docs/figures from the records in experiments/results: `python -m experiments.gallery [NAME ...]`.

Nothing is simulated. drawn.json beside the figures holds some points of every line and every word in them, and a PNG
the digest of its part of that: a test draws the figures anew and compares.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from experiments import fig3a_report, prior_samples
from experiments.figure import read_rows
from ttt_jax._internal.command import OneLineParser

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent / "docs" / "figures"
RECORDS = {file.stem: file for preset in ("quick", "paper") for file in sorted((RESULTS / preset).glob("*.csv"))}
"""The record of each experiment, at the paper's size where there is one."""
NAMES = *RECORDS, "fig3a", "prior_samples"
PIXELS = 990
"""The width of every figure."""


def figure_of(name: str) -> Figure:
    """One figure, from its record."""
    if name == "fig3a":
        return fig3a_report.draw(fig3a_report.read_rows(fig3a_report.RECORD))
    if name == "prior_samples":
        return prior_samples.draw()
    file = RECORDS[name]
    return importlib.import_module(f"experiments.{name}").draw(file.parent.name, read_rows(file)).figure


def content(figure: Figure) -> list[dict[str, Any]]:
    """What is on the axes: words, and of each line its colour and at most nine points, to six digits, and of dots too.

    Example:
        >>> figure = Figure()
        >>> _ = figure.subplots().plot([1.0, 2.0], [3.0, 1 / 3], color="black")
        >>> content(figure)
        [{'words': ['', '', ''], 'lines': [['black', [[1.0, 3.0], [2.0, 0.333333]]]]}]
    """
    axes = []
    for one in figure.axes:
        words = [one.get_title(), one.get_xlabel(), one.get_ylabel(), *(text.get_text() for text in one.texts)]
        lines = [[str(line.get_color()), _points(line.get_xydata())] for line in one.lines]
        dots = [["dots", _points(dots.get_offsets())] for dots in one.collections if isinstance(dots, PathCollection)]
        axes.append({"words": words, "lines": lines + dots})
    return axes


def _points(values: Any) -> list[list[float | None]]:
    points = np.asarray(values, float)
    shown = points[np.unique(np.linspace(0, len(points) - 1, 9).astype(int))] if len(points) else points
    return [[float(f"{value:.6g}") if np.isfinite(value) else None for value in point] for point in shown]


def digest(what: list[dict[str, Any]]) -> str:
    """A name for the content of a figure."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def main(argv: list[str] | None = None) -> int:
    """Draw the figures, all if none is named."""
    parser = OneLineParser(
        prog="python -m experiments.gallery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; default: all")
    names = parser.parse_args(argv).names or NAMES
    for name in names:
        if name not in NAMES:
            parser.error(f"NAME must be one of {', '.join(NAMES)}, got {name!r}")
    file = FIGURES / "drawn.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    for name in names:
        figure = figure_of(name)
        known[name] = content(figure)
        dpi = PIXELS / figure.get_figwidth()
        figure.savefig(FIGURES / f"{name}.png", dpi=dpi, metadata={"Comment": digest(known[name])})
        print(f"wrote {FIGURES / name}.png")
    parts = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
    file.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
