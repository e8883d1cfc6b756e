"""Accuracy, log-loss and calibration error on development tables: plain, tuned at some rates, classical methods.

    python -m benchmarks.tabular_rates --weights slots --rows 256 --rates 2.4e-4 1e-3 --tables vehicle vowel

All are given the same rows, and the classical methods a column per category. The calibration error is the mean
distance, over ten bins of the largest probability, between it and the accuracy in the bin.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ttt_jax.tabular import TTTClassifier
from ttt_jax.tabular.classify.scores import log_loss
from ttt_jax.tabular.pretraining.development import FEW, Cut, cut


def methods(table: Cut, weights: str, rates: list[float], seed: int) -> dict[str, Any]:
    """Unfitted, by name."""
    shared: dict[str, Any] = {"random_state": seed, "categorical_features": table.categorical or None}
    small = HistGradientBoostingClassifier(min_samples_leaf=3, max_leaf_nodes=8, learning_rate=0.1, random_state=seed)
    return {
        "plain": TTTClassifier(weights, mode="none", **shared),
        **{f"TTT, rate {rate:g}": TTTClassifier(weights, learning_rate=rate, **shared) for rate in rates},
        "logistic regression": _coded(table, LogisticRegression(max_iter=2000)),
        "random forest": _coded(table, RandomForestClassifier(500, random_state=seed)),
        "boosting": _coded(table, GradientBoostingClassifier(subsample=0.5, max_features="sqrt", random_state=seed)),
        "histogram boosting": _coded(table, small),
    }


def _coded(table: Cut, model: Any) -> Pipeline:
    levels = OneHotEncoder(max_categories=12, handle_unknown="infrequent_if_exist", sparse_output=False)
    category = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
    numbers = [i for i in range(table.X.shape[1]) if i not in table.categorical]
    prepared = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    columns = [("numbers", prepared, numbers), ("levels", make_pipeline(category, levels), table.categorical)]
    return make_pipeline(ColumnTransformer(columns), model)


def scores(model: Any, table: Cut) -> Float[np.ndarray, " 3"]:
    """Accuracy, log-loss without classes that were not seen, calibration error."""
    p = model.fit(table.X, table.y).predict_proba(table.X_test)
    known, surest = np.isin(table.y_test, model.classes_), p.max(1)
    hit = model.classes_[p.argmax(1)] == table.y_test
    loss = log_loss(p[known], np.searchsorted(model.classes_, table.y_test[known]), np.ones(p.shape[1]))
    bins = np.minimum((surest * 10).astype(int), 9)
    error = sum(abs((surest - hit)[bins == b].sum()) for b in range(10)) / len(hit)
    return np.array([hit.mean(), loss, error])


def main() -> None:
    """Print three numbers for each table and method, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rates", type=float, nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", nargs="+", choices=FEW, default=FEW)
    options = parser.parse_args()
    found: dict[str, list[Any]] = {}
    for name in options.tables:
        table = cut(name, options.rows, options.seed)
        for method, model in methods(table, options.weights, options.rates, options.seed).items():
            found.setdefault(method, []).append(scores(model, table))
            print(f"{name:14}{method:24}" + "".join(f"{score:8.3f}" for score in found[method][-1]), flush=True)
    for method, rows in found.items():
        print(f"{'mean':14}{method:24}" + "".join(f"{score:8.3f}" for score in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
