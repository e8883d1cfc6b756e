import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import chdtri, gammainc, ndtr

from ttt_jax.simulation.chi_square import MANY, ChiSquare, _quantile

MANY_AND_FEW = [2, 3, 5, 64, 1000, MANY - 1]


@pytest.mark.parametrize("degrees", MANY_AND_FEW)
def test_the_quantile_has_the_probability_of_its_normal(degrees):
    with jax.enable_x64(True):
        z = jnp.linspace(-8.2, 8.2, 301)
        x = np.asarray(ChiSquare.of(degrees)(z))
    np.testing.assert_allclose(gammainc(degrees / 2, x / 2), ndtr(z), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("degrees", MANY_AND_FEW)
def test_in_float32_it_is_wrong_by_rounding_only(degrees):
    z = np.linspace(-5.4, 5.4, 301)
    upper = chdtri(degrees, ndtr(-z))
    found = np.asarray(ChiSquare.of(degrees)(jnp.asarray(z, jnp.float32)))
    np.testing.assert_allclose(np.cbrt(found), np.cbrt(upper), rtol=1e-6, atol=2e-6)


def test_both_quantiles_meet_where_one_takes_over():
    z = np.linspace(-8, 8, 33)
    few, many = (np.cbrt(_quantile(degrees, z)) - 1 for degrees in (MANY - 1, MANY))
    np.testing.assert_allclose(many, few * np.sqrt((MANY - 1) / MANY), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("degrees", [1, 2, 7, 10**4, 10**7])
def test_moments(degrees):
    """Of mean, variance and third central moment m, 2 m and 8 m, in float32."""
    z = jax.random.normal(jax.random.key(degrees), (400_000,))
    x = (np.asarray(ChiSquare.of(degrees)(z), np.float64) - degrees) / np.sqrt(2 * degrees)
    for power, moment in ((1, 0.0), (2, 1.0), (3, np.sqrt(8 / degrees))):
        sample = x**power
        assert abs(sample.mean() - moment) < 4 * sample.std() / np.sqrt(len(x))
