"""The weights that the package brings along."""

from importlib import resources

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from ttt_jax.tabular import PFNClassifier, TTTClassifier
from ttt_jax.tabular.classify.estimators import BUNDLED
from ttt_jax.tabular.network import pfn
from ttt_jax.tabular.network.blocks import bucket


def halves(load, rows):
    X, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:rows], order[rows : rows + 100]
    return X[train], y[train], X[test], y[test]


def test_they_fit_into_the_package():
    folder = resources.files("ttt_jax.tabular")
    assert sum(folder.joinpath(f"{name}.safetensors").stat().st_size for name in BUNDLED) < 12 * 2**20


@pytest.mark.parametrize("weights", BUNDLED)
def test_they_classify_real_tables_without_a_download(weights, monkeypatch):
    monkeypatch.setattr(pfn, "bucket", lambda size: max(32, bucket(size)))  # 4 columns as 30: one compilation
    for load in (load_iris, load_breast_cancer):
        X, y, X_test, y_test = halves(load, 50)
        assert PFNClassifier(weights, n_estimators=1).fit(X, y).score(X_test, y_test) > 0.88


def test_they_can_be_tuned():
    X, y, X_test, y_test = halves(load_breast_cancer, 200)
    model = TTTClassifier(n_context=16, steps=10, n_estimators=1, batch_size=32).fit(X, y)
    plain = TTTClassifier(n_context=16, mode="none", n_estimators=1).fit(X, y)
    assert model.chosen_.log_loss <= model.scores_[0].log_loss
    assert model.score(X_test, y_test) > plain.score(X_test, y_test) - 0.05
