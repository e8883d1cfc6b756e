"""Least squares and ridge: the formulas against simulation, the density against the moments of a Wishart matrix."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ttt_jax import GaussianTasks, Inference, NotApplicable, Problem
from ttt_jax.simulation.yardsticks import estimate_posterior_mean
from ttt_jax.theory.wishart_density import eigenvalue_sum
from ttt_jax.theory.yardsticks import labelled_pairs, least_squares_risk, ridge_penalty, ridge_risk

QUERY = {"query_feature_cov": 3.0, "query_noise_var": 0.1}


def problem(pairs, noise_var=0.5, feature_cov=2.0, task=(0.6, 0.8, 1.0, 0.0, 2.0), evaluation=None):
    """As many labelled pairs of five features."""
    return Problem(
        1, pairs - 1, np.array(task), feature_cov, noise_var, evaluation=evaluation or Inference("same", **QUERY)
    )


@pytest.mark.parametrize("pole", [1.0, 1e-9])
@pytest.mark.parametrize(("rows", "d"), [(1, 1), (1, 4), (2, 2), (5, 3), (4, 7), (40, 40), (60, 41), (20, 4000)])
def test_the_density_has_the_moments_of_a_wishart_matrix(rows, d, pole):
    moments = {0: min(rows, d), 1: rows * d, 2: rows * d * (rows + d + 1)}
    if abs(rows - d) > 1:
        moments[-1] = min(rows, d) / (abs(rows - d) - 1)
    for power, exact in moments.items():
        assert eigenvalue_sum(lambda s, p=power: s**p, rows, d, pole) == pytest.approx(exact, rel=1e-10)


def test_the_resolvent_of_one_row_is_an_integral_over_chi_squared():
    y = np.linspace(0, 9, 20_001)
    density = 2 * y**2 * np.exp(-(y**2) / 2) / math.sqrt(2 * math.pi)  # of the root of chi2(3)
    exact = np.trapezoid(density / (y**2 + 0.1), y)
    assert eigenvalue_sum(lambda s: 1 / (s + 0.1), 1, 3, 0.1) == pytest.approx(exact, 1e-6)


@pytest.mark.parametrize("noise_var", [0.0, 0.5])
@pytest.mark.parametrize("pairs", [2, 3, 12])
@pytest.mark.parametrize(
    "task", [(0.6, 0.8, 1.0, 0.0, 2.0), GaussianTasks([1.0, 0, 0, 0, 0], [0.1, 2.0, 1.0, 0.0, 0.3])]
)
def test_the_exact_risks_are_those_of_simulated_predictors(pairs, noise_var, task):
    given = replace(problem(pairs, noise_var), task=task)
    found, stderr = estimate_posterior_mean(given, 1.0, 0.0, num_draws=2000)
    assert abs(least_squares_risk(given) - found) < 4 * stderr + 1e-9
    for prior in (0.3, 2.0):
        found, stderr = estimate_posterior_mean(given, prior, num_draws=2000)
        assert abs(ridge_risk(given, noise_var / prior) - found) < 4 * stderr + 1e-9


def test_least_squares_with_correlated_features():
    root = np.eye(5) + 0.3 * np.triu(np.ones((5, 5)))
    query = np.diag([1.0, 2.0, 0.0, 0.0, 1.0])
    given = problem(14, 0.5, root @ root.T, evaluation=Inference("same", query_feature_cov=query))
    found, stderr = estimate_posterior_mean(given, 1.0, 0.0, num_draws=2000)
    assert abs(least_squares_risk(given) - found) < 4 * stderr
    assert least_squares_risk(replace(given, evaluation="same")) == pytest.approx(0.5 + 0.5 * 5 / 8)


def test_least_squares_where_there_are_as_many_pairs_as_features():
    assert [least_squares_risk(problem(pairs)) for pairs in (4, 5, 6)] == [math.inf] * 3
    assert [least_squares_risk(problem(pairs, noise_var=0.0)) for pairs in (5, 6, 9)] == [0.1] * 3
    assert all(math.isfinite(ridge_risk(problem(pairs))) for pairs in (4, 5, 6))


def test_no_penalty_is_better_than_the_best_one_and_a_large_one_answers_0():
    given = problem(7)
    best = ridge_penalty(given)
    assert ridge_risk(given) < min(ridge_risk(given, factor * best) for factor in (0.9, 1.1))
    assert ridge_risk(given, 1e12) == pytest.approx(0.1 + 3.0 * 6.0)
    assert ridge_risk(given, 1e-9) == pytest.approx(ridge_risk(given, 1e-9 * 1.01), rel=1e-4)
    assert ridge_risk(replace(given, task=np.zeros(5))) == 0.1


def test_small_penalties_tend_to_least_squares():
    given = problem(9)
    assert ridge_risk(given, 1e-6) == pytest.approx(least_squares_risk(given), rel=1e-5)
    assert ridge_risk(given, 0.0) == least_squares_risk(given)


def test_labels_in_other_units_change_no_digit():
    given = Problem(3, 4, np.ones(5), noise_var=0.5, evaluation="same")
    for unit in (2.0**-300, 2.0**300):
        scaled = replace(given, task=unit * given.task, noise_var=unit**2 * given.noise_var)
        for risk in (least_squares_risk, ridge_risk):
            assert risk(scaled) == pytest.approx(unit**2 * risk(given), rel=1e-12)
    assert ridge_risk(replace(given, noise_var=1e200)) == pytest.approx(1e200)


def test_the_pairs_are_those_that_ttt_has_seen():
    fresh = Problem(3, 4, np.ones(2))
    laws = ("fresh", "same", Inference(n=9))
    assert [labelled_pairs(replace(fresh, evaluation=law)) for law in laws] == [10, 7, 16]
    assert least_squares_risk(replace(fresh, noise_var=1.0)) == least_squares_risk(replace(fresh, noise_var=1.0), 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (replace(problem(9), feature_law="rademacher"), "needs Gaussian features"),
        (problem(9, feature_cov=[1.0, 1.0, 1.0, 1.0, 0.0]), "feature_cov must be nonsingular"),
        (problem(9, evaluation=Inference(noise_var=0.1)), "needs a new context of the training law"),
        (problem(9, evaluation=Inference(feature_cov=0.1)), "needs a new context of the training law"),
        (problem(3, feature_cov=[1.0, 1.0, 1.0, 1.0, 2.0]), "must be a multiple of the identity"),
    ],
)
def test_where_no_formula_is_known(given, message):
    for risk in (least_squares_risk, ridge_risk):
        with pytest.raises(NotApplicable, match=message):
            risk(given)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="penalty must be a finite number >= 0, got -1"):
        ridge_risk(problem(9), -1)
    with pytest.raises(ValueError, match="pairs must be an integer >= 1, got 0"):
        least_squares_risk(problem(9), 0)
