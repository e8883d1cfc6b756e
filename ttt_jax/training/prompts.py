"""A task and its prompts: sampled, or made of folds of labelled pairs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import positive_integer
from ttt_jax.training.models import Prompt

__all__ = ["fold_prompts", "sample_prompt", "sample_task"]


def sample_task(
    key: Key[Array, ""],
    mean: Float[Array, " d"],
    root: Float[Array, ...],
    nonzero: Int[Array, ""] | int | None = None,
) -> Float[Array, " d"]:
    """A task vector b = mean + root z; with `nonzero` as many of its coordinates, at random places, the others 0.

    Example:
        >>> task = sample_task(jax.random.key(0), jnp.zeros(9), jnp.ones(()), nonzero=2)
        >>> int((task != 0).sum())
        2
    """
    task = mean + linalg.apply(root, jax.random.normal(key, mean.shape, mean.dtype))
    if nonzero is None:
        return task
    return jnp.where(jax.random.permutation(jax.random.fold_in(key, 1), len(task)) < nonzero, task, 0.0)


def sample_prompt(
    key: Key[Array, ""],
    task: Float[Array, " d"],
    feature_root: Float[Array, ...],
    noise_std: Float[Array, ""],
    n: int,
    k: int,
    link: Callable | None = None,
) -> Prompt:
    """n context pairs and k queries of one task: x = R z, y = f(x'b) + noise_std xi.

    Args:
        key: random key.
        task: the task vector b, (d,).
        feature_root: R = Sx^(1/2), (), (d,) or (d, d).
        noise_std: standard deviation of the label noise.
        n, k: numbers of rows, static.
        link: f; None for linear labels.
    """
    key_x, key_y = jax.random.split(key)
    x = linalg.apply(feature_root, jax.random.normal(key_x, (n + k, len(task))))
    index = x @ task
    y = (link(index) if link else index) + noise_std * jax.random.normal(key_y, (n + k,))
    return Prompt(x[:n], y[:n], x[n:], y[n:])


def fold_prompts(x: Float[Array, "N d"], y: Float[Array, " N"], folds: int) -> Prompt:
    """The prompts of K-fold TTT: each fold of the pairs is asked about once, with all other pairs as its context.

    Args:
        x: features, (N, d).
        y: labels, (N,).
        folds: number of folds K, 2 to N, a divisor of N; N is leave-one-out.

    Returns:
        K prompts of N - N/K context pairs and N/K queries, stacked along a first axis.

    Raises:
        ValueError: if there are not as many labels as rows, or folds does not divide N.

    Example:
        >>> import jax.numpy as jnp
        >>> prompts = fold_prompts(jnp.eye(4), jnp.arange(4.0), 2)
        >>> prompts.query_y.tolist(), prompts.context_y.tolist()
        ([[0.0, 1.0], [2.0, 3.0]], [[2.0, 3.0], [0.0, 1.0]])
    """
    if jnp.ndim(x) != 2 or jnp.shape(y) != jnp.shape(x)[:-1]:
        raise ValueError(f"x must be (N, d) and y (N,), got {jnp.shape(x)} and {jnp.shape(y)}")
    total = len(y)
    if positive_integer("folds", folds) < 2 or total % folds:
        raise ValueError(f"folds must be a divisor of the {total} pairs, at least 2, got {folds}")
    query = np.arange(total).reshape(folds, -1)
    context = np.stack([np.delete(np.arange(total), rows) for rows in query])
    return Prompt(x[context], y[context], x[query], y[query])
