"""The sizes that arrays are computed in: blocks that fit the cache, and buckets that share a compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def map_in_blocks(f: Callable[..., Any], xs: Any, elements_per_item: int, elements_at_once: int | None = None) -> Any:
    """`jax.vmap(f)(xs)`, a block of items at a time if their temporary arrays are too large to hold at once.

    Args:
        f: a function of one item.
        xs: array or pytree of arrays with a leading axis of items.
        elements_per_item: size of the temporary arrays that `f` needs for one item.
        elements_at_once: the most that are held at once; None for what fits the cache.

    Blocks are recomputed, not stored, when a gradient is taken.

    Example:
        >>> import jax.numpy as jnp
        >>> map_in_blocks(jnp.sum, jnp.ones((3, 2)), elements_per_item=2).tolist()
        [2.0, 2.0, 2.0]
    """
    items = jax.tree.leaves(xs)[0].shape[0]
    limit = max(1, (elements_at_once or _elements_at_once()) // max(1, elements_per_item))
    if items <= limit:
        return jax.vmap(f)(xs)
    blocks = -(-items // limit)
    return jax.lax.map(jax.checkpoint(f), xs, batch_size=-(-items // blocks))


def bucket(size: int) -> int:
    """The smallest of 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, ... that is at least `size`.

    Example:
        >>> [bucket(size) for size in (1, 9, 100, 1000)]
        [4, 10, 112, 1024]
    """
    step = 2 ** max(0, (max(size, 1) - 1).bit_length() - 3)
    return max(4, -(-size // step) * step)


def _elements_at_once() -> int:
    return 2**21 if jax.default_backend() == "cpu" else 2**27
