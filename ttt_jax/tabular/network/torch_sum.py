"""Sums over rows with PyTorch's order of additions on a CPU.

The order matters for a column that is constant in the context. Whether its mean rounds to exactly that constant decides
whether its standard deviation is 0, which means no scaling, or tiny, which means scaling to the clip at 100.

PyTorch adds in one of two orders. The columns that fill whole blocks of vector registers are added by sixteens of rows,
then by sixteens of these sums, and so on. The columns left over are first dealt to four accumulators, row by row.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_REGISTER_BYTES = 32
_ACCUMULATORS = 4


def sum_rows(
    x: Float[Array, "R ..."], num_rows: int | Int[Array, ""], num_columns: int | Int[Array, ""]
) -> Float[Array, " *columns"]:
    """Sum over the first `num_rows` rows, added as in a table of `num_columns` columns (the rest are padding).

    Example:
        >>> import jax.numpy as jnp
        >>> sum_rows(jnp.ones((5, 2)), num_rows=3, num_columns=2).tolist()
        [3.0, 3.0]
    """
    columns = x.reshape(x.shape[0], -1)
    row = jnp.arange(x.shape[0])[:, None]
    columns = jnp.where(row < num_rows, columns, 0)
    by_sixteens = _by_sixteens(columns)

    dealt = num_rows // _ACCUMULATORS * _ACCUMULATORS
    padded = _pad_rows(jnp.where(row < dealt, columns, 0), _ACCUMULATORS)
    first, *others = _by_sixteens(padded.reshape(-1, _ACCUMULATORS, columns.shape[1]))
    rest = jnp.take(columns, dealt + jnp.arange(_ACCUMULATORS - 1), axis=0, mode="fill", fill_value=0)
    by_fours = _in_order(jnp.stack([_in_order(jnp.concatenate([first[None], rest])), *others]))

    register = _REGISTER_BYTES // x.dtype.itemsize
    block = jnp.where(num_columns < register, _ACCUMULATORS, _ACCUMULATORS * register)
    in_blocks = jnp.arange(columns.shape[1]) < num_columns // block * block
    return jnp.where(in_blocks, by_sixteens, by_fours).reshape(x.shape[1:])


def _by_sixteens(x: Float[Array, "R ..."]) -> Float[Array, " *rest"]:
    for _ in range(3):
        if x.shape[0] > 16:
            x = _pad_rows(x, 16)
            x = _in_order(x.reshape(-1, 16, *x.shape[1:]).swapaxes(0, 1))
    return _in_order(x)


def _pad_rows(x: Float[Array, "R ..."], multiple: int) -> Float[Array, "R2 ..."]:
    return jnp.pad(x, [(0, -x.shape[0] % multiple), *[(0, 0)] * (x.ndim - 1)])


def _in_order(x: Float[Array, "terms ..."]) -> Float[Array, " *rest"]:
    if x.shape[0] <= 16:
        return reduce(add, x)
    return jax.lax.scan(lambda total, term: (total + term, None), jnp.zeros_like(x[0]), x)[0]
