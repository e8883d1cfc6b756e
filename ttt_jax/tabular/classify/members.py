"""The members of an ensemble: what each forward pass sees of one table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

MOST_COMPONENTS = 12


class Member(NamedTuple):
    """A forward pass's features and its names of the classes.

    Attributes:
        components: the features are principal components of the columns; None for the columns themselves.
        order: of the features.
        ranks: the number that each class takes.
    """

    components: Pipeline | None
    order: Int[np.ndarray, " P"]
    ranks: Int[np.ndarray, " C"]

    def features(self, X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, "rows P"]:
        """The table as this member sees it."""
        if self.components is not None:
            X = self.components.transform(_only_nan_missing(X)).astype(np.float32)
        return X[:, self.order]


def draw_members(
    number: int,
    context: Float[np.ndarray, "N F"],
    ranks: Int[np.ndarray, " C"],
    shown: int,
    rng: np.random.RandomState,
) -> list[Member]:
    """A first member that changes nothing, then in turn principal components and columns in random orders.

    The components, at most 12, are those of the context's standardised columns, with missing values at their mean. A
    small network reads a few strong features better than many weak ones. A context of one row has none.

    Only the ranks below `shown` change places: the context has no class of the others.
    """
    rows, columns = context.shape
    most, others = min(MOST_COMPONENTS, columns, rows - 1), np.arange(shown, len(ranks))
    components = None
    if number > 1 and most:
        components = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), PCA(most))
        with np.errstate(invalid="ignore"):  # scikit-learn divides by the variance, which is 0 for constant columns
            components.fit(_only_nan_missing(context))
    members = [Member(None, np.arange(columns), ranks)]
    for i in range(1, number):
        seen = components if i % 2 else None
        order = rng.permutation(columns if seen is None else most)
        members.append(Member(seen, order, np.concatenate([rng.permutation(shown), others])[ranks]))
    return members


def _only_nan_missing(X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, "rows F"]:
    return np.where(np.isfinite(X), X, np.nan).astype(np.float64)
