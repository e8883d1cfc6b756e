"""What a sequence of values at growing d tends to, where their deviations are powers of 1/d."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["limit_with_resolution", "value_at_infinity"]


def value_at_infinity(sizes: Sequence[int], values: Sequence[float], stderrs: Sequence[float]) -> tuple[float, float]:
    """The intercept c of values = c + c'/d + c''/d^2 and its standard error, by weighted least squares.

    With two sizes only, the term 1/d^2 is left out.

    Example:
        >>> limit, stderr = value_at_infinity([10, 20], [3.2, 3.1], [0.01, 0.01])       # 3 + 2/d
        >>> round(limit, 6), round(stderr, 4)
        (3.0, 0.0224)
    """
    weight = 1 / np.asarray(stderrs)
    powers = range(min(3, len(sizes)))
    design = weight[:, None] * np.array([[(sizes[0] / d) ** power for power in powers] for d in sizes])
    covariance = np.linalg.inv(design.T @ design)
    return float((covariance @ design.T @ (weight * np.asarray(values)))[0]), math.sqrt(covariance[0, 0])


def limit_with_resolution(sizes: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """The limit of values without noise by Richardson extrapolation, and how far off it may be.

    A polynomial in 1/d goes through the last three points, and one of a degree less through the last two (a line and a
    constant where there are but two points). The resolution is the difference of the two intercepts: with one power of
    1/d left over, the first is nearer to the limit than to the second. Deviations
    must be powers of 1/d, and the sizes large enough for the lowest to be the largest.

    Example:
        >>> limit, resolution = limit_with_resolution([10, 20, 40], [3 + 2 / d + 9 / d**3 for d in (10, 20, 40)])
        >>> abs(limit - 3) <= resolution < 0.002
        True
    """
    most = min(3, len(sizes))
    coarse, fine = (value_at_infinity(sizes[-m:], values[-m:], [1.0] * m)[0] for m in (most - 1, most))
    return fine, abs(fine - coarse)
