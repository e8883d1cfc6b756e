"""Which rows are contexts, and which are held out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt_jax.tabular.classify.splits import context_quotas, deal_contexts, split_rows

TABLES = st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=10), st.floats(0.01, 1.0), st.integers(0, 99))


def table(counts, share, seed, number=3):
    labels = np.repeat(np.arange(len(counts)), sorted(counts, reverse=True))
    n = max(1, int(share * len(labels)))
    rng = np.random.default_rng(seed)
    split = split_rows(labels, n, held_out_fraction=0.2, rng=rng)
    return labels, n, split, deal_contexts(labels, split.training, n, number, rng)


@given(TABLES)
@settings(max_examples=80, deadline=None)
def test_no_row_has_two_roles(case):
    labels, n, split, contexts = table(*case)
    assert not set(split.held_out) & set(split.training)
    assert all(set(context) <= set(split.training) for context in contexts)
    assert len(split.held_out) + len(split.training) == len(labels)
    assert all(len(context) == n == len(set(context)) for context in contexts)


@given(TABLES)
@settings(max_examples=80, deadline=None)
def test_every_context_shows_the_most_frequent_classes(case):
    labels, n, _, contexts = table(*case)
    shown = min(n, labels.max() + 1)
    for context in contexts:
        assert set(labels[context]) == set(range(shown))


def test_contexts_share_no_row_while_rows_last():
    *_, contexts = table([50, 50], 0.2, 0, number=4)
    rows = np.concatenate(contexts)
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(("n", "held_out"), [(100, 0), (99, 0), (98, 1), (50, 10), (0, 20)])
def test_held_out_rows_come_from_those_outside_the_context(n, held_out):
    split = split_rows(np.arange(100) % 2, n, held_out_fraction=0.2, rng=np.random.default_rng(0))
    assert len(split.held_out) == held_out


@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_quotas_are_proportional_and_possible(counts, share):
    counts = np.array(sorted(counts, reverse=True))
    n = max(1, round(share * counts.sum()))
    quotas = context_quotas(counts, n)
    assert quotas.sum() == n
    assert (quotas <= counts).all()
    assert (quotas[: min(n, len(counts))] >= 1).all()
    assert (np.abs(quotas - n * counts / counts.sum()) < len(counts) + 1).all()
