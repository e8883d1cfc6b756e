"""A table and the members that predict from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from ttt_jax.tabular.classify.members import Member, Plan, draw_members
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.network.v2 import Reading, Table

_QUERY_ROWS = 2048  # predicted at once
_FEWEST_QUERY_ROWS = 64  # fewer are padded to this, so that a row's prediction does not depend on how many there are


@dataclass(frozen=True)
class Ensemble:
    """The labelled rows, and the members whose contexts are among them.

    Attributes:
        X, labels: the table; labels are positions of classes.
        is_categorical: which columns hold codes of categories.
        plan: what the members were drawn by.
        predicted: ranks below this can be predicted.
        members: see `draw_members`.
        readings: of each member's context, if `read` has made them; None for contexts to be read with the queries.
    """

    X: Float[np.ndarray, "rows F"]
    labels: Int[np.ndarray, " rows"]
    is_categorical: Bool[np.ndarray, " F"]
    plan: Plan
    predicted: int
    members: list[Member]
    readings: tuple[Reading | None, ...] = ()

    @classmethod
    def draw(
        cls,
        X: Float[np.ndarray, "rows F"],
        labels: Int[np.ndarray, " rows"],
        is_categorical: Bool[np.ndarray, " F"],
        plan: Plan,
        predicted: int,
    ) -> Ensemble:
        """With the members of a plan."""
        return cls(X, labels, is_categorical, plan, predicted, draw_members(X, labels, is_categorical, plan))

    def read(self, pfn: PFN) -> Ensemble:
        """The same, with contexts that have been read once and for all.

        A context whose columns are all constant is read with its queries, which decide whether they count.
        """
        readings = []
        for member in self.members:
            context = member.features(self.X[member.rows])
            varies = (context[1:] != context[0]).any()
            readings.append(pfn.read(self.table(pfn, member, self.X[:1])) if varies else None)
        return replace(self, readings=tuple(readings))

    def table(self, pfn: PFN, member: Member, queries: Float[np.ndarray, "M F"], width: int = 0) -> Table:
        """What the network reads: the member's context and these query rows, padded; to `width` columns at least."""
        context, labels = member.features(self.X[member.rows]), member.ranks[self.labels[member.rows]]
        return pfn.pad(context, labels, member.features(queries), width)

    def logits(self, pfn: PFN, X: Float[np.ndarray, "M F"]) -> Float[np.ndarray, "members M C"]:
        """Of each class, by each member; -inf for classes that cannot be predicted."""
        readings = self.readings or [None] * len(self.members)
        pairs = zip(self.members, readings, strict=True)
        return np.stack([self._logits_of(member, reading, pfn, X) for member, reading in pairs])

    def _logits_of(
        self, member: Member, reading: Reading | None, pfn: PFN, X: Float[np.ndarray, "M F"]
    ) -> Float[np.ndarray, "M C"]:
        blocks = []
        for start in range(0, len(X), _QUERY_ROWS):
            block = X[start : start + _QUERY_ROWS]
            filler = np.repeat(self.X[:1], max(0, _FEWEST_QUERY_ROWS - len(block)), axis=0)
            table = self.table(pfn, member, np.concatenate([block, filler]))
            logits = pfn.apply_table(table) if reading is None else pfn.answer(reading, table.x_query)
            blocks.append(np.asarray(logits, np.float64)[: len(block), member.ranks])
        return np.where(member.ranks < self.predicted, np.concatenate(blocks), -np.inf)


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
