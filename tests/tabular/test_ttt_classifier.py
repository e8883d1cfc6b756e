"""Test-time training on a tiny PFN that knows Gaussian blobs, and on tables that it does not know."""

from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

from ttt_jax.tabular import PFNClassifier, TTTClassifier
from ttt_jax.tabular.classify import tuning

BLOBS = Path(__file__).parent / "fixtures" / "blobs.safetensors"
OFFICIAL = Path(__file__).parent / "fixtures" / "small.ckpt"


def classifier(**options) -> TTTClassifier:
    defaults = {"weights": BLOBS, "n_estimators": 1, "n_context": 24, "batch_size": 64, "steps": 40}
    return TTTClassifier(**(defaults | options))


@pytest.fixture(scope="module")
def squares():
    """A checkerboard, which blobs do not prepare for."""
    X = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "even", "odd")
    return X[:300], y[:300], X[300:], y[300:]


@parametrize_with_checks([TTTClassifier(weights=str(BLOBS), n_estimators=1, steps=1, batch_size=16)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_tuning_teaches_what_the_prior_does_not_know(squares):
    X, y, X_test, y_test = squares
    model = classifier(learning_rate=2e-3, patience=10).fit(X, y)
    plain = PFNClassifier(weights=BLOBS, n_estimators=1).fit(X, y)
    assert model.score(X_test, y_test) > plain.score(X_test, y_test) + 0.05
    assert model.chosen_.step > 0


@pytest.mark.parametrize("options", [{"learning_rate": 100.0}, {"mode": "one"}, {"optimizer": "sgd"}, {}])
def test_never_worse_than_plain_on_the_held_out_rows(squares, options):
    model = classifier(steps=8, **options).fit(*squares[:2])
    first = model.scores_[0]
    assert first.step == 0
    assert model.chosen_.log_loss <= first.log_loss
    assert model.chosen_.accuracy >= first.accuracy
    assert model.chosen_ in model.scores_


def test_a_harmful_learning_rate_leaves_the_plain_model(squares):
    X, y, X_test, _ = squares
    model = classifier(steps=8, learning_rate=1e3).fit(X, y)
    assert model.chosen_.step == 0
    context, labels = model.contexts_[0]
    plain = PFNClassifier(weights=BLOBS, n_estimators=1).fit(context, model.classes_[labels])
    np.testing.assert_allclose(model.predict_proba(X_test), plain.predict_proba(X_test), atol=1e-5)


def test_without_rows_to_train_on_it_is_the_plain_model(squares):
    X, y, X_test, _ = squares
    model = classifier(n_context=40).fit(X[:40], y[:40])
    assert model.scores_ == []
    plain = PFNClassifier(weights=BLOBS, n_estimators=1).fit(X[:40], y[:40])
    np.testing.assert_allclose(model.predict_proba(X_test), plain.predict_proba(X_test), atol=1e-5)


def test_a_later_fit_without_training_forgets_what_was_chosen(squares):
    X, y, _, _ = squares
    model = classifier(steps=1).fit(X, y)
    assert model.chosen_
    assert not hasattr(model.set_params(mode="none").fit(X, y), "chosen_")


def test_one_class_needs_no_training(squares):
    assert classifier().fit(squares[0], np.zeros(300)).scores_ == []


def test_the_seed_decides(squares):
    X, y, X_test, _ = squares
    first, again, other = (classifier(steps=4, random_state=seed).fit(X, y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.predict_proba(X_test), again.predict_proba(X_test))
    assert (first.contexts_[0][0] != other.contexts_[0][0]).any()


def test_a_context_of_one_row_can_learn_all_classes():
    """The plain network can only name the class that its context shows."""
    X, y = make_blobs(n_samples=240, centers=3, n_features=2, random_state=0)
    model = classifier(n_context=1, steps=60, learning_rate=3e-3, patience=10).fit(X[:200], y[:200])
    assert len(set(PFNClassifier(weights=BLOBS).fit(X[:1], y[:1]).predict(X[200:]))) == 1
    assert len(set(model.predict(X[200:]))) == 3
    assert model.score(X[200:], y[200:]) > 0.6


def test_several_contexts_are_averaged(squares):
    X, y, X_test, _ = squares
    model = classifier(n_contexts=3, steps=2).fit(X, y)
    assert len(model.contexts_) == 3
    together, contexts = model.predict_proba(X_test), model.contexts_
    alone = []
    for context in contexts:
        model.contexts_ = [context]
        alone.append(model.predict_proba(X_test))
    np.testing.assert_allclose(np.mean(alone, axis=0), together, atol=1e-6)


def test_one_compilation_of_the_update(squares):
    X, y, _, _ = squares
    tuning._update.clear_cache()
    classifier(steps=6).fit(X, y)
    classifier(steps=6, n_context=23, random_state=3).fit(X[:290], y[:290])
    assert tuning._update._cache_size() == 1


def test_updates_reuse_memory(squares):
    """The parameters and the optimiser's state are given away to the update; the weights of the caller are not."""
    X, y, _, _ = squares
    pfn = PFNClassifier(weights=BLOBS).fit(X[:30], y[:30]).pfn_
    classifier(weights=pfn, steps=2).fit(X, y)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(pfn))


def test_a_large_table_is_subsampled_and_keeps_its_classes():
    X = np.random.default_rng(0).normal(size=(5000, 2))
    y = (X[:, 0] > 0).astype(int)
    y[:3] = 2
    model = classifier(n_training=200, steps=2).fit(X, y)
    assert set(model.contexts_[0][1]) == {0, 1, 2}
    assert len(model.contexts_[0][0]) == 24


def test_official_weights_can_be_tuned(squares):
    X, y, X_test, _ = squares
    model = classifier(weights=OFFICIAL, steps=2).fit(X, y)
    assert model.predict_proba(X_test).shape == (300, 2)
    assert model.scores_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "many"}, "mode must be one of none, one, few, full, got 'many'"),
        ({"optimizer": "muon"}, "optimizer must be one of adam, sgd, got 'muon'"),
        ({"n_context": 301}, "n_context: 301 exceeds the 300 demonstrations"),
        ({"n_context": 0}, "n_context must be an integer >= 1, got 0"),
        ({"n_context": None, "max_context_rows": 1}, "n_context must be at most max_context_rows=1, got 150"),
        ({"steps": 2.5}, "steps must be an integer >= 1, got 2.5"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, or None, got -1.0"),
        ({"learning_rate": "x"}, "learning_rate must be a finite number, got 'x'"),
        ({"validation_fraction": 1.0}, "validation_fraction must be between 0 and 1, got 1.0"),
        ({"validation_fraction": "x"}, "validation_fraction must be a finite number, got 'x'"),
    ],
)
def test_parameters_are_refused_by_name(squares, options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options).fit(*squares[:2])
