"""The markers and lines of the paper's own figures (paper_markers.json), and how far they are from a curve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

FILE = Path(__file__).with_name("paper_markers.json")


@cache
def _figures() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def drawn(figure: str, series: str, kind: str = "markers") -> Float[np.ndarray, "points 2"]:
    """The points (x, risk / |b|^2) of one series, its "markers" (the paper's simulation) or its "lines".

    Example:
        >>> drawn("fig1a", "k/d = 1").shape, drawn("fig2c", "reduction factor 0.2", "lines")[0].tolist()
        ((11, 2), [0.0, 0.66889])
    """
    return np.array(_figures()[figure][kind][series])


def rms(errors: ArrayLike) -> float:
    """The root of the mean square.

    Example:
        >>> rms([3.0, -3.0])
        3.0
    """
    return float(np.sqrt(np.mean(np.square(errors))))


def distance(figure: str, series: str, curves: Mapping[str, ArrayLike], kind: str = "markers") -> str:
    """One line: the RMS and the mean of the paper's values less each curve, which is at the same x.

    Example:
        >>> values = drawn("fig2c", "reduction factor 0.2", "lines")[:, 1]
        >>> distance("fig2c", "reduction factor 0.2", {"half of it": values / 2}, "lines")
        "reduction factor 0.2, the paper's lines less half of it: RMS 0.2175, mean +0.2141"
    """
    values = drawn(figure, series, kind)[:, 1]
    errors = {name: values - np.asarray(curve) for name, curve in curves.items()}
    parts = [f"less {name}: RMS {rms(error):.4f}, mean {np.mean(error):+.4f}" for name, error in errors.items()]
    return f"{series}, the paper's {kind} {'; '.join(parts)}"
