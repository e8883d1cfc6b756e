"""Ways to write a table's columns as numbers, each a scikit-learn transformer that is fitted to a context."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

MOST_COLUMNS = 64  # the networks have been trained on no more
_MOST_LEVELS = 12  # of a one-hot column; the rarest are taken together
_MOST_QUANTILES, _FEWEST_VALUES = 100, 10  # columns of fewer values keep them
_MOST_DEVIATIONS = 3.0
_MOST_COMPONENTS = 12


def plain() -> Pipeline:
    """The columns as they are, but for constant ones; of more than 64, those that tell most about the class."""
    return make_pipeline(_MostTelling())


def recoded(X: Float[np.ndarray, "N F"], is_categorical: Bool[np.ndarray, " F"]) -> Pipeline:
    """A column for each category, in place of codes, and numbers by their quantiles in place of their values.

    Of the columns that result, at most 64: those that tell most about the class in the rows of the fit.
    """
    values = np.array([len(np.unique(column[np.isfinite(column)])) for column in X.T])
    quantiles = QuantileTransformer(n_quantiles=min(len(X), _MOST_QUANTILES), output_distribution="normal")
    levels = OneHotEncoder(max_categories=_MOST_LEVELS, handle_unknown="infrequent_if_exist", sparse_output=False)
    columns = ColumnTransformer(
        [
            (
                "quantiles",
                make_pipeline(quantiles, _Clip()),
                np.flatnonzero(~is_categorical & (values > _FEWEST_VALUES)),
            ),
            ("levels", levels, np.flatnonzero(is_categorical & (values > 2))),
        ],
        remainder="passthrough",
    )
    return make_pipeline(_FiniteOrNaN(), columns, _MostTelling())


def components(rows: int, columns: int) -> Pipeline:
    """At most 12 principal components of the standardised columns, missing values at their mean.

    A small network reads a few strong features better than many weak ones.
    """
    most = min(_MOST_COMPONENTS, rows - 1, columns)
    return make_pipeline(
        _FiniteOrNaN(), SimpleImputer(keep_empty_features=True), StandardScaler(), PCA(most), _MostTelling()
    )


class _Stateless(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class _FiniteOrNaN(_Stateless):
    def transform(self, X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, "rows F"]:
        return np.where(np.isfinite(X), X, np.nan).astype(np.float64)


class _Clip(_Stateless):
    """The smallest and the largest value, whose quantiles are infinite, stay near the others."""

    def transform(self, X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, "rows F"]:
        return np.clip(X, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)


class _MostTelling(TransformerMixin, BaseEstimator):
    """At most 64 columns, none of them constant: those with the largest share of variance between the classes.

    If all are constant, all are kept, for queries may differ from the context.
    """

    def fit(self, X: Float[np.ndarray, "N F"], y: Int[np.ndarray, " N"]) -> _MostTelling:
        varies = np.flatnonzero(_varies(X)) if _varies(X).any() else np.arange(X.shape[1])
        share = variance_between_classes(X[:, varies], y)
        self.columns_ = varies if len(varies) <= MOST_COLUMNS else np.sort(varies[np.argsort(-share)[:MOST_COLUMNS]])
        return self

    def transform(self, X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, "rows P"]:
        return X[:, self.columns_].astype(np.float32)


def _varies(X: Float[np.ndarray, "N F"]) -> Bool[np.ndarray, " F"]:
    X = X.astype(np.float32)
    return ((X[1:] != X[0]) & ~(np.isnan(X[1:]) & np.isnan(X[0]))).any(0)


def variance_between_classes(X: Float[np.ndarray, "N F"], y: Int[np.ndarray, " N"]) -> Float[np.ndarray, " F"]:
    """The share of each column's variance that is between the means of the classes; missing values count as the mean.

    Example:
        >>> variance_between_classes(np.array([[0.0, 1], [0, 2], [1, 1], [1, 2]]), np.array([0, 0, 1, 1]))
        array([1., 0.])
    """
    known = np.isfinite(X)
    X = np.where(known, X, 0).astype(np.float64)
    deviations = np.where(known, X - X.sum(0) / np.maximum(known.sum(0), 1), 0)
    deviations /= np.maximum(np.abs(deviations).max(0), np.finfo(float).tiny)  # so that no square overflows
    one_hot = (y[:, None] == np.unique(y)).astype(float)
    between = ((one_hot.T @ deviations) ** 2 / one_hot.sum(0)[:, None]).sum(0)
    total = (deviations**2).sum(0)
    return between / np.where(total > 0, total, 1)
