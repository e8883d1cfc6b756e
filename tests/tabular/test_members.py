"""What the members of an ensemble see of a table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt_jax.tabular.classify import codings
from ttt_jax.tabular.classify.members import Plan, draw_members


def draw(X, number=8, labels=None, categorical=None, contexts=None, classes=3, shown=3, seed=0):
    return draw_members(
        X,
        np.arange(len(X)) % classes if labels is None else labels,
        np.zeros(X.shape[1], bool) if categorical is None else categorical,
        Plan(number, [np.arange(len(X))] if contexts is None else contexts, np.arange(classes), shown, seed),
    )


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), classes=st.integers(1, 6), seed=st.integers(0, 99))
def test_members_order_features_and_classes(rows, columns, classes, seed):
    X = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    shown = min(rows, classes)
    members = draw(X, classes=classes, shown=shown, seed=seed)
    np.testing.assert_array_equal(members[0].features(X), X)
    np.testing.assert_array_equal(np.sort(members[2].features(X)), np.sort(X))
    for member in members:
        assert len(member.features(X)) == rows
        assert np.isfinite(member.features(X)).all()
        assert sorted(member.ranks[:shown]) == list(range(shown))
        np.testing.assert_array_equal(member.ranks[shown:], np.arange(shown, classes))


def test_classes_change_places_from_the_second_member_on():
    ranks = [tuple(member.ranks) for member in draw(np.zeros((20, 2)), classes=4, shown=4)]
    assert ranks[0] == (0, 1, 2, 3)
    assert len(set(ranks)) > 4


def test_of_five_rows_there_are_four_components():
    X = np.random.default_rng(0).normal(size=(5, 9))
    assert [member.features(X).shape[1] for member in draw(X)] == [9, 9, 9, 4, 9, 9, 9, 4]  # every fourth member


def test_contexts_take_turns_and_decide_the_coding():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    contexts = [np.arange(20), np.arange(20, 40)]
    members = draw(X, contexts=contexts)
    for i, member in enumerate(members):
        np.testing.assert_array_equal(member.rows, contexts[i % 2])
    moved = X.copy()
    moved[:20] *= 7
    again = draw(moved, contexts=contexts)
    np.testing.assert_array_equal(members[1].features(X[20:]), again[1].features(X[20:]))


def test_categories_become_columns_and_numbers_quantiles():
    """A member that is recoded does not depend on the codes, nor on a monotone change of a number's scale."""
    rng = np.random.default_rng(0)
    colour, x = rng.integers(0, 4, 60), rng.normal(size=60)
    categorical = np.array([True, False])
    first = draw(np.stack([colour, x], 1), categorical=categorical)[1]
    other = draw(np.stack([np.array([2, 0, 3, 1])[colour], np.exp(x)], 1), categorical=categorical)[1]
    a = first.features(np.stack([colour, x], 1))
    b = other.features(np.stack([np.array([2, 0, 3, 1])[colour], np.exp(x)], 1))
    assert a.shape == (60, 5)
    np.testing.assert_allclose(a[:, np.lexsort(a)], b[:, np.lexsort(b)], atol=1e-5)
    unseen = first.features(np.array([[9.0, 0.0]]))
    assert sorted(unseen[0])[:4] == [0, 0, 0, 0] or sorted(abs(unseen[0]))[:4] == [0, 0, 0, 0]
    assert np.isfinite(first.features(np.array([[np.nan, np.inf], [0, 1e9]]))[1]).all()


def test_wide_tables_keep_the_columns_that_tell_most():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 200)), np.arange(50) % 2
    X[:, 150] += 10 * y
    X[0, 150] = np.nan
    for member in draw(X, labels=y, classes=2, shown=2)[:2]:
        assert len(member.order) == codings.MOST_COLUMNS
        assert any(abs(np.corrcoef(np.nan_to_num(f), y)[0, 1]) > 0.7 for f in member.features(X).T)


def test_components_do_not_depend_on_the_order_or_the_units_of_columns():
    X = np.random.default_rng(0).normal(size=(40, 15)) @ np.random.default_rng(1).normal(size=(15, 15))
    order = np.random.default_rng(2).permutation(15)
    first, other = draw(X)[7], draw(1000 * X[:, order] + 5)[7]
    a, b = (
        first.features(X)[:, np.argsort(first.order)],
        other.features(1000 * X[:, order] + 5)[:, np.argsort(other.order)],
    )
    np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-4)


def test_missing_values_are_at_the_mean_of_their_column():
    X = np.random.default_rng(0).normal(size=(40, 5))
    holes = X.copy()
    holes[0, 1], holes[0, 2], holes[0, 3] = np.nan, np.inf, -np.inf
    member = draw(holes)[7]
    filled = holes.copy()
    filled[0, 1:4] = X[1:, 1:4].mean(0)
    np.testing.assert_allclose(member.features(holes), member.features(filled), atol=1e-6)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_context_without_variation_has_components_that_are_zero(value):
    X = np.full((10, 3), value)
    assert (draw(X)[7].features(X) == 0).all()


def test_a_huge_value_does_not_overflow():
    X = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)
    X[3, 2] = 3e38
    assert all(np.isfinite(member.features(X)).all() for member in draw(X))
