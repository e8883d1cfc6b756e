"""The scikit-learn classifier, on a tiny PFN that knows Gaussian blobs."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs

from ttt_jax.tabular import PFN, PFNClassifier, PFNConfig
from ttt_jax.tabular.classify import ensemble, estimators
from ttt_jax.tabular.classify.table_input import categories_of, numbers

BLOBS = Path(__file__).parent / "fixtures" / "blobs.safetensors"
OFFICIAL = Path(__file__).parent / "fixtures" / "small.ckpt"
pytestmark = pytest.mark.usefixtures("few_sizes")


def classifier(**options) -> PFNClassifier:
    return PFNClassifier(**({"weights": BLOBS, "n_estimators": 2} | options))


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(n_samples=120, centers=3, n_features=4, random_state=1, cluster_std=2.0)
    return X[:60], y[:60], X[60:], y[60:]


def test_blobs_are_classified(blobs):
    X, y, X_test, y_test = blobs
    model = classifier().fit(X, y)
    assert model.score(X_test, y_test) > 0.9
    np.testing.assert_allclose(model.predict_proba(X_test).sum(1), 1)


def test_strings_categories_and_missing_values(blobs):
    X, y, X_test, _ = blobs
    labels = np.array(["low", "middle", "high"])[y]

    def frame(X):
        size = pd.Categorical(np.where(X[:, 0] > 0, "big", "small"))
        colour = np.where(X[:, 1] > 0, "red", "blue").astype(object)
        colour[::7] = None
        return pd.DataFrame({"a": X[:, 2], "size": size, "colour": colour, "flag": X[:, 3] > 0})

    model = classifier().fit(frame(X), labels)
    assert list(model.classes_) == ["high", "low", "middle"]
    assert model.categories_ == {1: ["big", "small"], 2: ["blue", "red"]}
    unseen = frame(X_test).assign(colour="green", a=np.nan)
    assert set(model.predict(unseen)) <= set(model.classes_)
    as_objects = classifier().fit(frame(X).to_numpy(dtype=object), labels)
    np.testing.assert_array_equal(
        as_objects.predict_proba(frame(X_test).to_numpy(dtype=object)), model.predict_proba(frame(X_test))
    )


def test_rows_do_not_affect_each_other(blobs, monkeypatch):
    X, y, X_test, _ = blobs
    model = classifier().fit(X, y)
    together = model.predict_proba(X_test)
    monkeypatch.setattr(ensemble, "_QUERY_ROWS", 7)
    np.testing.assert_allclose(model.predict_proba(X_test), together, atol=1e-6)
    X_test = X_test.copy()
    X_test[1:] = 1e3
    np.testing.assert_allclose(model.predict_proba(X_test)[0], together[0], atol=1e-6)


def test_order_of_classes_is_undone(blobs):
    """Each member permutes columns and classes; the answer must not depend on which permutation was drawn."""
    X, y, X_test, y_test = blobs
    for seed in range(3):
        assert classifier(n_estimators=3, random_state=seed).fit(X, y).score(X_test, y_test) > 0.9


def test_fitted_models_pickle_and_clone(blobs):
    X, y, X_test, _ = blobs
    model = classifier().fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X_test), model.predict_proba(X_test))
    assert clone(model).get_params()["weights"] == BLOBS


@pytest.mark.parametrize("weights", [OFFICIAL, BLOBS, PFN.init(PFNConfig(16, 1, 2))], ids=["official", "ours", "PFN"])
def test_weights_can_be_a_file_or_a_network(blobs, weights):
    X, y, X_test, _ = blobs
    assert classifier(weights=weights, device="cpu").fit(X, y).predict_proba(X_test).shape == (60, 3)


def test_named_columns_are_categories_as_strings_are(blobs):
    X, y, X_test, _ = blobs
    X, X_test = X.round().astype(int), X_test.round().astype(int)
    kinds = {"n_estimators": 2, "categorical_features": [2]}
    named = classifier(**kinds).fit(X, y)
    assert list(named.categories_) == [2]
    frames = [pd.DataFrame(table).astype({2: str}) for table in (X, X_test)]
    same_order = classifier(n_estimators=2).fit(
        frames[0].astype({2: pd.CategoricalDtype(named.categories_[2], ordered=True)}), y
    )
    np.testing.assert_array_equal(same_order.predict_proba(frames[1]), named.predict_proba(X_test))
    by_name = classifier(**kinds | {"categorical_features": ["c"]}).fit(pd.DataFrame(X, columns=list("abcd")), y)
    np.testing.assert_array_equal(
        by_name.predict_proba(pd.DataFrame(X_test, columns=list("abcd"))), named.predict_proba(X_test)
    )


def test_class_weights_multiply_the_odds(blobs):
    X, y, X_test, _ = blobs
    plain = classifier().fit(X, y).predict_proba(X_test)
    weighted = classifier(class_weight={0: 3.0}).fit(X, y).predict_proba(X_test)
    expected = plain * [3, 1, 1]
    np.testing.assert_allclose(weighted, expected / expected.sum(1, keepdims=True), rtol=1e-6)
    labels = np.where(y == 2, 0, y)
    odds = [classifier(class_weight=w).fit(X, labels).predict_proba(X_test) for w in (None, "balanced")]
    ratio = (odds[1][:, 1] / odds[1][:, 0]) / (odds[0][:, 1] / odds[0][:, 0])
    np.testing.assert_allclose(ratio, (labels == 0).sum() / (labels == 1).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_estimators": 0}, "n_estimators must be an integer >= 1, got 0"),
        ({"n_estimators": True}, "n_estimators must be an integer >= 1, got True"),
        ({"softmax_temperature": 0.0}, "softmax_temperature must be positive, got 0.0"),
        ({"softmax_temperature": "a"}, "softmax_temperature must be a finite number, got 'a'"),
        ({"categorical_features": ["x"]}, "categorical_features must name columns of X, got 'x'"),
        ({"categorical_features": [4]}, "categorical_features must name columns of X, got 4"),
        ({"categorical_features": "x"}, "categorical_features must be a list of columns' names or positions, got 'x'"),
        ({"class_weight": "even"}, "class_weight must be 'balanced', a weight for each class or None, got 'even'"),
        ({"class_weight": {7: 1.0}}, "class_weight: class 7 is none of y's"),
        ({"class_weight": {1: 0.0}}, r"class_weight\[1\] must be positive, got 0.0"),
        ({"outlier_sigma": -1.0}, "outlier_sigma must be a number above 1, or None for no clipping, got -1.0"),
        ({"outlier_sigma": "x"}, "outlier_sigma must be a finite number, got 'x'"),
        ({"weights": 3}, "weights must be 'default', 'small', the path of a file or a PFN, got 3"),
        ({"device": "foo"}, "device must be a platform of this machine, as 'cpu', got 'foo'"),
        ({"max_context_rows": 10}, "60 rows exceed max_context_rows=10"),
    ],
)
def test_parameters_are_refused_by_name(blobs, options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options).fit(*blobs[:2])


def test_too_many_classes_are_refused():
    with pytest.raises(ValueError, match="12 classes, but this network has 10"):
        classifier().fit(np.random.default_rng(0).normal(size=(24, 2)), np.arange(24) % 12)


@pytest.mark.parametrize("offset", [1.7e9, -1e12])
def test_columns_far_from_zero_keep_their_digits(blobs, offset):
    X, y, X_test, _ = blobs
    near, far = classifier().fit(X, y), classifier().fit(X + offset, y)
    np.testing.assert_allclose(far.predict_proba(X_test + offset), near.predict_proba(X_test), atol=2e-3)


def test_columns_near_zero_are_not_touched():
    X = np.array([[1.0, 1e300, np.nan], [2.0, np.inf, np.nan], [4.0, np.nan, np.nan]])
    np.testing.assert_array_equal(estimators._offsets(X), [0, 1e300, 0])
    np.testing.assert_array_equal(estimators._offsets(1 + 1e-6 * X[:, :1]), [1 + 2e-6])


def test_categories_are_values_in_their_own_order():
    size = pd.Categorical(["mid", "low", "high"], ["low", "mid", "high", "unused"], ordered=True)
    train = pd.DataFrame({"n": pd.Categorical([1, 2, 10]), "size": size, "object": pd.Series([10, "2", None])})
    test = pd.DataFrame({"n": pd.Categorical([1.0, 2.0, 10.0]), "size": ["high", "unused", None], "object": [2, 10, 3]})
    categories = categories_of(train)
    assert categories == {0: ["1", "2", "10"], 1: ["low", "mid", "high"], 2: ["10", "2"]}
    np.testing.assert_array_equal(numbers(train, categories), [[0, 1, 0], [1, 0, 1], [2, 2, np.nan]])
    np.testing.assert_array_equal(numbers(test, categories), [[0, 2, 1], [1, np.nan, 0], [2, np.nan, np.nan]])


@pytest.mark.parametrize("kind", ["datetime64[ns]", "timedelta64[ns]"])
@pytest.mark.parametrize("table", [pd.DataFrame, lambda columns: columns["a"].to_numpy()[:, None]])
def test_dates_are_refused(kind, table):
    X = table({"a": pd.Series(np.arange(4).astype(kind))})
    with pytest.raises(ValueError, match=rf"column ('a'|0): type {kind[:-4]}\[ns\] is not supported"):
        classifier().fit(X, [0, 1, 0, 1])


def test_logits_are_divided_by_the_temperature(blobs):
    X, y, X_test, _ = blobs
    one, two = (
        np.log(classifier(n_estimators=1, softmax_temperature=t).fit(X, y).predict_proba(X_test)) for t in (1.0, 2.0)
    )
    np.testing.assert_allclose(one[:, 1:] - one[:, :1], 2 * (two[:, 1:] - two[:, :1]), rtol=1e-6, atol=1e-9)
