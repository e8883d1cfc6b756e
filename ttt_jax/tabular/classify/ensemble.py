"""A table and the members that predict from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ttt_jax.tabular.classify.members import Member
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.network.v2 import Table

_QUERY_ROWS = 2048  # predicted at once
_FEWEST_QUERY_ROWS = 64  # fewer are padded to this, so that a row's prediction does not depend on how many there are


@dataclass(frozen=True)
class Ensemble:
    """The labelled rows, and the members whose contexts are among them.

    Attributes:
        X, labels: the table; labels are positions of classes.
        members: see `draw_members`.
        shown: ranks below this can be predicted.
    """

    X: Float[np.ndarray, "rows F"]
    labels: Int[np.ndarray, " rows"]
    members: list[Member]
    shown: int

    def table(self, pfn: PFN, member: Member, queries: Float[np.ndarray, "M F"], width: int = 0) -> Table:
        """What the network reads: the member's context and these query rows, padded; to `width` columns at least."""
        context, labels = member.features(self.X[member.rows]), member.ranks[self.labels[member.rows]]
        return pfn.pad(context, labels, member.features(queries), width)

    def logits(self, pfn: PFN, X: Float[np.ndarray, "M F"]) -> Float[np.ndarray, "members M C"]:
        """Of each class, by each member; -inf for classes that cannot be predicted."""
        return np.stack([self._logits_of(member, pfn, X) for member in self.members])

    def _logits_of(self, member: Member, pfn: PFN, X: Float[np.ndarray, "M F"]) -> Float[np.ndarray, "M C"]:
        blocks = []
        for start in range(0, len(X), _QUERY_ROWS):
            block = X[start : start + _QUERY_ROWS]
            filler = np.repeat(self.X[:1], max(0, _FEWEST_QUERY_ROWS - len(block)), axis=0)
            table = self.table(pfn, member, np.concatenate([block, filler]))
            blocks.append(np.asarray(pfn.apply_table(table), np.float64)[: len(block), member.ranks])
        return np.where(member.ranks < self.shown, np.concatenate(blocks), -np.inf)


def mean_probabilities(
    logits: Float[np.ndarray, "members M C"], temperature: float, class_weights: Float[np.ndarray, " C"] | float = 1.0
) -> Float[np.ndarray, "M C"]:
    """The softmax of logits / temperature, averaged over members, each class then multiplied by its weight.

    Example:
        >>> mean_probabilities(np.log([[[1.0, 3]], [[1, 1]]]), temperature=1)
        array([[0.375, 0.625]])
    """
    scores = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    mean = (scores / scores.sum(-1, keepdims=True)).mean(0) * class_weights
    return mean / mean.sum(-1, keepdims=True)
