"""Isotropic problems by a few numbers per task have the law that they have by O(d)."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.simulation.draws import draws
from ttt_jax import GaussianTasks, GradientStep, Inference, Problem, estimate_risk, exact_risk, family_verdict
from ttt_jax.simulation import estimate
from ttt_jax.simulation.estimate import make_run
from ttt_jax.simulation.frame import in_frame, risk_in_frame
from ttt_jax.theory.prompt_law import known_law

pytestmark = pytest.mark.usefixtures("quick_compilation")
LAW = Inference(n=30, feature_cov=0.6, noise_var=0.2, query_feature_cov=1.7, query_noise_var=0.4, rescale=True)
TASK = np.arange(1.0, 7.0) / 8
RANDOM = GaussianTasks(TASK / 2, 0.15)


def z_of_mean(sample, exact):
    return (sample.mean() - exact) / (sample.std() / math.sqrt(len(sample)))


@pytest.mark.parametrize("evaluation", ["fresh", "same", LAW], ids=["fresh", "same", "law at inference"])
@pytest.mark.parametrize("task", [TASK, RANDOM], ids=["fixed", "random"])
def test_same_quantiles_as_with_all_coordinates(evaluation, task, monkeypatch):
    """Two-sample Kolmogorov-Smirnov, at the 0.1% critical value; factors of the step, noise."""
    problem = Problem(7, 9, task, 1.2, 0.3, evaluation=evaluation)
    curve = exact_risk(problem, 0.03, GradientStep("optimal", 2.0, 0.5))
    step, size = GradientStep(curve.optimal_lr, 2.0, 0.5), 8192
    few = draws(problem, 0.03, (step,), num_tasks=size, seed=1, sampler="law")
    monkeypatch.setattr(estimate, "in_frame", lambda *_: None)
    many = draws(problem, 0.03, (step,), num_tasks=size, seed=2, sampler="law")
    few, many = np.sort(few[:, 0]), np.sort(many[:, 0])
    grid = np.concatenate([few, many])
    assert max(abs(np.searchsorted(few, grid) - np.searchsorted(many, grid))) < 1.95 * math.sqrt(2 * size)


@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 4), (40, 1, 5), (40, 50, 64), (3, 300, 1000)])
def test_mean_and_variance_are_exact(n, k, d):
    zs = []
    for evaluation in ("fresh", "same", LAW):
        problem = Problem(n, k, np.ones(d) / math.sqrt(d), 1.2, 0.3, evaluation=evaluation)
        weight = 0.3 / (n + d)
        step = GradientStep(0.2 * exact_risk(problem, weight).optimal_lr)
        risks = draws(problem, weight, (step,), num_tasks=40_000, seed=4, sampler="law", x64=True)[:, 0]
        zs.append(z_of_mean(risks, exact_risk(problem, weight).after(step)))
        if n >= 40:  # else the variance of a sample has tails that a sample does not see
            zs.append(z_of_mean((risks - risks.mean()) ** 2, known_law(step, problem, np.array(weight)).var))
    assert family_verdict(zs)[0], zs


@pytest.mark.parametrize(("n", "k", "d"), [(10**7, 10**7, 10**6), (10**7, 10**6, 64), (500_000, 10**6, 10**6)])
@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_float32_is_accurate_at_large_sizes(n, k, d, evaluation):
    """From W*, where 1 - W t is small; the standard errors are 1e-4 to 1e-2."""
    problem = Problem(n, k, np.ones(d) / math.sqrt(d), evaluation=evaluation)
    curve = exact_risk(problem, 1 / (n + d + 1))
    found = estimate_risk(problem, 1 / (n + d + 1), curve.optimal_lr, num_tasks=100_000, sampler="law")
    assert abs(found.mean - curve.optimal) < 4 * found.stderr < 0.02 * curve.optimal


def test_random_tasks_have_their_lengths():
    """At d = 1000; b ~ N(mean, c I) with a mean that is as long as the rest."""
    problem = Problem(400, 500, GaussianTasks(np.full(1000, 0.03), 1e-3), evaluation="same")
    curve = exact_risk(problem, 1 / 1400)
    found = estimate_risk(problem, 1 / 1400, curve.optimal_lr, num_tasks=40_000, sampler="law")
    assert abs(found.mean - curve.optimal) < 4 * found.stderr


def test_what_is_taken_into_the_frame():
    problem, step = Problem(4, 4, np.ones(6)), GradientStep(0.1)

    def framed(problem, weights=0.1, *steps):
        run = make_run(problem, weights, steps or (step,), num_tasks=8, sampler="law")
        return [part.draw is risk_in_frame for part in run.parts]

    identity, diagonal = np.eye(6), np.linspace(1, 2, 6)
    assert (
        framed(problem) == framed(problem, 0.2 * identity) == framed(replace(problem, feature_cov=identity)) == [True]
    )
    assert framed(problem, 0.1, step, GradientStep(0.2, left=3 * identity)) == [True, True]
    assert framed(problem, 0.1, step, GradientStep(0.2, left=diagonal)) == [False, False]  # on the same tasks
    assert framed(problem, diagonal) == framed(replace(problem, feature_cov=diagonal)) == [False]
    assert framed(replace(problem, evaluation=Inference(query_feature_cov=diagonal))) == [False]
    assert framed(replace(problem, evaluation=Inference(feature_cov=diagonal, query_feature_cov=1.0))) == [False]
    assert framed(replace(problem, task=GaussianTasks(cov=diagonal))) == [False]
    assert in_frame(Problem(4, 4, np.ones(3)), np.zeros(()), (step,)) is None


def test_a_task_of_zero_is_noise_alone():
    for noise_var in (0.0, 0.3):
        problem = Problem(8, 9, np.zeros(5), noise_var=noise_var)
        curve = exact_risk(problem, 0.02)
        found = estimate_risk(problem, 0.02, 1e-4, num_tasks=20_000, sampler="law")
        assert abs(found.mean - curve.at(1e-4)) <= 4 * found.stderr
