"""Values that claims are compared with, and their errors."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.verdict.claims import PROBLEMS
from ttt_jax.problem import GaussianTasks, Problem
from ttt_jax.theory.paper import theorem_4_5
from ttt_jax.verdict.claim import check


def test_a_right_optimal_step_passes_at_a_step_that_hardly_shows_it():
    def optimal_lr(factor):
        return lambda n, k, d: factor * theorem_4_5(n, k, d).optimal_lr

    def simulated(problem, weights, procedure, *, seed, **options):
        curve = theorem_4_5(problem.n, problem.k, problem.d)
        noise = 0.01 * np.random.default_rng(seed).standard_normal()
        return SimpleNamespace(mean=curve.after(procedure) + noise, stderr=0.01)

    def refused(factor, lr):
        results = [
            check(optimal_lr(factor), problems, quantity="optimal_lr", procedure=lr, seed=3 * seed, **options)
            for seed in range(200)
        ]
        return sum(result.empirical_ok is False for result in results)

    problems, options = [Problem(8, 16, np.ones(4) / 2)], {"start": "zero", "simulate": simulated}
    optimum = theorem_4_5(8, 16, 4).optimal_lr
    for share in (1, 0.1, 0.01):
        assert refused(1.0, share * optimum) <= 7  # 2 expected of 200 at confidence 0.99
    assert refused(1.2, optimum) > 190


def test_an_exact_value_that_is_itself_sampled_has_a_standard_error():
    d = 8
    problem = Problem(8, 16, GaussianTasks(d=d), feature_cov=1 + 1e-12 * np.arange(d))  # no longer a multiple of I

    def verdict(factor, **options):
        claim = lambda n, k, d: factor * k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d) * d * (d + 2) / (d + 4)  # noqa: E731
        return check(claim, [problem], start="zero", num_tasks=0, **options)

    right = verdict(1.0, quantity="gain")
    assert right.rows[0].exact_stderr > 0
    assert right.rows[0].relative_error > 1e-6
    assert right
    assert not verdict(1.2, quantity="gain")


def test_a_gain_of_zero_is_zero_to_the_rounding_of_the_risk():
    for n in range(1, 12):  # with one feature W* is the best weight that there is
        result = check(lambda n: 0.0, [Problem(n, 5, [0.7])], quantity="gain", num_tasks=0)
        assert result
        assert result.rows[0].relative_error == 0


def test_a_flat_simulation_has_no_optimum():
    def flat(*_, **__):
        return SimpleNamespace(mean=1.0, stderr=0.1)

    with pytest.raises(ValueError, match=r"optimal_lr where the simulated risk is flat, got \[1.0, 1.0, 1.0\]"):
        check(lambda: 1.0, PROBLEMS, start=0.0, quantity="optimal_lr", procedure=0.1, simulate=flat)
