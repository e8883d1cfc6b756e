"""The methods that a network for tables is compared with, in settings fit for small tables."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from ttt_jax.tabular.classical import coded


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
    numbers = [i for i in range(columns) if i not in categorical]
    return {name: coded(model, numbers, list(categorical)) for name, model in models.items()}
