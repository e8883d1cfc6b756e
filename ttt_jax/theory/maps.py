"""The exact risk of many isotropic problems at once: a parabola for every cell of a map over n, k, noise and W."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ttt_jax._internal.validate import choice, finite_array, non_negative, positive_integer, real_array
from ttt_jax.problem import EVALUATIONS
from ttt_jax.theory.exact import risk_coefficients

__all__ = ["RiskMap", "exact_map"]

CELLS = 512
"""Evaluated together: memory does not grow with the map."""


class RiskMap(NamedTuple):
    """The parabola risk(lr) = c0 - c1 lr + c2 lr^2 of every cell; all arrays have the shape of the map.

    Args:
        c0, c1, c2: as in `RiskCurve`.
    """

    c0: Float[np.ndarray, ...]
    c1: Float[np.ndarray, ...]
    c2: Float[np.ndarray, ...]

    @property
    def optimal_lr(self) -> Float[np.ndarray, ...]:
        """The step size of smallest risk, c1 / (2 c2); 0 where no step helps."""
        helps = (self.c1 > 0) & (self.c2 > 0)
        return np.where(helps, self.c1, 0.0) / np.where(helps, 2 * self.c2, 1.0)

    @property
    def optimal(self) -> Float[np.ndarray, ...]:
        """The smallest risk."""
        return self.at(self.optimal_lr)

    def at(self, lr: ArrayLike) -> Float[np.ndarray, ...]:
        """The risk after a step of size lr, one for all cells or one for each."""
        lr = real_array("lr", lr)
        return self.c0 - self.c1 * lr + self.c2 * lr**2


def exact_map(
    n: ArrayLike,
    k: ArrayLike,
    noise_var: ArrayLike = 0.0,
    *,
    d: int,
    weight: ArrayLike | None = None,
    norm2: float = 1.0,
    evaluation: str = "fresh",
) -> RiskMap:
    """`exact_risk` for Sx = I and W = w I, of every cell of arrays that are broadcast together.

    Args:
        n, k: numbers of context pairs and of training queries, >= 1.
        noise_var: label noise, >= 0.
        d: number of features.
        weight: w; None for the pretrained W* of tasks b ~ N(0, I), w = 1 / (n + d + 1 + noise_var).
        norm2: |b|^2 of the task.
        evaluation: "fresh" or "same" context at inference.

    Returns:
        A `RiskMap` of the shape of the arrays.

    Raises:
        ValueError: if an argument is out of range, or the shapes do not fit each other.

    Example:
        >>> ratios = np.linspace(0.5, 2, 4)
        >>> exact_map(n=100 * ratios[:, None], k=[50, 100, 200], d=100).optimal.round(3).tolist()[0]
        [0.584, 0.541, 0.498]
    """
    norm2, d = non_negative("norm2", norm2), positive_integer("d", d)
    choice("evaluation", evaluation, EVALUATIONS)
    given = {"n": n, "k": k, "noise_var": noise_var} | ({} if weight is None else {"weight": weight})
    arrays = {name: finite_array(name, value) for name, value in given.items()}
    for name, smallest in {"n": 1, "k": 1, "noise_var": 0}.items():
        if (arrays[name] < smallest).any():
            raise ValueError(f"{name} must be >= {smallest} in every cell, got {arrays[name].min():g}")
    arrays.setdefault("weight", 1 / (arrays["n"] + d + 1 + arrays["noise_var"]))
    try:
        cells = np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{shapes} must broadcast together") from None
    with jax.enable_x64(True):
        task = jnp.zeros(d).at[0].set(np.sqrt(norm2))
        found = np.asarray(_coefficients(task, np.stack([a.ravel() for a in cells], axis=1), evaluation=evaluation))
    if not np.isfinite(found).all():
        largest = max(norm2, *(float(np.abs(a).max()) for a in arrays.values()))
        raise ValueError(f"the risk overflows float64, with values up to {largest:.3g}: scale them down")
    c0, c1, c2 = found.T.reshape(3, *cells[0].shape)
    return RiskMap(c0, np.maximum(c1, 0.0), c2)  # c1 is a sum of squares: rounding may leave -1e-17


@partial(jax.jit, static_argnames="evaluation")
def _coefficients(
    task: Float[Array, " d"], cells: Float[Array, "cells 4"], *, evaluation: str
) -> Float[Array, "cells 3"]:
    def one(cell):
        n, k, noise_var, weight = cell
        return jnp.stack(risk_coefficients(task, jnp.ones(()), noise_var, weight, n, k, evaluation=evaluation))

    return jax.lax.map(one, cells, batch_size=CELLS)
