"""The exact mean spectral density of a real Wishart matrix X'X, and averages over its eigenvalues.

Of m = min(N, d) nonzero eigenvalues s, with a = |N - d|, the orthonormal Laguerre functions u_j of weight s^a e^-s and
psi_j = u_j / sqrt(s), the density is

    rho = sum_{j < m-1} u_j^2 - sqrt((m-1)(m-1+a))/2 psi_{m-1} e + [m odd] psi_{m-1} / int psi_{m-1},
    e(s) = (int_0^s - int_s^inf) psi_{m-2} / 2.

The sum is the density of a complex Wishart matrix of m - 1 eigenvalues. The cost is O(m N) operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre

__all__ = ["eigenvalue_sum"]

NODES = 32
"""Gauss-Legendre nodes of one panel of the quadrature."""
STRETCH = 8
"""Steps of the recursion within which no value can leave the range of float64."""


def eigenvalue_sum(
    function: Callable[[Float[np.ndarray, " points"]], Float[np.ndarray, " points"]], rows: int, d: int, pole: float
) -> float:
    """E sum f(s) over the min(rows, d) nonzero eigenvalues s of X'X, X a (rows, d) standard Gaussian matrix.

    Args:
        function: f, applied to an array of eigenvalues, smooth for s > 0.
        rows: number of rows N.
        d: number of columns.
        pole: > 0; f may have a pole at -pole, however near to 0 that is.

    Example:
        >>> round(eigenvalue_sum(lambda s: 1 / s, rows=9, d=4, pole=1.0), 12)  # d / (N - d - 1)
        1.0

    Reference: Adler, Forrester, Nagao, van Moerbeke (2000) have the density of the orthogonal ensembles in this form.
    """
    nodes, masses = _density(rows, d, pole)
    return float(masses @ function(nodes))


@lru_cache(32)
def _density(rows: int, d: int, pole: float) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Nodes, and the density of the eigenvalues there times their weights."""
    m, a = min(rows, d), abs(rows - d)
    grid = _grid(rows, d, pole)
    s = grid.nodes
    log = ((a - 1) * np.log(s) - s) / 2  # psi = now exp(log): the functions span hundreds of orders of magnitude
    log -= log.max() + np.log(grid.weights @ (s * np.exp(2 * (log - log.max())))) / 2
    before, now, squares = np.zeros_like(s), np.ones_like(s), np.zeros_like(s)
    for j in range(1, m):
        squares += now**2
        after = (2 * j - 1 + a - s) * now - math.sqrt((j - 1) * (j - 1 + a)) * before
        before, now = now, after / math.sqrt(j * (j + a))
        if j % STRETCH == 0:
            size = np.hypot(before, now)
            before, now, squares, log = before / size, now / size, squares / size**2, log + np.log(size)
    psi_before, psi = before * np.exp(log), now * np.exp(log)
    density = s * squares * np.exp(2 * log)
    density -= math.sqrt((m - 1) * (m - 1 + a)) / 2 * psi * grid.centred_integral(psi_before)
    if m % 2:
        density += psi / (grid.weights @ psi)
    return s, grid.weights * density


class _Grid(NamedTuple):
    """Panels of Gauss-Legendre nodes, one after the other; slopes are weights per weight of [-1, 1]."""

    nodes: Float[np.ndarray, " points"]
    weights: Float[np.ndarray, " points"]
    slopes: Float[np.ndarray, " points"]

    def centred_integral(self, values: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        """Half the difference of the integrals below and above each node."""
        inside = (values * self.slopes).reshape(-1, NODES) @ _ANTIDERIVATIVE.T
        whole = (values * self.weights).reshape(-1, NODES).sum(axis=1)
        below = np.cumsum(whole) - whole
        return (below[:, None] + inside).ravel() - whole.sum() / 2


_NODES, _WEIGHTS = legendre.leggauss(NODES)
_INTERPOLATE = legendre.legvander(_NODES, NODES - 1).T * _WEIGHTS * (np.arange(NODES) + 0.5)[:, None]
_ANTIDERIVATIVE = legendre.legval(_NODES, legendre.legint(_INTERPOLATE, lbnd=-1)).T
"""From values at the nodes to integrals from -1 to the nodes, of the polynomial through them."""


def _grid(rows: int, d: int, pole: float) -> _Grid:
    """Nodes s = pole sinh(t)^2 for t from 0 to where no mass is left in float64.

    In t a pole at -pole has the distance pi/2 from the axis, and the functions oscillate m times in the bulk.
    """
    end = math.asinh((math.sqrt(rows) + math.sqrt(d) + 9) / math.sqrt(pole))
    count = math.ceil(4 + end * (4 + math.sqrt(rows * d) / 10))
    half = end / (2 * count)
    t = (half * (2 * np.arange(count)[:, None] + 1 + _NODES)).ravel()
    slopes = half * pole * np.sinh(2 * t)
    return _Grid(pole * np.sinh(t) ** 2, np.tile(_WEIGHTS, count) * slopes, slopes)
