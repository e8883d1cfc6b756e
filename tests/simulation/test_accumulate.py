import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt_jax.simulation.accumulate import Tally, reduce_block

reduce_blocks = jax.jit(jax.vmap(reduce_block))
PAIRS = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), max_size=6)


def reduced(blocks, size=None, dtype=np.float64):
    """The blocks, each list of vectors reduced in the given precision."""
    size = size or max(map(len, blocks))
    blocks = [np.asarray(block) for block in blocks]
    padded = np.array([np.pad(block, ((0, size - len(block)), (0, 0)), constant_values=np.nan) for block in blocks])
    live = np.arange(size) < np.array([len(block) for block in blocks])[:, None]
    with jax.enable_x64(dtype == np.float64):
        return jax.tree.map(np.asarray, reduce_blocks(padded.astype(dtype), live))


def tally_of(blocks, **options):
    return Tally().add(reduced(blocks, **options))


def sums(tally):
    return tally.moments.central[2:]


@settings(max_examples=30)
@given(st.lists(PAIRS, min_size=1, max_size=6))
def test_blocks_add_up_to_the_whole(blocks):
    whole = np.reshape([pair for block in blocks for pair in block], (-1, 2))
    blocks = [np.reshape(block, (-1, 2)) for block in [*blocks, *[[]] * (6 - len(blocks))]]
    added, whole = tally_of(blocks, size=36), tally_of([whole, *[np.empty((0, 2))] * 5], size=36)
    assert added.num_tasks == whole.num_tasks
    np.testing.assert_allclose(added.moments.mean, whole.moments.mean, rtol=1e-9, atol=1e-9)
    for power, ours, theirs in zip((1, 2, 3, 4), sums(added), sums(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-7 * 100**power)


def test_against_the_textbook():
    x = np.random.default_rng(0).exponential(size=(4000, 3)) @ [[3.0, 1.0], [0.0, 2.0], [1.0, 0.0]] + 1
    for dtype, rounding in ((np.float64, 1e-12), (np.float32, 2e-6)):
        moments = tally_of(np.split(x, 10), dtype=dtype).moments
        centred = (x - x.mean(axis=0)) / x.std(axis=0)
        for ours, theirs in (
            (moments.covariance, np.cov(x, rowvar=False)),
            (moments.stderr, x.std(axis=0, ddof=1) / np.sqrt(4000)),
            (moments.skewness, np.mean(centred**3, axis=0)),
            (moments.kurtosis, np.mean(centred**4, axis=0)),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=rounding)


def test_a_block_in_float32_is_summed_to_its_last_digits():
    """Also of more values than their sum, term by term, could count in float32."""
    x = np.random.default_rng(0).lognormal(sigma=2, size=(2**18 + 5, 1)).astype(np.float32)
    moments = tally_of([x], dtype=np.float32).moments
    exact = x.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=3e-7)
    np.testing.assert_allclose(moments.covariance[0], exact.var(axis=0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(moments.central.fourth, np.sum((exact - exact.mean(axis=0)) ** 4, axis=0), rtol=3e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e37])
def test_no_power_overflows_or_underflows_in_float32(scale):
    x = np.random.default_rng(1).exponential(size=(64, 1))
    moments, usual = (tally_of([c * x], dtype=np.float32).moments for c in (scale, 1.0))
    np.testing.assert_allclose(moments.stderr, scale * usual.stderr, rtol=1e-5)
    np.testing.assert_allclose(moments.kurtosis, usual.kurtosis, rtol=1e-5)


def test_large_offsets_lose_nothing():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    shifted = tally_of([x[:300] + 1e8, x[300:] + 1e8]).moments
    np.testing.assert_allclose(shifted.covariance, np.cov(x, rowvar=False), rtol=1e-6, atol=1e-8)


def test_at_a_mark_deviations_are_from_the_mean():
    """Else sums of powers far from the mean would cancel in long runs."""
    tally = Tally().add(reduced([[[float(i), 3.0]] for i in range(8)]))
    np.testing.assert_array_equal(tally.moments.center, [3.5, 3.0])


def test_what_does_not_vary_has_the_moments_of_a_gaussian_and_one_vector_no_covariance():
    for value in (1.0, 0.1):
        constant = tally_of([np.full((5, 1), value)] * 3, dtype=np.float32).moments
        assert (constant.skewness.tolist(), constant.kurtosis.tolist(), constant.stderr.tolist()) == ([0], [3], [0])
    assert np.isnan(tally_of([[[1.0, 2.0]]]).moments.covariance).all()


def test_blocks_add_up_to_the_whole_without_the_vectors_that_are_not_finite():
    draws = np.random.default_rng(0).normal(size=(100, 3)) + 5
    broken = np.array([[np.inf, 1.0, 1.0], [1.0, np.nan, 1.0]])
    for blocks in ([draws[:30], draws[30:31], broken, draws[31:]], [broken, draws]):
        tally = tally_of(blocks)
        assert (tally.num_blocks, tally.num_tasks, tally.num_nonfinite) == (len(blocks), 102, 2)
        np.testing.assert_allclose(tally.moments.mean, draws.mean(axis=0))
        np.testing.assert_allclose(tally.moments.covariance, np.cov(draws, rowvar=False))


def test_however_blocks_come_the_bits_are_the_same():
    """One by one and by way of JSON, or all at once."""
    blocks = reduced(np.random.default_rng(1).normal(size=(23, 8, 2)))
    whole, part = Tally().add(blocks), Tally()
    for i in range(23):
        one = jax.tree.map(lambda stacked: stacked[i : i + 1], blocks)  # noqa: B023
        part = Tally.from_dict(json.loads(json.dumps(part.to_dict()))).add(one)
        assert part.num_blocks == i + 1
    assert part.history == whole.history
    for ours, theirs in zip(part.moments, whole.moments, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_history_and_stopping_look_at_the_marks_only():
    tally, marks = Tally(), []
    block = reduced([[[1.0, 10.0], [1.0, 12.0]]])
    for i in range(1, 33):
        tally = tally.add(block)
        if tally.at_mark:
            marks.append(i)
            assert tally.history[-1] == tally.point()
        assert tally.reached(0.5) is tally.at_mark
    assert marks == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32]
    assert [row[0] for row in tally.history] == [2 * mark for mark in marks]
    assert tally.point()[1:] == (pytest.approx(11.0), pytest.approx(np.sqrt(64 / 63 / 64)))


def test_what_is_behind_the_target_is_left_out():
    blocks = [[[1.0, 10.0], [1.0, 12.0]]] * 20
    for target, expected in ((0.5, 1), (0.0235, 8), (0.023, 10), (1e-9, 20)):  # 9 is no mark
        assert Tally().add(reduced(blocks), target).num_blocks == expected


def test_a_run_stops_only_when_every_value_is_precise_enough():
    assert not tally_of([[[1.0, 10.0], [1.1, -9.0]]]).reached(0.1)
    assert tally_of([[[1.0], [1.1]]]).reached(0.1)
