"""Which rows are contexts, queries and held out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt_jax.tabular.classify.splits import context_quotas, split_rows

TABLES = st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=10), st.floats(0.01, 1.0), st.integers(0, 99))


def table(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), sorted(counts, reverse=True))
    n = max(1, int(share * len(labels)))
    rng = np.random.default_rng(seed)
    return labels, n, split_rows(labels, n, groups=None, held_out_fraction=0.2, rng=rng)


@given(TABLES)
@settings(max_examples=80, deadline=None)
def test_no_row_has_two_roles(case):
    labels, n, split = table(*case)
    assert not set(split.held_out) & set(split.training)
    assert all(set(context) <= set(split.training) for context in split.contexts)
    assert len(split.held_out) + len(split.training) == len(labels)
    assert all(len(context) == n == len(set(context)) for context in split.contexts)


@given(TABLES)
@settings(max_examples=80, deadline=None)
def test_every_context_shows_the_most_frequent_classes(case):
    labels, n, split = table(*case)
    shown = min(n, labels.max() + 1)
    for context in split.contexts:
        assert set(labels[context]) == set(range(shown))


def test_groups_share_no_row_while_rows_last():
    _, _, split = table([50, 50], 0.2, 0)
    rows = np.concatenate(split.contexts)
    assert len(split.contexts) == 4
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(("n", "held_out"), [(100, 0), (99, 0), (98, 1), (50, 10)])
def test_held_out_rows_come_from_those_outside_the_context(n, held_out):
    rng = np.random.default_rng(0)
    split = split_rows(np.arange(100) % 2, n, groups=None, held_out_fraction=0.2, rng=rng)
    assert len(split.held_out) == held_out


def test_quotas_are_proportional_and_possible():
    counts = np.array([90, 8, 2])
    for n in range(1, 101):
        quotas = context_quotas(counts, n)
        assert quotas.sum() == n
        assert (quotas <= counts).all()
        assert abs(quotas[0] - 0.9 * n) <= 2
