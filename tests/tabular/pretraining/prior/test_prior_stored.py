"""Tables from files: reproducible, with the same rows of x, y and num_features, and refused if they are not there."""

import numpy as np
import pytest

from ttt_jax.tabular.pretraining.prior.stored import stored_tables


@pytest.fixture
def directory(tmp_path):
    for number in range(3):
        y = np.arange(12, dtype=np.int32).reshape(4, 3) + 100 * number
        np.savez(tmp_path / f"3x2-{number:06d}.npz", x=np.stack([y, -y], -1), y=y, num_features=y[:, 0])
    return tmp_path


def test_parts_belong_together_and_arguments_decide(directory):
    drawn = {step: stored_tables(directory, 0, step, 2, 3, 2) for step in range(24)}
    for step, tables in drawn.items():
        assert (tables.x.shape, tables.y.shape, tables.num_features.shape) == ((2, 3, 2), (2, 3), (2,))
        np.testing.assert_array_equal(tables.x[..., 0], tables.y)
        np.testing.assert_array_equal(tables.num_features, tables.y[:, 0])
        np.testing.assert_array_equal(tables.y, stored_tables(directory, 0, step, 2, 3, 2).y)
    assert len({tables.y[0, 0] // 100 for tables in drawn.values()}) == 3


def test_what_is_not_there_is_refused(directory):
    with pytest.raises(ValueError, match=r"must have files 5x2-\*.npz, got none"):
        stored_tables(directory, 0, 0, 2, 5, 2)
    with pytest.raises(ValueError, match="tables must be at most the 4 of a file, got 5"):
        stored_tables(directory, 0, 0, 5, 3, 2)
