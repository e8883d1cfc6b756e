"""Random tasks: exact averages against each other, against sampling, and against one task at a time."""

from dataclasses import replace

import numpy as np
import pytest

from ttt_jax import GaussianTasks, Problem, asymptotic_risk, exact_risk
from ttt_jax.theory.paper import lemma_b2, theorem_4_5
from ttt_jax.theory.task_average import draw_tasks

RNG = np.random.default_rng(0)
COV = np.array([[1.0, 0.3], [0.3, 0.5]])
TASKS = GaussianTasks(mean=[0.5, -0.2], cov=COV)
FEATURE_COV = np.array([[1.0, 0.4], [0.4, 2.0]])
WEIGHTS = np.array([[0.05, 0.01], [-0.03, 0.02]])


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize("average", [exact_risk, asymptotic_risk])
def test_the_two_quadratures_agree(average, evaluation):
    """Multiples of the identity take the quadrature of |b|^2; a diagonal a hair away takes the one over tasks."""
    problem = Problem(6, 8, TASKS, noise_var=0.3, evaluation=evaluation)
    by_norm = average(problem, 0.05)
    by_task = average(problem, [0.05, 0.05 * (1 + 1e-12)])
    for name in ("c0", "c1", "c2"):
        assert getattr(by_norm, name) == pytest.approx(getattr(by_task, name), rel=1e-10)
    assert not by_norm.covariance.any()
    assert not by_task.covariance.any()


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_sampled_tasks_agree_with_the_exact_average(evaluation):
    problem = Problem(6, 8, TASKS, FEATURE_COV, 0.1, evaluation=evaluation)
    exact = exact_risk(problem, WEIGHTS)
    sampled = exact_risk(problem, WEIGHTS, num_tasks=15)  # fewer than the 16 of the quadrature
    assert sampled.c0 == pytest.approx(exact.c0, rel=1e-12)
    assert sampled.stderr(0.0) == 0
    lr = exact.optimal_lr
    assert sampled.stderr(lr) > 0
    seeds = [exact_risk(problem, WEIGHTS, num_tasks=15, seed=seed) for seed in range(40)]
    z = np.mean([curve.at(lr) - exact.at(lr) for curve in seeds]) / np.std([curve.at(lr) for curve in seeds]) * 40**0.5
    assert abs(z) < 4


def test_the_initial_risk_needs_second_moments_only():
    second = np.outer(TASKS.mean, TASKS.mean) + COV
    values, vectors = np.linalg.eigh(second)
    parts = [lemma_b2(Problem(6, 8, v, FEATURE_COV), WEIGHTS) for v in (vectors * np.sqrt(values)).T]
    noise = lemma_b2(Problem(6, 8, [0.0, 0.0], FEATURE_COV, 0.1), WEIGHTS)
    for num_tasks in (15, 16):
        curve = exact_risk(Problem(6, 8, TASKS, FEATURE_COV, 0.1), WEIGHTS, num_tasks=num_tasks)
        assert curve.c0 == pytest.approx(sum(parts) + noise, rel=1e-12)


def test_one_step_size_for_all_tasks_from_a_cold_start():
    """b ~ N(0, I/d): E B^2 = (d+2)/d and E B^3 = (d+2)(d+4)/d^2 shrink Theorem 4.5's optimal step and gain."""
    n, k, d = 10, 20, 7
    fixed = theorem_4_5(n, k, d)
    curve = exact_risk(Problem(n, k, GaussianTasks(cov=1 / d, d=d)), 0.0)
    assert curve.initial == pytest.approx(1.0)
    assert curve.optimal_lr == pytest.approx(fixed.optimal_lr * d / (d + 4))
    assert curve.initial - curve.optimal == pytest.approx((fixed.initial - fixed.optimal) * (d + 2) / (d + 4))


@pytest.mark.parametrize("weights", [0.05, np.diag([0.05, 0.02]), WEIGHTS])
def test_a_law_without_spread_is_one_task(weights):
    one = exact_risk(Problem(6, 8, [0.5, -0.2]), weights)
    law = exact_risk(Problem(6, 8, GaussianTasks(mean=[0.5, -0.2], cov=0.0)), weights)
    assert law.optimal == pytest.approx(one.optimal)
    assert law.optimal_lr == pytest.approx(one.optimal_lr)


def test_many_features_of_low_rank_are_averaged_exactly():
    cov = np.zeros(500)
    cov[:2] = 1.0
    curve = exact_risk(Problem(50, 60, GaussianTasks(cov=cov)), np.linspace(0, 1e-3, 500))
    assert not curve.covariance.any()


def test_many_features_take_no_square_matrix():
    d = 10**5  # squared, 80 GB
    random = exact_risk(Problem(d, d, GaussianTasks(cov=1 / d, d=d)), 1 / d)
    one = exact_risk(Problem(d, d, np.ones(d) / np.sqrt(d)), 1 / d)
    assert random.optimal == pytest.approx(one.optimal, rel=10 / d)  # |b|^2 is 1 up to a variance of 2/d


def test_one_sampled_task_is_refused():
    with pytest.raises(ValueError, match="num_tasks must be at least 2"):
        exact_risk(Problem(6, 8, TASKS), WEIGHTS, num_tasks=1)


def test_as_many_tasks_as_the_quadrature_has_are_enough_for_it():
    problem = Problem(6, 8, TASKS, FEATURE_COV, 0.1)
    assert not exact_risk(problem, WEIGHTS, num_tasks=16).covariance.any()
    assert exact_risk(problem, WEIGHTS, num_tasks=15).covariance.any()


def test_the_standard_error_of_sampled_tasks_is_their_spread():
    problem = Problem(6, 8, TASKS, FEATURE_COV, 0.1)
    lr = exact_risk(problem, WEIGHTS).optimal_lr
    curves = [exact_risk(problem, WEIGHTS, num_tasks=15, seed=seed) for seed in range(60)]
    spread = np.std([curve.at(lr) for curve in curves])
    stated = np.sqrt(np.mean([curve.stderr(lr) ** 2 for curve in curves]))
    assert 0.6 < stated / spread < 1.6  # 60 draws determine a spread to a tenth; the risks are skewed


@pytest.mark.parametrize("risk", [exact_risk, asymptotic_risk])
@pytest.mark.parametrize("c", [1e-40, 1e-51])
def test_small_labels_keep_their_risk(risk, c):
    unit, small = (risk(Problem(20, 40, s * np.ones(4) / 2), 1 / 25) for s in (1.0, c))
    assert small.optimal / small.initial == pytest.approx(unit.optimal / unit.initial, rel=1e-12)
    assert small.optimal_lr * c**2 == pytest.approx(unit.optimal_lr, rel=1e-12)


def test_a_task_that_is_small_beside_its_noise_is_no_task():
    none, small = (exact_risk(Problem(20, 40, s * np.ones(4), noise_var=1.0), 1 / 25) for s in (0.0, 1e-90))
    assert (small.c0, small.c1, small.c2) == pytest.approx((none.c0, none.c1, none.c2), rel=1e-12)


@pytest.mark.parametrize("c", [1e-54, 1e-60, 1e-100, 1e60, 1e100])
@pytest.mark.parametrize("tasks", [lambda c: c * np.ones(4) / 2, lambda c: GaussianTasks(c * np.ones(4), c**2)])
def test_what_float64_cannot_hold_is_refused(c, tasks):
    with pytest.raises(ValueError, match=r"the risk (under|over)flows float64, .* (up|down)$"):
        exact_risk(Problem(20, 40, tasks(c)), 1 / 25)


def test_the_error_of_sampled_tasks_does_not_vanish():
    """The square of c2 underflows although c2 does not: no error would be a lie."""
    tasks = GaussianTasks(mean=1e-35 * np.ones(8), cov=1e-70)
    with pytest.raises(ValueError, match="underflows"):
        exact_risk(Problem(20, 40, tasks, np.linspace(1, 2, 8)), 1 / 25, num_tasks=100)
    assert exact_risk(Problem(3, 4, np.zeros(2)), 0.1).initial == 0.0
    assert exact_risk(Problem(3, 4, np.ones(2), feature_cov=0.0, noise_var=1e-20), 0.1).initial == 1e-20


@pytest.mark.parametrize("num_tasks", [10, 300])
def test_sampled_tasks_are_averaged_in_float64_one_by_one_and_compiled(num_tasks):
    problem = Problem(4, 3, GaussianTasks(cov=np.linspace(0.5, 1.5, 6)), np.linspace(0.5, 2, 6), 0.2)
    curve = exact_risk(problem, 0.05, num_tasks=num_tasks, seed=3)
    tasks = draw_tasks(problem.task, num_tasks, 3)
    each = [exact_risk(replace(problem, task=task), 0.05) for task in tasks]
    for name in ("c1", "c2"):
        assert getattr(curve, name) == pytest.approx(np.mean([getattr(one, name) for one in each]), rel=1e-12)
    normals = draw_tasks(GaussianTasks(cov=1.0, d=6), num_tasks, 3)
    assert np.any(normals != normals.astype(np.float32))
