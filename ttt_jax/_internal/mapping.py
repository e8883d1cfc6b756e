"""One formula for many cases: compiled where they are many, in NumPy where a compilation would take longer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

_MANY = 256


def map_rows(
    function: Callable[..., tuple], rows: PyTree, fixed: dict[str, Any], *, evaluation: str
) -> Float[np.ndarray, "rows values"]:
    """function(row, evaluation=evaluation, **fixed) for every row, the fixed arguments in float64.

    Example:
        >>> def line(x, slope, evaluation):
        ...     return x, slope * x
        >>> map_rows(line, np.array([1.0, 2.0]), {"slope": 3.0}, evaluation="fresh")
        array([[1., 3.],
               [2., 6.]])
    """
    fixed = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), fixed)
    count = len(jax.tree.leaves(rows)[0])
    if count < _MANY:
        each = (jax.tree.map(lambda leaf, i=i: leaf[i], rows) for i in range(count))
        return np.array([function(row, evaluation=evaluation, **fixed) for row in each])
    with jax.enable_x64(True):
        return np.stack(_compiled(function, rows, fixed, evaluation=evaluation), axis=1)


@partial(jax.jit, static_argnums=0, static_argnames="evaluation")
def _compiled(function: Callable[..., tuple], rows: PyTree, fixed: dict[str, Any], *, evaluation: str) -> tuple:
    return jax.lax.map(lambda row: function(row, evaluation=evaluation, **fixed), rows)
