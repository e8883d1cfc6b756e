"""A chi-square from one standard normal z: its quantile at the probability of z, as a polynomial.

Rejection takes a loop, in which a block of tasks waits for its last. The quantile takes one normal and no branch:

    chi2(m) = m (1 + p(z))^3,

p the Chebyshev interpolant of what is left, small, smooth and nearly linear (Wilson and Hilferty). It is nearer to the
quantile than the rounding of float32, or to 1e-11 in float64.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SINGLE, DOUBLE = (5.6, 24), (8.4, 64)
"""The largest normal that JAX draws in a precision, rounded up, and the degree of the polynomial."""
MANY = 100_000
"""Degrees of freedom from which the expansion of Cornish and Fisher is the better quantile."""


class ChiSquare(NamedTuple):
    """The law chi2(degrees), as a function of a standard normal.

    Example:
        >>> [f"{x:.3f}" for x in ChiSquare.of(3)(jnp.array([-1.0, 0.0, 1.0]))]
        ['0.834', '2.366', '5.186']
    """

    degrees: Float[Any, ""]
    reach: Float[Any, ""]
    series: Float[Any, " terms"]

    @classmethod
    def of(cls, degrees: int) -> ChiSquare:
        """With so many degrees of freedom >= 1, in the precision that JAX has now."""
        reach, degree = DOUBLE if jnp.result_type(float) == np.float64 else SINGLE
        return cls(float(degrees), reach, _series(degrees, reach, degree))

    def __call__(self, z: Float[Array, "*sizes"]) -> Float[Array, "*sizes"]:
        x = z / self.reach
        last = before = jnp.zeros_like(x)
        for j in range(len(self.series) - 1, 0, -1):  # Clenshaw
            last, before = self.series[j] + 2 * x * last - before, last
        root = 1 + (self.series[0] + x * last - before)
        return jnp.where(self.degrees == 1, z * z, self.degrees * root**3)


@lru_cache(1024)
def _series(degrees: int, reach: float, degree: int) -> Float[np.ndarray, " terms"]:
    return np.polynomial.chebyshev.chebinterpolate(lambda x: np.cbrt(_quantile(degrees, reach * x)) - 1, degree)


def _quantile(degrees: int, z: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """That of chi2/degrees at the probability of z; scipy loses digits where there are many degrees."""
    from scipy.special import gammainccinv, gammaincinv, ndtr  # takes a tenth of a second to import

    if degrees < MANY:
        tail = ndtr(-np.abs(z))
        return np.where(z < 0, gammaincinv(degrees / 2, tail), gammainccinv(degrees / 2, tail)) * 2 / degrees
    s = math.sqrt(2 / degrees)
    terms = (
        1 + s * z,
        s**2 / 3 * (z**2 - 1),
        s**3 / 36 * (z**3 - 7 * z),
        -(s**4) / 810 * (3 * z**4 + 7 * z**2 - 16),
        s**5 / 38880 * (9 * z**5 + 256 * z**3 - 433 * z),
    )
    return np.sum(terms[::-1], axis=0)
