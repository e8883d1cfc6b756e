from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import (
    Folds,
    GradientStep,
    GradientSteps,
    Inference,
    LinearAttention,
    Problem,
    RiskCurve,
    compare,
    estimate_risk,
    exact_risk,
    functional,
    judge,
    risk_law,
)
from ttt_jax.verdict.comparison import theory


def test_three_ways_side_by_side():
    for evaluation in ("fresh", "same", Inference(n=40, query_noise_var=0.3)):
        problem = Problem(30, 60, np.ones(20) / np.sqrt(20), noise_var=0.1, evaluation=evaluation)
        c = compare(problem, 1 / 51, num_tasks=1000, seed=2)
        assert c.lr == exact_risk(problem, 1 / 51).optimal_lr
        assert vars(c.estimate) == vars(estimate_risk(problem, 1 / 51, c.lr, num_tasks=1000, seed=2))
        assert c.z == pytest.approx((c.estimate.mean - c.exact.optimal) / c.stderr(), rel=1e-3)
        assert abs(c.z) < 4
        assert c.asymptotic.optimal == pytest.approx(c.exact.optimal, rel=0.25)


def test_the_standard_error_is_that_of_the_exact_variance_where_it_is_known():
    for evaluation, noise_var in (("fresh", 0.2), ("same", 0.0), ("same", 0.2)):
        problem = Problem(30, 40, np.ones(8) / np.sqrt(8), 1.5, noise_var, evaluation=evaluation)
        c = compare(problem, 0.01, num_tasks=4000)
        assert c.stderr() == pytest.approx(risk_law(problem, 0.01, c.procedure).std() / np.sqrt(4000))
        spread = np.sqrt((c.estimate.kurtosis - 1) / 4000) / 2  # relative, of the standard error of the sample
        assert 1e-6 < abs(c.stderr() / c.estimate.stderr - 1) < 4 * spread
        assert (c.row()["stderr"], c.row()["stderr_exact"]) == (c.stderr(), True)
        other = compare(replace(problem, feature_law="rademacher"), 0.01, 1e-5, num_tasks=100)
        assert (other.stderr(), other.row()["stderr_exact"]) == (other.estimate.stderr, False)


def test_a_known_variance_says_how_many_tasks_a_target_needs():
    """A run of this size rarely sees the tails; its sample would stop it far too early."""
    problem = Problem(6, 6, [1.0, 0.0], evaluation="same")
    c = compare(problem, 0.0, 0.02, num_tasks=10_000, target_relative_stderr=0.3, sampler="law", block_size=16)
    assert 2 < c.estimate.num_tasks < 10_000
    assert 0.29 < c.stderr() / c.exact.after(c.procedure) <= 0.3
    capped = compare(problem, 0.0, 0.02, num_tasks=50, target_relative_stderr=0.3, sampler="law")
    assert capped.estimate.num_tasks == 50


def test_a_risk_that_no_task_changes_is_compared_to_its_rounding():
    """From W = 0 without a step the risk is |b|^2 for every task; the spread of the simulated ones is rounding."""
    problem = Problem(30, 3, np.ones(120) / np.sqrt(120))
    zs = [compare(problem, 0.0, 0.0, num_tasks=num_tasks).z for num_tasks in (2, 773)]
    assert max(abs(z) for z in zs) < 1
    c = compare(problem, 0.0, 0.0, num_tasks=773)
    assert replace(c, exact=RiskCurve(1.001, 0.0, 0.0)).z < -100
    nothing = compare(Problem(3, 3, np.zeros(4)), 0.0, 0.0, num_tasks=500)
    assert nothing.z == 0
    assert replace(nothing, exact=RiskCurve(1.0, 0.0, 0.0)).z == np.inf


def test_what_does_not_apply_is_none_with_a_reason():
    c = compare(Problem(3, 3, np.zeros(2), noise_var=1.0), 0.1, 1e-3, num_tasks=0)
    assert c.asymptotic is None
    assert "signal" in c.reason
    assert c.estimate is None
    assert c.z is None


def test_other_features_have_no_exact_risk_but_bad_input_is_an_error():
    problem = Problem(3, 3, np.ones(2), feature_law="rademacher")
    exact, asymptotic, reason = theory(problem, 0.1)
    assert exact is None
    assert asymptotic is not None
    assert reason == "exact_risk needs Gaussian features, got feature_law 'rademacher'"
    for weights, procedure, message in ((np.ones(3), 0.1, "start must be"), (0.1, "foo", "procedure must be a step")):
        with pytest.raises(ValueError, match=message):
            theory(problem, weights, procedure)


def test_the_factors_of_a_step_reach_all_three():
    problem = Problem(30, 60, np.ones(8) / np.sqrt(8), np.linspace(0.5, 1.5, 8), 0.1)
    inverse = 1 / problem.feature_cov
    plain, c = (
        compare(problem, 0.02, s, num_tasks=8000) for s in ("optimal", GradientStep(left=inverse, right=inverse))
    )
    assert abs(c.z) < 4
    assert c.procedure.left is not None
    assert c.lr == c.exact.optimal_lr != plain.lr
    assert c.asymptotic.optimal == pytest.approx(c.exact.optimal, rel=0.2)
    assert c.asymptotic.optimal != pytest.approx(plain.asymptotic.optimal, rel=1e-6)


def test_the_error_of_a_sampled_exact_value_counts():
    c = compare(Problem(6, 9, np.ones(4) / 2), 0.05, 1e-4, num_tasks=500)
    sampled = RiskCurve(c.exact.c0, c.exact.c1, c.exact.c2, np.diag([1.0, 0.0, 0.0]))
    assert abs(replace(c, exact=sampled).z) == pytest.approx(abs(c.estimate.mean - c.exact.at(1e-4)), rel=0.01)


def test_steps_on_new_contexts_are_judged_after_each_step():
    problem = Problem(20, 30, np.ones(12) / np.sqrt(12), noise_var=0.1)
    steps = GradientSteps(exact_risk(problem, 1 / 35).optimal_lr * np.array([1.0, 0.5]), new_context=True)
    c = compare(problem, 1 / 35, steps, num_tasks=2000)
    assert (c.lr, c.asymptotic) == (None, None)
    assert "noise_var must be 0" in c.reason
    rows = [c.row(step=step) for step in range(3)]
    assert [row["exact"] for row in rows] == c.exact.risks.tolist()
    assert [row["estimate"] for row in rows] == c.estimate.mean.tolist()
    assert all(abs(row["z"]) < 4 for row in rows)
    assert rows[-1]["z"] == c.z
    assert rows[0]["initial"] == rows[2]["initial"] == c.exact.initial


def test_a_reliability_that_is_not_assessed_is_never_taken_for_true():
    problem = Problem(8, 16, np.ones(4) / 2)
    model = functional(LinearAttention(0.05 * jnp.eye(4)))
    compared = [
        compare(problem, 0.05, Folds(3, 1e-5), num_tasks=100),
        compare(problem, 0.05, GradientSteps([1e-5], new_context=True), num_tasks=100),
        compare(problem, model, 1e-5, num_tasks=100),
    ]
    for c in compared:
        assert c.estimate.stderr_reliable is None
        assert c.row()["stderr_reliable"] is None
        assert "the reliability of the standard error is not assessed" in c.row()["note"]
        assert "not assessed" in str(c)
    verdict = judge([c.row() for c in compared])
    assert (verdict.judged, verdict.unassessed) == (2, 2)  # the model has no exact risk
    assert "the standard error is not assessed in 2 of them" in str(verdict)
    assert judge([compared[2].row()]).agrees is None


def test_a_row_is_in_the_unit_asked_for_and_says_why_a_value_is_missing():
    problem = Problem(20, 30, 2 * np.ones(4), noise_var=0.1)
    c = compare(problem, 0.01, 1e-7, num_tasks=500)
    one, other = c.row(), c.row(unit=16.0)
    for name in ("initial", "exact", "asymptotic", "estimate", "stderr"):
        assert other[name] == pytest.approx(one[name] / 16)
    assert (one["z"], one["lr"], one["num_tasks"], one["note"]) == (other["z"], 1e-7, 500, "")
    assert not {"estimate", "z"} & compare(problem, 0.01, 1e-7, num_tasks=0).row().keys()
    with pytest.warns(UserWarning, match="of 500 tasks is not finite"):
        broken = compare(problem, 0.01, 1e30, num_tasks=500).row()
    assert (broken["estimate"], broken["stderr"], broken["z"], broken["stderr_reliable"]) == (None, None, None, False)
    assert "tasks is not finite: no mean" in broken["note"]


@pytest.mark.parametrize("procedure", [Folds(3), "optimal"])
def test_an_optimum_is_not_made_up(procedure):
    """No theory for folds of signs; and none for one step of a task without signal seen through signs."""
    problem = Problem(8, 16, np.zeros(4), noise_var=1.0, feature_law="rademacher")
    with pytest.raises(ValueError, match="lr must be a number, got 'optimal': "):
        compare(problem, 0.05, procedure)
