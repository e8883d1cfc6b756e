"""The prior: reproducible, of the promised ranges, and learnable."""

import jax
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ttt_jax.tabular.pretraining.prior import MAX_CLASSES, _Uniforms, sample_tasks

ROWS, CONTEXT = 256, 64


@pytest.fixture(scope="module")
def tasks():
    x, y = sample_tasks(jax.random.key(0), tables=64, rows=ROWS, features=6)
    return np.asarray(x), np.asarray(y)


def test_the_key_decides(tasks):
    again, other = (sample_tasks(jax.random.key(seed), tables=64, rows=ROWS, features=6) for seed in (0, 1))
    np.testing.assert_array_equal(again.x, tasks[0])
    assert (np.asarray(other.y) != tasks[1]).any()


def test_ranges(tasks):
    x, y = tasks
    assert not np.isinf(x).any()
    assert 0 < np.isnan(x).mean() < 0.15
    assert y.min() >= 0
    assert y.max() < MAX_CLASSES
    classes = np.array([len(set(row)) for row in y])
    assert 0.4 < (classes <= 2).mean() < 0.8
    assert classes.max() > 5


def test_rows_are_exchangeable(tasks):
    """The first and the last rows of a table have the same class shares, up to chance."""
    _, y = tasks
    first, last = (np.array([np.bincount(row, minlength=10) for row in half]) for half in np.split(y, 2, axis=1))
    chi2 = ((first - last) ** 2 / np.maximum(first + last, 1)).sum()
    degrees = ((first + last) > 0).sum() - len(y)
    assert abs(chi2 - degrees) < 5 * (2 * degrees) ** 0.5


def test_tables_can_be_learnt(tasks):
    """With 64 rows, logistic regression and a random forest clearly beat the most frequent class."""
    scores = []
    for x, y in zip(*tasks, strict=True):
        if len(set(y[:CONTEXT])) == 1:
            continue
        majority = (y[CONTEXT:] == np.bincount(y[:CONTEXT]).argmax()).mean()
        models = LogisticRegression(max_iter=300), RandomForestClassifier(30, random_state=0)
        fitted = [
            make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), model).fit(
                x[:CONTEXT], y[:CONTEXT]
            )
            for model in models
        ]
        scores.append([majority, *(model.score(x[CONTEXT:], y[CONTEXT:]) for model in fitted)])
    majority, logistic, forest = np.mean(scores, axis=0)
    assert logistic > majority + 0.1
    assert forest > majority + 0.15


def test_at_most_three_tenths_of_a_column_are_missing(tasks):
    share = np.isnan(tasks[0]).mean(axis=1)
    assert 0 < share.max() < 0.3 + 4 * np.sqrt(0.3 * 0.7 / ROWS)


def test_random_integers_include_both_ends():
    numbers = _Uniforms(jax.random.key(0), 300).integer(3, 5, (300,))
    assert set(numbers.tolist()) == {3, 4, 5}
