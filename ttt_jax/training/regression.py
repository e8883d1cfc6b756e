"""Pretraining on finitely many prompts: least squares in the d^2 entries of W."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import non_negative, positive_integer, require_type, seed_integer
from ttt_jax.problem import Pretraining

__all__ = ["trained_weights"]

BLOCK_NUMBERS = 2**20
"""About so many numbers of prompts are held at a time where sums over the prompts suffice."""


def trained_weights(
    pretraining: Pretraining, num_prompts: int, *, num_tasks: int | None = None, ridge: float = 0.0, seed: int = 0
) -> Float[np.ndarray, "d d"]:
    """The weights that fit finitely many pretraining prompts best, each of one query.

        W = argmin  sum_i (y_i - x_i'W u_i)^2 + ridge |W|_F^2,     u_i = X_i'y_i the summary of prompt i

    Least squares in the d^2 entries of W, in float64: by the normal equations, or in as many unknowns as there are
    prompts where they are fewer. Without ridge and with num_prompts < d^2 it is the fit of least norm.

    Args:
        pretraining: the law of tasks, features and noise, and the context length n.
        num_prompts: number of prompts.
        num_tasks: how many tasks the prompts share, each prompt one of them at random; None for a new task in each.
        ridge: penalty on the squares of the entries of W, beside a sum over the prompts.
        seed: of tasks and prompts.

    Returns:
        W, (d, d), a start like any other for `exact_risk`, `estimate_risk` and `compare`.

    Raises:
        ValueError: if an argument is invalid, the equations do not fit into memory, or they leave W open.

    Example:
        >>> trained = trained_weights(Pretraining(n=8, d=2), 40_000)
        >>> bool(abs(trained[0, 0] - 1 / 11) < 0.005)        # W* = I / (n + d + 1)
        True

    Reference: Lu et al., "Asymptotic theory of in-context learning by linear attention" (arXiv 2405.11751).
    """
    require_type("pretraining", pretraining, Pretraining)
    d, size = pretraining.d, pretraining.d**2
    num_prompts = positive_integer("num_prompts", num_prompts)
    if num_tasks is not None:
        num_tasks = positive_integer("num_tasks", num_tasks)
    ridge, seed = non_negative("ridge", ridge), seed_integer(seed)
    _require_memory(d, num_prompts)
    if not ridge and not _spans(pretraining):
        raise ValueError(f"ridge must be positive where feature_cov is singular or every label is 0, got {ridge:g}")
    blocks = _features(pretraining, num_prompts, num_tasks, seed)
    if num_prompts >= size:
        gram, moment = np.zeros((size, size)), np.zeros(size)
        for h, y in blocks:
            gram += h.T @ h
            moment += h.T @ y
        weights = _solve(gram, moment, ridge)
    else:
        features, labels = np.empty((num_prompts, size)), np.empty(num_prompts)
        done = 0
        for h, y in blocks:
            features[done : done + len(y)], labels[done : done + len(y)] = h, y
            done += len(y)
        weights = _solve(features @ features.T, labels, ridge) @ features
    return weights.reshape(d, d)


def _features(
    pretraining: Pretraining, num_prompts: int, num_tasks: int | None, seed: int
) -> Iterator[tuple[Float[np.ndarray, "block d*d"], Float[np.ndarray, " block"]]]:
    """The features vec(x u') of the prompts and the labels of their queries, block by block."""
    n, d, noise_std = pretraining.n, pretraining.d, pretraining.noise_var**0.5
    root, task_root = linalg.sqrt(pretraining.feature_cov), linalg.sqrt(pretraining.task_cov)
    rng = np.random.default_rng(seed)
    if num_tasks is not None:
        used, which = np.unique(rng.integers(num_tasks, size=num_prompts), return_inverse=True)
        shared = rng.standard_normal((len(used), d))
    block = 1 + BLOCK_NUMBERS // (d * (n + d))
    for start in range(0, num_prompts, block):
        count = min(block, num_prompts - start)
        z = rng.standard_normal((count, d)) if num_tasks is None else shared[which[start : start + count]]
        x = linalg.apply(root, rng.standard_normal((count, n + 1, d)))
        y = (x @ linalg.apply(task_root, z)[:, :, None])[:, :, 0] + noise_std * rng.standard_normal((count, n + 1))
        u = (y[:, None, :n] @ x[:, :n])[:, 0]
        yield (x[:, n, :, None] * u[:, None, :]).reshape(count, d * d), y[:, n]


def _solve(matrix: Float[np.ndarray, "m m"], vector: Float[np.ndarray, " m"], ridge: float) -> Float[np.ndarray, " m"]:
    """(matrix + ridge I)^-1 vector; changes the matrix."""
    matrix[np.diag_indices_from(matrix)] += ridge
    return np.linalg.solve(matrix, vector)


def _spans(pretraining: Pretraining) -> bool:
    """Whether the features x u' of enough prompts span all (d, d) matrices."""
    sx, sb = (linalg.dense(cov, pretraining.d) for cov in (pretraining.feature_cov, pretraining.task_cov))
    values = np.linalg.eigvalsh(sx)
    has_labels = np.sum(sx * sb) + pretraining.noise_var > 0
    return bool(has_labels and values[0] > len(sx) * np.finfo(np.float64).eps * values[-1])


def _require_memory(d: int, num_prompts: int) -> None:
    """ValueError unless the equations fit: their matrix, the features or their sums, and the factors."""
    need = 8 * 3 * min(num_prompts, d**2) * d**2
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have:
        words = f"{d**2} weights and {num_prompts} prompts take {need / 2**30:.0f} GiB of {have / 2**30:.0f} GiB"
        raise ValueError(f"d must be smaller: {words}, got {d}")
