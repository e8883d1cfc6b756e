import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttt_jax.simulation.moments import Moments


@given(st.lists(st.lists(st.floats(-100, 100), max_size=6), min_size=1, max_size=6))
def test_merged_blocks_are_the_whole(blocks):
    merged = Moments()
    for block in blocks:
        merged = merged.merge(Moments.of(block))
    whole = Moments.of([x for block in blocks for x in block])
    assert merged.count == whole.count
    for power, field in enumerate(("mean", "m2", "m3", "m4"), start=1):
        assert getattr(merged, field) == pytest.approx(getattr(whole, field), rel=1e-9, abs=1e-7 * 100**power)


def test_against_the_textbook():
    x = np.random.default_rng(0).exponential(size=4000) * 3 + 1
    moments = Moments.of(x)
    assert moments.variance == pytest.approx(x.var(ddof=1))
    assert moments.stderr == pytest.approx(x.std(ddof=1) / np.sqrt(4000))
    centred = (x - x.mean()) / x.std()
    assert moments.skewness == pytest.approx(np.mean(centred**3))
    assert moments.kurtosis == pytest.approx(np.mean(centred**4))


def test_large_offsets_lose_nothing():
    x = np.random.default_rng(0).normal(size=1000)
    shifted = Moments.of(x[:300] + 1e8).merge(Moments.of(x[300:] + 1e8))
    assert shifted.variance == pytest.approx(x.var(ddof=1), rel=1e-6)
