"""The methods that a network for tables is compared with, in settings fit for small tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

_MOST_LEVELS = 12  # of a one-hot column, as for the members of an ensemble; the rarest are taken together


def classical(seed: int, columns: int, categorical: Sequence[int]) -> dict[str, Pipeline]:
    """Unfitted, by name, for tables of so many columns, those at the positions `categorical` one-hot.

    Of boosting, half the rows and a random choice of columns for every tree were best of seven settings at 8 to 64
    rows, on 25 KEEL tables that no figure uses. Histogram boosting, as it comes, makes no split below 40 rows.
    """
    models = {
        "logistic regression": LogisticRegression(max_iter=2000),
        "random forest": RandomForestClassifier(500, random_state=seed),
        "gradient boosting": GradientBoostingClassifier(subsample=0.5, max_features="sqrt", random_state=seed),
    }
    return {name: coded(model, columns, categorical) for name, model in models.items()}


def coded(model: Any, columns: int, categorical: Sequence[int]) -> Pipeline:
    """The model on imputed, standardised numbers and a column for each category."""
    levels = OneHotEncoder(max_categories=_MOST_LEVELS, handle_unknown="infrequent_if_exist", sparse_output=False)
    most_frequent = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
    numbers = [i for i in range(columns) if i not in categorical]
    prepared = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    return make_pipeline(
        ColumnTransformer(
            [("numbers", prepared, numbers), ("levels", make_pipeline(most_frequent, levels), list(categorical))]
        ),
        model,
    )
