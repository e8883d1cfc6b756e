"""Fitted classifiers in files, and in the hands of scikit-learn's tools."""

import json
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ttt_jax.tabular import CheckpointError, PFNClassifier, TTTClassifier
from ttt_jax.tabular.network import pfn
from ttt_jax.tabular.network.blocks import bucket

BLOBS = Path(__file__).parent / "fixtures" / "blobs.safetensors"
pytestmark = pytest.mark.usefixtures("few_sizes")


@pytest.fixture(scope="module")
def table():
    X, y = make_blobs(n_samples=90, centers=3, n_features=3, random_state=1, cluster_std=2.0)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["colour"] = np.array(["red", "green", "blue", None], dtype=object)[np.arange(90) % 4]
    frame.loc[::9, "a"] = np.nan
    frame["b"] += 1.7e9
    return frame, np.array(["low", "middle", "high"])[y]


@pytest.fixture(scope="module")
def tuned(table):
    X, y = table
    options = {"n_estimators": 3, "steps": 2, "members_per_step": 1, "class_weight": {"low": 2.0}}
    return TTTClassifier(BLOBS, categorical_features=["colour"], max_context_rows=30, **options).fit(X[:60], y[:60])


@pytest.fixture(scope="module")
def file(tuned, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "tuned.safetensors"
    tuned.save(path)
    return path


def test_a_new_process_predicts_the_same(table, tuned, file, tmp_path, monkeypatch):
    monkeypatch.setattr(pfn, "bucket", bucket)
    X, _ = table
    X.to_pickle(tmp_path / "X.pickle")
    code = (
        "import sys, numpy as np, pandas as pd; from ttt_jax.tabular import TTTClassifier;"
        "model = TTTClassifier.load(sys.argv[1]);"
        "np.save(sys.argv[3], model.predict_proba(pd.read_pickle(sys.argv[2])))"
    )
    arguments = [str(file), str(tmp_path / "X.pickle"), str(tmp_path / "p.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), tuned.predict_proba(X))


def test_what_a_file_holds(table, tuned, file):
    X, _ = table
    again = PFNClassifier.load(file)
    assert type(again) is TTTClassifier
    np.testing.assert_array_equal(again.predict(X), tuned.predict(X))
    assert again.chosen_ == tuned.chosen_
    assert again.scores_ == tuned.scores_
    assert list(again.feature_names_in_) == list(X.columns)
    assert again.categorical_features == ["colour"]
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(X.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="must be in the same order"):  # and not what a text is as a number
        again.predict(X[X.columns[::-1]])


@pytest.mark.parametrize("labels", [np.array([True, False]), np.array([1.0, 3.0]), np.array(["x", "y"], dtype=object)])
def test_labels_keep_their_type(table, labels, tmp_path):
    X = table[0][["a", "c"]].fillna(0).to_numpy()
    model = PFNClassifier(BLOBS, n_estimators=1).fit(X[:40], labels[np.arange(40) % 2])
    model.save(tmp_path / "m")
    again = PFNClassifier.load(tmp_path / "m")
    np.testing.assert_array_equal(again.classes_, model.classes_)
    assert again.predict(X).dtype == model.predict(X).dtype


def changed(file, path, *, content=None, tensors=None, text=None):
    """The file with other JSON or other arrays."""
    with safe_open(file, framework="numpy") as stream:
        metadata = stream.metadata()
        arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    told = json.loads(metadata["content"]) | (content or {})
    arrays |= tensors or {}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    save_file(arrays, path, metadata=metadata | {"content": json.dumps(told) if text is None else text})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content": {"class": "Pipeline"}}, "class does not fit"),
        ({"content": {"options": {"n_jobs": 3}}}, "n_jobs"),
        ({"content": {"options": {"n_estimators": -1}}}, "n_estimators must be an integer >= 1"),
        ({"content": {"classes": {"dtype": "<U9999999999", "values": ["a", "b", "c"]}}}, "damaged"),
        ({"content": {"classes": {"dtype": "|O", "values": [["a"], "b", "c"]}}}, "classes does not fit"),
        ({"content": {"classes": {"dtype": "<i8", "values": [1, 1, 2]}}}, "classes does not fit"),
        ({"content": {"members": 10**9}}, "members does not fit"),
        ({"content": {"contexts": 10**9}}, "context"),
        ({"content": {"predicted": 11}}, "predicted does not fit"),
        ({"content": {"temperature": 0}}, "temperature does not fit"),
        ({"content": {"features": 3}}, "columns does not fit"),
        ({"content": {"network": {"embedding_size": 31}}}, "divide"),
        ({"content": {"categories": 3}}, "damaged"),
        ({"tensors": {"labels": np.full(60, 3)}}, "labels does not fit"),
        ({"tensors": {"labels": np.full(60, -1)}}, "labels does not fit"),
        ({"tensors": {"X": np.zeros((60, 4))}}, "X does not fit"),
        ({"tensors": {"X": None}}, "X"),
        ({"tensors": {"context.0": np.array([60])}}, "contexts does not fit"),
        ({"tensors": {"ranks": np.array([0, 0, 1])}}, "ranks does not fit"),
        ({"tensors": {"columns": np.array([0, 1, 2, 2])}}, "columns does not fit"),
        ({"tensors": {"offsets": np.full(4, np.nan)}}, "offsets does not fit"),
        ({"tensors": {"class_weights": np.array([1.0, -1, 1])}}, "class_weights does not fit"),
        ({"tensors": {"network.layers.mlp.hidden.kernel": np.zeros((2, 2), np.float32)}}, "shape"),
        ({"text": "[" * 100_000}, "damaged"),
        ({"text": "{"}, "damaged"),
        ({"text": "[]"}, "damaged"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(file, tmp_path, change, message):
    path = changed(file, tmp_path / "bad", **change)
    with pytest.raises(CheckpointError, match=message) as refused:
        TTTClassifier.load(path)
    assert "\n" not in str(refused.value)


def test_other_files_are_refused(file, tmp_path):
    with pytest.raises(CheckpointError, match=r"is not 'ttt_jax.tabular.classifier/1'"):
        TTTClassifier.load(BLOBS)
    with pytest.raises(CheckpointError, match="cannot be read"):
        TTTClassifier.load(tmp_path / "none")
    (tmp_path / "cut").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        TTTClassifier.load(tmp_path / "cut")


def test_a_cached_context_predicts_the_same(table, tuned):
    X, y = table
    cached = TTTClassifier(**tuned.get_params() | {"cache_context": True}).fit(X[:60], y[:60])
    assert all(reading is not None for reading in cached.ensemble_.readings)
    for queries in (X, X[60:], X.assign(a=1e4)):
        np.testing.assert_allclose(cached.predict_proba(queries), tuned.predict_proba(queries), atol=2e-5)


def test_a_context_of_one_row_is_read_with_its_queries(table):
    X, y = table
    plain, cached = (
        PFNClassifier(BLOBS, n_estimators=2, cache_context=cache).fit(X[:1], y[:1]).predict_proba(X)
        for cache in (False, True)
    )
    np.testing.assert_array_equal(plain, cached)


def test_tools_of_scikit_learn(table, tmp_path):
    X, y = table[0][["a", "b", "c"]], table[1]
    model = TTTClassifier(BLOBS, n_estimators=1, steps=1, n_context=20, batch_size=16)
    assert cross_val_score(model, X, y, cv=2).mean() > 0.6
    search = GridSearchCV(make_pipeline(StandardScaler(), model), {"tttclassifier__steps": [1, 2]}, cv=2).fit(X, y)
    joblib.dump(search.best_estimator_, tmp_path / "pipeline")
    np.testing.assert_array_equal(joblib.load(tmp_path / "pipeline").predict(X), search.predict(X))
