"""Every yardstick has a value, and says whether it is exact."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ttt_jax import GaussianTasks, Inference, Pretraining, Problem, yardsticks
from ttt_jax.simulation.yardsticks import estimate_posterior_mean
from ttt_jax.theory.yardsticks import least_squares_risk, ridge_risk

ISOTROPIC = Problem(4, 9, np.ones(6) / 6**0.5, noise_var=0.5)


def test_isotropic_ones_are_exact():
    least_squares, ridge, bayes = yardsticks(ISOTROPIC, Pretraining(n=4, d=6, task_cov=2.0, noise_var=0.3))
    assert (least_squares.risk, ridge.risk) == (least_squares_risk(ISOTROPIC), ridge_risk(ISOTROPIC))
    assert bayes.risk == ridge_risk(ISOTROPIC, 0.3 / 2)
    assert [one.pairs for one in (least_squares, ridge, bayes)] == [17] * 3
    assert all(one.exact and one.stderr is None for one in (least_squares, ridge, bayes))
    assert str(ridge) == f"ridge, 17 pairs          {ridge.risk:.6g}  (the pairs that TTT has seen, exact)"


@pytest.mark.parametrize(
    "change",
    [
        {"feature_cov": np.linspace(0.5, 1.5, 6)},
        {"feature_law": "rademacher"},
        {"feature_law": "student_t", "dof": 9.0},
        {"evaluation": Inference(n=5, feature_cov=2.0, noise_var=0.1)},
    ],
)
def test_others_are_simulated(change):
    given = replace(ISOTROPIC, **change)
    shaped = Pretraining(n=4, task_cov=np.linspace(0.1, 0.2, 6), noise_var=0.5)
    simulated = [one for one in yardsticks(given, shaped, num_draws=400) if not one.exact]
    assert [one.name for one in simulated][-2:] == ["ridge", "Bayes"]
    assert all(
        given.inference.query_noise_var < one.risk < 1.5 and 0 < one.stderr < 0.1 and "simulated" in str(one)
        for one in simulated
    )
    nothing = yardsticks(given, num_draws=0)[1]
    assert math.isnan(nothing.risk)
    assert f"not applicable: {nothing.reason}" in str(nothing)


def test_each_simulated_one_has_its_own_prior_and_noise():
    """Least squares knows of no noise, ridge of that of the problem and of the length of the task, Bayes of its law."""
    given = replace(ISOTROPIC, feature_cov=np.linspace(0.5, 1.5, 6), noise_var=0.7, evaluation="same")
    shaped = Pretraining(n=4, task_cov=np.linspace(0.1, 0.2, 6), noise_var=0.2)
    given = replace(given, n=1, k=3)  # fewer pairs than features
    found = [one.risk for one in yardsticks(given, shaped, num_draws=50, seed=3)]
    laws = (1.0, 0.0), (1 / 6, 0.7), (shaped.task_cov, 0.2)
    assert found == [estimate_posterior_mean(given, *law, num_draws=50, seed=3)[0] for law in laws]


def test_the_bayes_predictor_of_the_law_of_the_tasks_is_the_best():
    law = Pretraining(n=4, task_cov=np.array([2.0, 1.0, 0.1, 0.0]), noise_var=0.5)
    given = Problem(4, 9, GaussianTasks(cov=law.task_cov), noise_var=0.5)
    least_squares, ridge, bayes = yardsticks(given, law, num_draws=1000)
    assert bayes.risk + 4 * bayes.stderr < ridge.risk < least_squares.risk


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="pretraining must be for 6 features, got 3"):
        yardsticks(ISOTROPIC, Pretraining(n=4, d=3))
    with pytest.raises(ValueError, match="num_draws must be an integer >= 0, got -1"):
        yardsticks(ISOTROPIC, num_draws=-1)
