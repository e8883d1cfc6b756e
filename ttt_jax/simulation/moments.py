"""Streaming moments of a sample: what a Monte Carlo run keeps in place of its draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Moments"]


@dataclass(frozen=True)
class Moments:
    """Count, mean and the sums of second, third and fourth powers of the deviations from the mean, in float64.

    Merging is exact up to rounding, so a sample may be cut into blocks; the order of merging fixes the rounding.

    Example:
        >>> a = Moments.of([1.0, 2.0]).merge(Moments.of([3.0, 6.0]))
        >>> a.count, a.mean, round(a.variance, 4)
        (4, 3.0, 4.6667)

    Reference: Chan, Golub, LeVeque (1979); Pebay (2008), equations 3.1.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    @classmethod
    def of(cls, values: ArrayLike) -> Moments:
        """The moments of an array of numbers."""
        values = np.asarray(values, dtype=np.float64)
        if not values.size:
            return cls()
        mean = values.mean()
        deviation = values - mean
        square = deviation * deviation
        return cls(values.size, float(mean), float(square.sum()), float(square @ deviation), float(square @ square))

    def merge(self, other: Moments) -> Moments:
        """The moments of both samples together."""
        if not (self.count and other.count):
            return self if self.count else other
        a, b = self.count, other.count
        n = a + b
        delta = other.mean - self.mean
        step = delta / n
        return Moments(
            n,
            self.mean + step * b,
            self.m2 + other.m2 + delta * step * a * b,
            self.m3 + other.m3 + delta * step * step * a * b * (a - b) + 3 * step * (a * other.m2 - b * self.m2),
            self.m4
            + other.m4
            + delta * step**3 * a * b * (a * a - a * b + b * b)
            + 6 * step**2 * (a * a * other.m2 + b * b * self.m2)
            + 4 * step * (a * other.m3 - b * self.m3),
        )

    @property
    def variance(self) -> float:
        """Unbiased variance; nan for fewer than two values."""
        return self.m2 / (self.count - 1) if self.count > 1 else math.nan

    @property
    def stderr(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(self.variance / self.count) if self.count > 1 else math.nan

    @property
    def skewness(self) -> float:
        """Third standardised moment, 0 for a symmetric law."""
        return math.sqrt(self.count) * self.m3 / self.m2**1.5 if self.m2 > 0 else 0.0

    @property
    def kurtosis(self) -> float:
        """Fourth standardised moment, 3 for a Gaussian (not the excess)."""
        return self.count * self.m4 / self.m2**2 if self.m2 > 0 else 3.0
