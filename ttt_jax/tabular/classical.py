"""How classical methods see a table: numbers imputed and standardised, and a column for each category."""

from __future__ import annotations

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

__all__ = ["coded"]

_MOST_LEVELS = 50  # of a one-hot column; the rarest are taken together


def coded(model: Any, numbers: Any, categories: Any) -> Pipeline:
    """The model on such columns; both arguments choose columns as in scikit-learn's `ColumnTransformer`.

    Example:
        >>> import numpy as np
        >>> from sklearn.linear_model import LogisticRegression
        >>> X, y = np.array([[0.0], [1.0], [2.0]] * 5), np.array([0, 1, 0] * 5)
        >>> coded(LogisticRegression(), numbers=[], categories=[0]).fit(X, y).score(X, y)
        1.0
    """
    levels = OneHotEncoder(max_categories=_MOST_LEVELS, handle_unknown="infrequent_if_exist", sparse_output=False)
    prepared = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    return make_pipeline(ColumnTransformer([("numbers", prepared, numbers), ("levels", levels, categories)]), model)
