"""Risks of single prompts: from a few numbers each, from the law of the summaries and from rows, they have one law."""

import math

import numpy as np
import pytest

from ttt_jax import Folds, GaussianTasks, GradientStep, Inference, NotApplicable, Problem, exact_risk
from ttt_jax.simulation import estimate
from ttt_jax.simulation.prompt_risks import prompt_risks
from ttt_jax.theory.prompt_law import known_law
from ttt_jax.verdict.agreement import family_verdict

pytestmark = pytest.mark.usefixtures("quick_compilation")
LAW = Inference(n=30, feature_cov=0.6, noise_var=0.2, query_feature_cov=1.7, query_noise_var=0.4, rescale=True)


def z_of_mean(sample, exact):
    return (sample.mean() - exact) / (sample.std() / math.sqrt(len(sample)))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_in_a_frame_mean_and_variance_are_exact(d):
    """For d below and above the four coordinates, with noise, any context, factors of the step."""
    zs = []
    for evaluation in ("fresh", "same", LAW):
        problem = Problem(40, 50, np.arange(1.0, d + 1) / d, 1.2, 0.3, evaluation=evaluation)
        curve = exact_risk(problem, 0.01, GradientStep("optimal", 2.0, 0.5))
        step = GradientStep(0.7 * curve.optimal_lr, 2.0, 0.5)
        before, after = prompt_risks(problem, 0.01, step, num_tasks=20_000, seed=1).T
        zs += [z_of_mean(before, curve.initial), z_of_mean(after, curve.after(step))]
        for risks, one in ((before, GradientStep(0.0)), (after, step)):
            zs.append(z_of_mean((risks - risks.mean()) ** 2, known_law(one, problem, np.array(0.01)).var))
    assert family_verdict(zs)[0], zs


def test_all_roads_hurt_equally_often(monkeypatch):
    problem = Problem(12, 10, [1.0, 0.5, -0.5, 0.0, 0.0, 0.0], 1.2, 0.3)
    step = GradientStep(1.5 * exact_risk(problem, 0.02).optimal_lr)
    shares = [np.mean(np.diff(prompt_risks(problem, 0.02, step, num_tasks=20_000)) > 0)]
    shares.append(np.mean(np.diff(prompt_risks(problem, 0.02, step, num_tasks=20_000, sampler="data", seed=1)) > 0))
    monkeypatch.setattr(estimate, "in_frame", lambda *_: None)
    shares.append(np.mean(np.diff(prompt_risks(problem, 0.02, step, num_tasks=20_000, seed=2)) > 0))
    assert 0.1 < shares[0] < 0.9
    stderr = math.sqrt(2 * shares[0] * (1 - shares[0]) / 20_000)
    assert max(shares) - min(shares) < 4 * stderr


def test_random_tasks_have_their_lengths():
    problem = Problem(40, 50, GaussianTasks(mean=np.eye(6)[0], cov=0.2), evaluation="same")
    curve = exact_risk(problem, 0.01)
    after = prompt_risks(problem, 0.01, GradientStep(curve.optimal_lr), num_tasks=20_000)[:, 1]
    assert abs(z_of_mean(after, curve.optimal)) < 4


def test_a_dense_start_is_not_taken_into_the_frame():
    problem, weights = Problem(40, 50, [1.0, 0.5], evaluation="same"), np.array([[0.01, 0.005], [0.0, 0.02]])
    curve = exact_risk(problem, weights)
    before, after = prompt_risks(problem, weights, GradientStep(curve.optimal_lr), num_tasks=20_000).T
    assert abs(z_of_mean(before, curve.initial)) < 4
    assert abs(z_of_mean(after, curve.optimal)) < 4


def test_no_step_changes_no_risk():
    before, after = prompt_risks(Problem(4, 5, [1.0, 0.5]), 0.1, GradientStep(0.0), num_tasks=100).T
    np.testing.assert_array_equal(before, after)


def test_other_procedures_are_refused():
    with pytest.raises(NotApplicable, match="no law of the risk is known for Folds"):
        prompt_risks(Problem(4, 4, [1.0]), 0.0, Folds(2, 0.1), num_tasks=10)
