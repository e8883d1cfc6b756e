"""The members of an ensemble: what each forward pass sees of one table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.pipeline import Pipeline

from ttt_jax.tabular.classify.codings import components, plain, recoded


class Member(NamedTuple):
    """What one forward pass sees: its context, its features and its names of the classes.

    Attributes:
        rows: of the table, which are its context.
        coding: of the columns, fitted to these rows.
        order: of the coded columns.
        ranks: the number that each class takes.
    """

    rows: Int[np.ndarray, " N"]
    coding: Pipeline
    order: Int[np.ndarray, " P"]
    ranks: Int[np.ndarray, " C"]

    def features(self, X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, "rows P"]:
        """The table as this member sees it."""
        return self.coding.transform(X)[:, self.order]


class Plan(NamedTuple):
    """What determines the members of a table.

    Attributes:
        number: of members.
        contexts: rows of each context.
        ranks: the number of each class in the first member.
        shown: only the ranks below change places, for the contexts have no class of the others.
        seed: of the orders of columns and classes.
    """

    number: int
    contexts: list[Int[np.ndarray, " N"]]
    ranks: Int[np.ndarray, " C"]
    shown: int
    seed: int


def draw_members(
    X: Float[np.ndarray, "rows F"],
    labels: Int[np.ndarray, " rows"],
    is_categorical: Bool[np.ndarray, " F"],
    plan: Plan,
) -> list[Member]:
    """Plain and recoded columns in turn, principal components in place of every fourth, and contexts in turn.

    The first member changes nothing, the others have random orders of columns and classes.
    """
    rng, others = np.random.RandomState(plan.seed), np.arange(plan.shown, len(plan.ranks))
    members = []
    for i in range(plan.number):
        rows = plan.contexts[i % len(plan.contexts)]
        coding = recoded(X[rows], is_categorical) if i % 2 else plain()
        if i % 4 == 3 and len(rows) > 1:
            coding = components(*X[rows].shape)
        with np.errstate(invalid="ignore"):  # scikit-learn divides by the variance, 0 where all columns are constant
            columns = coding.fit_transform(X[rows], labels[rows]).shape[1]
        order = rng.permutation(columns) if i else np.arange(columns)
        classes = np.concatenate([rng.permutation(plan.shown), others]) if i else np.arange(len(plan.ranks))
        members.append(Member(rows, coding, order, classes[plan.ranks]))
    return members
