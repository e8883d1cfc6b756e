import json
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttt_jax.simulation.accumulate import Moments, Tally

PAIRS = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), max_size=6)


def moments_of(rows):
    return Moments.of(np.reshape(rows, (-1, 2)))


@given(st.lists(PAIRS, min_size=1, max_size=6))
def test_merged_blocks_are_the_whole(blocks):
    merged = reduce(Moments.merge, map(moments_of, blocks))
    whole = moments_of([row for block in blocks for row in block])
    assert merged.count == whole.count
    for power, field in ((1, "mean"), (2, "scatter"), (3, "m3"), (4, "m4")):
        ours, theirs = getattr(merged, field), getattr(whole, field)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-7 * 100**power)


def test_against_the_textbook():
    x = np.random.default_rng(0).exponential(size=(4000, 3)) @ [[3.0, 1.0], [0.0, 2.0], [1.0, 0.0]] + 1
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False))
    np.testing.assert_allclose(moments.stderr, x.std(axis=0, ddof=1) / np.sqrt(4000))
    centred = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(moments.skewness, np.mean(centred**3, axis=0))
    np.testing.assert_allclose(moments.kurtosis, np.mean(centred**4, axis=0))


def test_large_offsets_lose_nothing():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    shifted = Moments.of(x[:300] + 1e8).merge(Moments.of(x[300:] + 1e8))
    np.testing.assert_allclose(shifted.covariance, np.cov(x, rowvar=False), rtol=1e-6, atol=1e-8)


def test_what_does_not_vary_has_the_moments_of_a_gaussian_and_one_vector_no_covariance():
    constant = Moments.of(np.ones((5, 1)))
    assert (constant.skewness.tolist(), constant.kurtosis.tolist(), constant.stderr.tolist()) == ([0.0], [3.0], [0.0])
    assert np.isnan(Moments.of([[1.0, 2.0]]).covariance).all()


def test_blocks_add_up_to_the_whole_without_the_vectors_that_are_not_finite():
    draws = np.random.default_rng(0).normal(size=(100, 3)) + 5
    broken = np.array([[np.inf, 1.0, 1.0], [1.0, np.nan, 1.0]])
    tally = Tally()
    for block in (draws[:30], draws[30:31], broken, draws[31:]):
        tally = tally.add(block)
    assert (tally.num_blocks, tally.num_tasks, tally.num_nonfinite) == (4, 102, 2)
    np.testing.assert_allclose(tally.moments.mean, draws.mean(axis=0))
    np.testing.assert_allclose(tally.moments.covariance, np.cov(draws, rowvar=False))


def test_a_tally_continues_from_json_to_the_same_bits():
    blocks = np.random.default_rng(1).normal(size=(12, 8, 2))
    whole, part = Tally(), Tally()
    for i, block in enumerate(blocks):
        whole = whole.add(block)
        part = Tally.from_dict(json.loads(json.dumps(part.to_dict()))).add(block)
        assert part.num_blocks == i + 1
    assert part.history == whole.history
    for field in ("mean", "scatter", "m3", "m4"):
        np.testing.assert_array_equal(getattr(part.moments, field), getattr(whole.moments, field))


def test_history_and_stopping_look_at_the_marks_only():
    tally, marks = Tally(), []
    for i in range(1, 33):
        tally = tally.add(np.array([[1.0, 10.0], [1.0, 12.0]]))
        if tally.at_mark:
            marks.append(i)
            assert tally.history[-1] == tally.point()
        assert tally.reached(0.5) is tally.at_mark
    assert marks == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32]
    assert [row[0] for row in tally.history] == [2 * mark for mark in marks]
    assert tally.point()[1:] == (pytest.approx(11.0), pytest.approx(np.sqrt(64 / 63 / 64)))


def test_a_run_stops_only_when_every_value_is_precise_enough():
    tally = Tally().add(np.array([[1.0, 10.0], [1.1, -9.0]]))
    assert not tally.reached(0.1)
    assert Tally().add(np.array([[1.0], [1.1]])).reached(0.1)
