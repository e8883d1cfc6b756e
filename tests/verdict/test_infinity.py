"""Extrapolations to d = infinity: their bounds hold for every error within those of the values."""

import itertools
import math

import numpy as np
import pytest

from ttt_jax.verdict.infinity import UNCONFIRMED, _exponents, limit_with_resolution

SIZES = [64, 128, 256]


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("signs", list(itertools.product([-1, 1], repeat=3)))
def test_the_exponent_is_within_its_bounds_whatever_the_errors(alpha, signs):
    d, bound = np.array(SIZES, float), np.array([3e-3, 1e-3, 2e-3])
    low, _, high = _exponents(d, 3 + 2 * d**-alpha + signs * bound, bound)
    assert low <= alpha * (1 + 1e-4)  # of the grid of exponents
    assert high >= alpha * (1 - 1e-4)


@pytest.mark.parametrize(("error", "said"), [(0.01, True), (0.03, False)])
def test_a_given_rate_that_three_values_do_not_confirm_needs_small_errors(error, said):
    limit = limit_with_resolution(SIZES, [3 + 2 / d for d in SIZES], [error] * 3, rate=1.0)
    assert math.isfinite(limit.resolution) is said
    assert not said or limit.resolution < UNCONFIRMED
