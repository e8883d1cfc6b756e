"""Which demonstrations are contexts, which are training queries, and which choose where to stop.

A context too small for all classes shows those of the first ranks, which should be the most frequent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

_MOST_HELD_OUT = 1000


class Split(NamedTuple):
    """Row numbers. Held-out rows are in no context and no training query; there may be none of them.

    `training` includes the contexts' rows: a row is a query of the groups whose context it is not in.
    """

    contexts: list[Int[np.ndarray, " n"]]
    training: Int[np.ndarray, " rows"]
    held_out: Int[np.ndarray, " rows"]


def split_rows(
    labels: Int[np.ndarray, " rows"],
    n_context: int,
    *,
    groups: int | None,
    held_out_fraction: float,
    rng: np.random.Generator,
) -> Split:
    """Contexts of `n_context` rows with the same class counts, and held-out rows from those outside one context.

    Args:
        labels: rank of each row's class.
        n_context: rows of a context.
        groups: number of contexts; None for as many as the rows allow without sharing.
        held_out_fraction: share of the rows outside a context that is held out, at most 1,000 rows.
        rng: of the choice.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> split = split_rows(np.arange(100) % 3, 20, groups=None, held_out_fraction=0.25, rng=rng)
        >>> len(split.contexts), len(split.training), len(split.held_out)
        (4, 80, 20)
    """
    rows = rng.permutation(len(labels))
    left = len(labels) - n_context
    if left < 2:
        return Split(deal_contexts(labels, rows, n_context, 1, rng), rows, rows[:0])
    _, first = np.unique(labels[rows], return_index=True)
    may_be_held_out = np.delete(rows, first)  # each class keeps a row for the contexts
    count = min(max(1, round(held_out_fraction * left)), left - 1, _MOST_HELD_OUT, len(may_be_held_out))
    held_out = may_be_held_out[:count]
    training = np.setdiff1d(rows, held_out)
    number = max(1, len(training) // n_context) if groups is None else groups
    return Split(deal_contexts(labels, training, n_context, number, rng), training, held_out)


def deal_contexts(
    labels: Int[np.ndarray, " rows"], rows: Int[np.ndarray, " some"], n: int, groups: int, rng: np.random.Generator
) -> list[Int[np.ndarray, " n"]]:
    """Contexts of n of the given rows, all with the same class counts; they share only rows of classes that run out."""
    members = [rng.permutation(rows[labels[rows] == rank]) for rank in range(labels.max() + 1)]
    quotas = context_quotas(np.array([len(m) for m in members]), n)
    contexts = []
    for group in range(groups):
        parts = [m[(group * q + np.arange(q)) % len(m)] for m, q in zip(members, quotas, strict=True) if q]
        contexts.append(rng.permutation(np.concatenate(parts)))
    return contexts


def context_quotas(counts: Int[np.ndarray, " C"], n: int) -> Int[np.ndarray, " C"]:
    """How many rows of each class n rows have: one of each class while they last, then in proportion.

    Example:
        >>> context_quotas(np.array([60, 30, 10]), 2).tolist(), context_quotas(np.array([60, 30, 10]), 10).tolist()
        ([1, 1, 0], [6, 3, 1])
    """
    quotas = (np.arange(len(counts)) < n).astype(int)
    for _ in range(n - quotas.sum()):
        lacking = np.where(quotas < counts, n * counts / counts.sum() - quotas, -np.inf)
        quotas[lacking.argmax()] += 1
    return quotas
