"""Covariances and weights as scalars, diagonals or dense matrices, and the one algebra that serves all three.

Dimension letters, here and in the whole package:

    d features    n context pairs    k training queries of the TTT step    T tasks of one Monte Carlo block
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Scalar = float | Float[Any, ""]


def namespace(*values: Any) -> Any:
    """jax.numpy if one of the values is a JAX array, else numpy.

    A formula with the functions of this module runs under jit, vmap and grad, and compiles nothing for NumPy arrays.
    """
    return jnp if any(isinstance(value, jax.Array) for value in jax.tree.leaves(values)) else np


@dataclass(frozen=True, eq=False)
class LowRankUpdate:
    """The matrix diag(diagonal) + left right', with the part of the array interface that formulas need.

    Products of such matrices stay in this form, so that a formula written with `@`, `+`, `.T` and `trace` costs O(d)
    when its inputs are diagonal and O(d^3) when they are dense arrays, from the same source text.

    Example:
        >>> import jax.numpy as jnp
        >>> a = LowRankUpdate.from_diagonal(jnp.array([1.0, 2.0]))
        >>> a = a + outer(jnp.ones(2), jnp.ones(2), like=a)          # [[2, 1], [1, 3]]
        >>> (a @ a.T @ jnp.ones(2)).tolist(), float(trace(a))
        ([10.0, 15.0], 5.0)
    """

    diagonal: Float[Any, " d"]
    left: Float[Any, "d r"]
    right: Float[Any, "d r"]

    __array_priority__ = 1000  # so that `vector @ operator` reaches __rmatmul__
    __array_ufunc__ = None

    @classmethod
    def from_diagonal(cls, diagonal: Float[Any, " d"]) -> LowRankUpdate:
        empty = namespace(diagonal).zeros((len(diagonal), 0), diagonal.dtype)
        return cls(diagonal, empty, empty)

    @property
    def T(self) -> LowRankUpdate:
        return LowRankUpdate(self.diagonal, self.right, self.left)

    def __matmul__(self, other):
        if not isinstance(other, LowRankUpdate):
            along = self.diagonal * other
            return along + self.left @ (self.right.T @ other) if self.left.shape[1] else along
        xp = namespace(self.diagonal)
        return LowRankUpdate(
            self.diagonal * other.diagonal,
            xp.concatenate([self.left, self.diagonal[:, None] * other.left], axis=1),
            xp.concatenate(
                [other.diagonal[:, None] * self.right + other.right @ (other.left.T @ self.right), other.right], axis=1
            ),
        )

    def __rmatmul__(self, vector):
        return self.T @ vector

    def __add__(self, other: LowRankUpdate) -> LowRankUpdate:
        xp = namespace(self.diagonal)
        return LowRankUpdate(
            self.diagonal + other.diagonal,
            xp.concatenate([self.left, other.left], axis=1),
            xp.concatenate([self.right, other.right], axis=1),
        )

    def __rmul__(self, scalar) -> LowRankUpdate:
        return LowRankUpdate(scalar * self.diagonal, scalar * self.left, self.right)


Operator = Any
"""A d x d matrix, an Array or a LowRankUpdate: formulas use only what the two have in common."""


def operator(matrix: Float[Any, ...], d: int, *, dense: bool) -> Operator:
    """The d x d matrix that a scalar (), diagonal (d,) or dense (d, d) array stands for."""
    if not dense:
        return LowRankUpdate.from_diagonal(diagonal(matrix, d))
    return matrix if matrix.ndim == 2 else namespace(matrix).diag(diagonal(matrix, d))


def diagonal(matrix: Float[Any, ...], d: int) -> Float[Any, " d"]:
    """The diagonal of the d x d matrix that a scalar () or diagonal (d,) array stands for."""
    return namespace(matrix).broadcast_to(matrix, (d,))


def outer(left: Float[Any, " d"], right: Float[Any, " d"], *, like: Operator) -> Operator:
    """left right' in the representation of `like`."""
    if isinstance(like, LowRankUpdate):
        return LowRankUpdate(0 * left, left[:, None], right[:, None])
    return namespace(left).outer(left, right)


def trace(matrix: Operator) -> Scalar:
    """tr(A)."""
    if isinstance(matrix, LowRankUpdate):
        return matrix.diagonal.sum() + (matrix.left * matrix.right).sum()
    return matrix.trace()


def inner(a: Operator, b: Operator) -> Scalar:
    """tr(A'B), without the product when both are dense."""
    if isinstance(a, LowRankUpdate):
        return trace(a.T @ b)
    return (a * b).sum()


def dense(matrix, d: int) -> np.ndarray:
    """The (d, d) NumPy array that a scalar, diagonal or dense covariance stands for.

    Example:
        >>> dense(2.0, 2).tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    matrix = np.asarray(matrix)
    return matrix if matrix.ndim == 2 else np.diag(np.broadcast_to(matrix, (d,)))


def apply(matrix, vector):
    """A v for a scalar, diagonal or dense matrix A; the vector may carry leading batch axes."""
    return matrix * vector if np.ndim(matrix) < 2 else vector @ matrix.T


def simplest(matrix: np.ndarray) -> np.ndarray:
    """The same matrix as a scalar if it is a multiple of the identity, else as a diagonal if it is one.

    Example:
        >>> simplest(np.diag([2.0, 2.0])), simplest(np.diag([2.0, 3.0])), simplest(np.ones((2, 2))).shape
        (array(2.), array([2., 3.]), (2, 2))
    """
    if matrix.ndim == 2:
        entries = np.diag(matrix)
        if np.any(matrix != np.diag(entries)):
            return matrix
        matrix = entries
    return matrix if matrix.ndim == 0 or np.any(matrix != matrix[0]) else np.asarray(matrix[0])


def sqrt(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root R = S^(1/2) of a positive semi-definite S, in the form (scalar, diagonal, dense) of S.

    Example:
        >>> sqrt(np.array([4.0, 9.0])).tolist()
        [2.0, 3.0]
    """
    if covariance.ndim < 2:
        return np.asarray(np.sqrt(covariance))
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
