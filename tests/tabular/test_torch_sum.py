"""Sums in PyTorch's order, to the last bit."""

import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax.tabular.network.torch_sum import sum_rows


@pytest.mark.parametrize("rows", [3, 4, 7, 30])
def test_left_over_columns_are_dealt_to_four_accumulators(rows):
    """The rows that do not fill a deal go to the first."""
    x = np.random.default_rng(rows).normal(size=(32, 3)).astype(np.float32)
    sums = [np.zeros(3, np.float32) for _ in range(4)]
    dealt = rows // 4 * 4
    for i, row in enumerate(x[:rows]):
        sums[i % 4 if i < dealt else 0] += row
    expected = sums[0] + sums[1] + sums[2] + sums[3]
    np.testing.assert_array_equal(sum_rows(jnp.asarray(x), rows, 3), expected)
