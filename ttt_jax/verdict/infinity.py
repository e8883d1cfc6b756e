"""What a sequence of values at growing d tends to, where their deviations are powers of 1/d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SLOWEST = 0.25
"""Deviations that fall slower than d^-SLOWEST are not extrapolated."""

FASTEST = 1.5
"""Nor those that fall faster than d^-FASTEST, or than its `rate` th power: where a term cancels, the next ones hide."""

LARGEST = 0.5
"""Nor those that are still larger than this at the largest size."""

UNCONFIRMED = 0.1
"""The largest resolution with a given rate that three values do not confirm, for their errors."""

MARGIN, MARGIN_OF_A_GIVEN_RATE = 1.2, 1.05
"""How far the local exponent may be from the true one, as a factor; chosen on the first grid of `check_verdicts`."""

EXPONENTS = np.geomspace(0.01, 20, 4000)


class Limit(NamedTuple):
    """An extrapolation to d = infinity.

    Args:
        value: the limit.
        resolution: how far off it may be; inf where nothing can be said.
        exponent: alpha of the deviations d^-alpha, as the values show it; nan where they do not.
        weights: the extrapolations that were tried, each a linear combination of the last values.
    """

    value: float
    resolution: float
    exponent: float
    weights: Float[np.ndarray, "extrapolations sizes"]


def value_at_infinity(
    sizes: Sequence[int], values: Sequence[float] | np.ndarray, stderrs: Sequence[float] | np.ndarray
) -> tuple[float, float]:
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


def limit_with_resolution(
    sizes: Sequence[int],
    values: Sequence[float] | np.ndarray,
    errors: Sequence[float] | np.ndarray,
    *,
    rate: float | None = None,
    flat: float = 0.0,
) -> Limit:
    """The limit of the last three values c + c' d^-alpha + c'' d^-2alpha + ..., and a bound on how far off it is.

    The three values themselves show an exponent. A line in d^-alpha goes through the last two of them and a parabola
    through all, for every alpha from this exponent to `rate` (to 1 if it is not known) and beyond both by a margin.
    The limit is the middle of their intercepts; the resolution is their whole range, twice what it would be if one of
    them were right, and what the errors add. Two values show no exponent: a constant and a line, at a given rate only.

    Args:
        sizes: d, growing.
        values: one per size.
        errors: bounds on the error of each value.
        rate: alpha, if it is known.
        flat: values that settle no exponent still have a limit, the last, if any exponent >= 1/4 leaves it within this.

    Example:
        >>> sizes = [64, 128, 256]
        >>> limit = limit_with_resolution(sizes, [3 + 2 / d + 9 / d**2 for d in sizes], [0, 0, 0])
        >>> abs(limit.value - 3) < limit.resolution < 0.01, round(limit.exponent, 2)
        (True, 1.07)
        >>> limit_with_resolution(sizes, [-0.53, -0.53, -0.50], [0, 0, 0]).resolution
        inf
    """
    d, y, bound = (np.asarray(a[-3:], float) for a in (sizes, values, errors))
    low, exponent, high = _exponents(d, y, bound) if len(d) == 3 else (0.0, math.nan, math.inf)
    if rate is None:
        resolved = low > SLOWEST and high < FASTEST
        ends = min(low / MARGIN, 1.0), max(high * MARGIN, 1.0)
    else:
        nearest = min(max(rate, low), high)
        resolved = min(SLOWEST, rate / 2) < nearest < FASTEST * rate
        ends = min(nearest, rate) / MARGIN_OF_A_GIVEN_RATE, max(nearest, rate) * MARGIN_OF_A_GIVEN_RATE
    if not resolved:
        largest = max(abs(np.diff(y)) + bound[1:] + bound[:-1])
        resolution = largest / ((d[-1] / d[-2]) ** SLOWEST - 1) + bound[-1]
        return Limit(float(y[-1]), float(resolution) if resolution <= flat else math.inf, exponent, np.eye(len(d))[-1:])
    weights = np.concatenate([_intercepts(d, alpha) for alpha in (ends[0], math.sqrt(ends[0] * ends[1]), ends[1])])
    intercepts = weights @ y
    value = float(intercepts.min() + intercepts.max()) / 2
    resolution = float(np.ptp(intercepts) + (abs(weights) @ bound).max())
    if abs(y[-1] - value) > LARGEST or (len(d) == 3 and low <= SLOWEST and resolution > UNCONFIRMED):
        resolution = math.inf
    return Limit(value, resolution, exponent, weights)


def _exponents(d: np.ndarray, y: np.ndarray, bound: np.ndarray) -> tuple[float, float, float]:
    """The alpha for which c + c' d^-alpha goes through three points, and the smallest and largest within the bounds."""
    x = (d[:, None] / d[-1]) ** -EXPONENTS
    ratios = (x[1] - x[2]) / (x[0] - x[1])  # falls with alpha
    first, second = np.diff(y) if y[1] >= y[0] else -np.diff(y)

    def exponent(second: float, first: float) -> float:
        if first <= 0 or second <= 0:
            return 0.0 if second > 0 else math.inf
        return float(np.interp(second / first, ratios[::-1], EXPONENTS[::-1], left=math.inf, right=0.0))

    slack = bound[:2] + bound[1:]
    low = exponent(second + slack[1], first - slack[0])
    high = exponent(second - slack[1], first + slack[0])
    middle = exponent(second, first)
    return low, middle if 0 < middle < math.inf else math.nan, high


def _intercepts(d: np.ndarray, alpha: float) -> Float[np.ndarray, "2 sizes"]:
    """Two combinations of the values: a line and a parabola in d^-alpha, of two values a constant and a line, at 0."""
    x = (d / d[0]) ** -alpha
    return np.array([[*[0.0] * (len(d) - m), *np.linalg.inv(np.vander(x[-m:]))[-1]] for m in (len(d) - 1, len(d))])
