"""Which rows are contexts, which are training queries, and which choose where to stop.

A context too small for all classes shows those of the first ranks, which should be the most frequent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

_MOST_HELD_OUT = 500


class Split(NamedTuple):
    """Row numbers. Held-out rows are never trained on; there may be none of them."""

    training: Int[np.ndarray, " rows"]
    held_out: Int[np.ndarray, " rows"]


def split_rows(
    labels: Int[np.ndarray, " rows"], n_context: int, *, held_out_fraction: float, rng: np.random.Generator
) -> Split:
    """Hold out a share of the rows that a context of `n_context` rows leaves over, at most 500 rows.

    Every class keeps a row for training. Of fewer than two rows left over, none is held out.

    Example:
        >>> split = split_rows(np.arange(100) % 3, 20, held_out_fraction=0.25, rng=np.random.default_rng(0))
        >>> len(split.training), len(split.held_out)
        (80, 20)
    """
    rows = rng.permutation(len(labels))
    left = len(labels) - n_context
    if left < 2:
        return Split(rows, rows[:0])
    _, first = np.unique(labels[rows], return_index=True)
    may_be_held_out = np.delete(rows, first)
    count = min(max(1, round(held_out_fraction * left)), left - 1, _MOST_HELD_OUT, len(may_be_held_out))
    held_out = may_be_held_out[:count]
    return Split(np.setdiff1d(rows, held_out), held_out)


def deal_contexts(
    labels: Int[np.ndarray, " rows"], rows: Int[np.ndarray, " some"], n: int, number: int, rng: np.random.Generator
) -> list[Int[np.ndarray, " n"]]:
    """Contexts of n of the given rows, all with the same class counts; they share only rows of classes that run out."""
    members = [rng.permutation(rows[labels[rows] == rank]) for rank in range(labels.max() + 1)]
    quotas = context_quotas(np.array([len(m) for m in members]), n)
    contexts = []
    for i in range(number):
        parts = [m[(i * q + np.arange(q)) % len(m)] for m, q in zip(members, quotas, strict=True) if q]
        contexts.append(rng.permutation(np.concatenate(parts)))
    return contexts


def context_quotas(counts: Int[np.ndarray, " C"], n: int) -> Int[np.ndarray, " C"]:
    """How many rows of each class n rows have: one of each class while they last, then in proportion.

    Example:
        >>> context_quotas(np.array([60, 30, 10]), 2).tolist(), context_quotas(np.array([60, 30, 10]), 10).tolist()
        ([1, 1, 0], [6, 3, 1])
    """
    wanted = n * counts / counts.sum()
    quotas = np.maximum((np.arange(len(counts)) < n).astype(int), np.floor(wanted).astype(int))
    for _ in range(quotas.sum() - n):  # what single rows of rare classes took from the others
        quotas[np.where(quotas > 1, quotas - wanted, -np.inf).argmax()] -= 1
    for _ in range(n - quotas.sum()):
        quotas[np.where(quotas < counts, wanted - quotas, -np.inf).argmax()] += 1
    return quotas
