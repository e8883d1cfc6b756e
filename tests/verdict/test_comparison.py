from dataclasses import replace

import numpy as np
import pytest

from ttt_jax import Problem, RiskCurve, agreement_table, compare, estimate_risk, exact_risk, family_verdict
from ttt_jax.verdict.comparison import theory


def test_three_ways_side_by_side():
    problem = Problem(30, 60, np.ones(20) / np.sqrt(20), noise_var=0.1)
    for evaluation in ("fresh", "same"):
        c = compare(problem, 1 / 51, evaluation=evaluation, num_tasks=4000, seed=2)
        assert c.lr == exact_risk(problem, 1 / 51, evaluation).optimal_lr
        assert c.estimate == estimate_risk(problem, 1 / 51, c.lr, evaluation=evaluation, num_tasks=4000, seed=2)
        assert c.z == pytest.approx((c.estimate.mean - c.exact.optimal) / c.estimate.stderr)
        assert abs(c.z) < 4
        assert c.asymptotic.optimal == pytest.approx(c.exact.optimal, rel=0.25)


def test_a_risk_that_no_task_changes_is_compared_to_its_rounding():
    """From W = 0 without a step the risk is |b|^2 for every task; the spread of the simulated ones is rounding."""
    problem = Problem(30, 3, np.ones(600) / np.sqrt(600))
    zs = [compare(problem, 0.0, 0.0, num_tasks=num_tasks).z for num_tasks in (2, 773, 2773)]
    assert max(abs(z) for z in zs) < 1
    c = compare(problem, 0.0, 0.0, num_tasks=773)
    assert replace(c, exact=RiskCurve(1.001, 0.0, 0.0)).z < -100
    nothing = compare(Problem(3, 3, np.zeros(2)), 0.0, 0.0, num_tasks=8)
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
    exact, asymptotic, reason = theory(problem, 0.1, "fresh")
    assert exact is None
    assert asymptotic is not None
    assert reason == "exact_risk needs Gaussian features, got feature_law 'rademacher'"
    for weights, evaluation, message in ((np.ones(3), "fresh", "weights must be"), (0.1, "foo", "evaluation must be")):
        with pytest.raises(ValueError, match=message):
            theory(problem, weights, evaluation)


def test_family_verdict_is_corrected():
    assert family_verdict([3.0] * 3)[0] is False
    assert family_verdict([3.0] + [0.0] * 60)[0] is True
    assert family_verdict([np.nan])[0] is False
    rng = np.random.default_rng(0)
    failures = sum(not family_verdict(rng.normal(size=40))[0] for _ in range(2000))
    assert abs(failures - 20) < 4 * np.sqrt(20)


def test_table_is_aligned_and_says_disagree():
    rows = [{"name": "a", "z": 9.0}, {"name": "long", "z": -0.25}]
    lines = agreement_table(rows, [9.0, -0.25], unreliable=1).splitlines()
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3].startswith("DISAGREE: 1 of 2 cells")
    assert "1 further cells are not judged" in lines[4]
