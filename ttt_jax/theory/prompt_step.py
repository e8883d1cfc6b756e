"""The best step size for one prompt, which its own pairs tell without the task, and what it leaves of the risk."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import finite_array, positive_integer, weights_array

__all__ = ["prompt_step_fraction", "prompt_step_size"]


def prompt_step_size(
    weights: ArrayLike, context_x: ArrayLike, context_y: ArrayLike, query_x: ArrayLike, query_y: ArrayLike
) -> float:
    """The step size that makes the risk of this prompt smallest, for white queries, no noise and the same context.

        lr = L_train / (2 |u|^2 |v|^2),     u = X'y,  v = Xt'(yt - Xt W u),  L_train = |yt - Xt W u|^2

    W_TT u = W u + 2 lr |u|^2 v, and r'v = L_train for r = b - W u, so that |b - W_TT u| is smallest there; b does not
    enter. With noise in the labels L_train is more than r'v, and the step too long.

    Args:
        weights: W before the step, (), (d,) or (d, d).
        context_x, context_y: the context, (n, d) and (n,).
        query_x, query_y: the training queries, (k, d) and (k,).

    Returns:
        The step size of `GradientStep`; 0 where no step changes anything.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> prompt_step_size(0.0, [[1.0, 0.0]], [1.0], [[1.0, 1.0]], [1.0])     # u = (1, 0), v = (1, 1), L_train = 1
        0.25

    Reference: this project.
    """
    x, y = _pairs("context", context_x, context_y)
    queries, labels = _pairs("query", query_x, query_y)
    if x.shape[1] != queries.shape[1]:
        raise ValueError(f"query_x must have {x.shape[1]} features as context_x has, got {queries.shape[1]}")
    with np.errstate(over="ignore", invalid="ignore"):
        u = x.T @ y
        residual = labels - queries @ linalg.apply(weights_array(weights, len(u)), u)
        v = queries.T @ residual
        scale = 2 * (u @ u) * (v @ v)
        size = float(residual @ residual / scale) if scale else 0.0
    if not math.isfinite(size):
        raise ValueError(f"the step size overflows float64, with |u|^2 |v|^2 = {scale / 2:.3g}: scale the prompt down")
    return size


def prompt_step_fraction(k: int, d: int) -> tuple[float, float]:
    """Mean and variance of the fraction of its risk that the best step size for each prompt leaves.

    The fraction is Beta((d-1)/2, k/2), independent of the risk before, for Sx = c I, no noise, the same context, any W:

        mean = (d-1) / (k+d-1),     variance = 2 k (d-1) / [(k+d-1)^2 (k+d+1)]

    Example:
        >>> prompt_step_fraction(k=2, d=3)
        (0.5, 0.08333333333333333)

    Reference: this project.
    """
    k, total = positive_integer("k", k), k + positive_integer("d", d) - 1
    return (d - 1) / total, 2 * k * (d - 1) / (total**2 * (total + 2))


def _pairs(name: str, x: ArrayLike, y: ArrayLike) -> tuple[Float[np.ndarray, "rows d"], Float[np.ndarray, " rows"]]:
    x, y = finite_array(f"{name}_x", x), finite_array(f"{name}_y", y)
    if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
        raise ValueError(f"{name}_x must be (rows, d) and {name}_y (rows,), got {x.shape} and {y.shape}")
    return x, y
