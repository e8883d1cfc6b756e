import numpy as np
import pytest

from ttt_jax.tabular.network.columns import column_draws

# torch.manual_seed(seed); torch.randn(groups, size, dtype=dtype), the last three values
PYTORCH = {
    (0, 1, 4, "float32"): [-0.2934289, -2.1787894, 0.56843126],
    (0, 1, 15, "float32"): [-0.8566746, 1.1006042, -1.0711874],
    (0, 4, 4, "float32"): [1.2376579, 1.1167772, -0.24727815],
    (0, 5, 4, "float32"): [1.2590092, 2.0049806, 0.0537369],
    (0, 3, 8, "float32"): [-0.41280222, -0.8410648, -2.316042],
    (0, 1, 33, "float32"): [-1.4688939, -1.5866888, 1.2032237],
    (0, 1, 4, "float64"): [-0.29342891, -2.17878938, 0.56843128],
}


@pytest.mark.parametrize("case", PYTORCH)
def test_draws_are_those_of_pytorch(case):
    seed, groups, size, dtype = case
    draws = column_draws(seed, groups, size, dtype)
    assert draws.shape == (groups, size)
    assert draws.dtype == dtype
    np.testing.assert_allclose(draws.ravel()[-3:], PYTORCH[case], rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 3, 50, 2500])
def test_computed_draws_continue_the_table(groups):
    """The table holds 2,000 rows of 48; it and the computation must agree on what they share."""
    draws = column_draws(0, groups, 48)
    np.testing.assert_array_equal(draws[:2000], column_draws(0, 2000, 48)[:groups])
    assert np.isfinite(draws).all()
    assert abs(draws.std() - 1) < 5 / np.sqrt(draws.size)


def test_draws_depend_on_the_seed():
    assert not np.array_equal(column_draws(1, 2, 16), column_draws(0, 2, 16))
