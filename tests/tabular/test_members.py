import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt_jax.tabular import TTTClassifier
from ttt_jax.tabular.classify.members import MOST_COMPONENTS, draw_members


def draw(context, classes=3, shown=3, number=4, seed=0):
    return draw_members(number, context, np.arange(classes), shown, np.random.RandomState(seed))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), classes=st.integers(1, 6), seed=st.integers(0, 99))
def test_members_order_features_and_classes(rows, columns, classes, seed):
    context = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    shown = min(rows, classes)
    members = draw(context, classes, shown, seed=seed)
    np.testing.assert_array_equal(members[0].features(context), context)
    for i, member in enumerate(members):
        if i % 2 and rows > 1:
            assert member.features(context).shape == (rows, min(rows - 1, columns, MOST_COMPONENTS))
        else:
            np.testing.assert_array_equal(np.sort(member.features(context)), np.sort(context))
        assert sorted(member.ranks[:shown]) == list(range(shown))
        np.testing.assert_array_equal(member.ranks[shown:], np.arange(shown, classes))


def test_components_do_not_depend_on_the_order_or_the_units_of_columns():
    X = np.random.default_rng(0).normal(size=(40, 15)) @ np.random.default_rng(1).normal(size=(15, 15))
    order = np.random.default_rng(2).permutation(15)
    first, other = draw(X)[1], draw(1000 * X[:, order] + 5)[1]
    a, b = (
        first.features(X)[:, np.argsort(first.order)],
        other.features(1000 * X[:, order] + 5)[:, np.argsort(other.order)],
    )
    np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-4)


def test_missing_values_are_at_the_mean_of_their_column():
    X = np.random.default_rng(0).normal(size=(40, 5))
    holes = X.copy()
    holes[0, 1], holes[0, 2], holes[0, 3] = np.nan, np.inf, -np.inf
    member = draw(holes)[1]
    filled = holes.copy()
    filled[0, 1:4] = X[1:, 1:4].mean(0)
    np.testing.assert_allclose(member.features(holes), member.features(filled), atol=1e-6)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_context_without_variation_has_components_that_are_zero(value):
    X = np.full((10, 3), value)
    assert (draw(X)[1].features(X) == 0).all()


def test_a_huge_value_does_not_overflow():
    X = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)
    X[3, 2] = 3e38
    assert np.isfinite(draw(X)[1].features(X)).all()


@pytest.mark.parametrize("n_context", [1, 2, 30])
def test_columns_and_components_are_tuned_together(n_context):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 20))
    y = (X.sum(1) > 0).astype(int)
    model = TTTClassifier(n_context=n_context, n_estimators=2, n_contexts=2, steps=2, batch_size=16).fit(X, y)
    assert len(model.scores_) == 3
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
