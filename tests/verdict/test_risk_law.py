"""The law of a risk as a distribution: its answers fit each other, say where they come from, and refuse nonsense."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import Folds, GaussianTasks, LinearAttention, NotApplicable, Problem, exact_risk, functional, risk_law

pytestmark = pytest.mark.usefixtures("quick_compilation")
SAME = Problem(20, 30, np.ones(6) / 6**0.5, evaluation="same")
FRESH = Problem(20, 30, np.ones(6) / 6**0.5, noise_var=0.2)


@pytest.mark.parametrize(
    ("problem", "weights", "source"),
    [
        (SAME, 0.03, "closed form"),
        (SAME, 0.03 * np.diag(np.arange(6.0)), "sampled, 5000 prompts; closed form: mean, var, prob_hurt"),
        (FRESH, 0.03, "sampled, 5000 prompts; closed form: mean, var"),
        (Problem(20, 30, GaussianTasks(d=6)), 0.03, "sampled, 5000 prompts; closed form: mean"),
    ],
)
def test_answers_fit_each_other_and_the_sample(problem, weights, source):
    law = risk_law(problem, weights, num_tasks=5000)
    assert law.source == source
    assert law.mean() == pytest.approx(exact_risk(problem, weights).optimal, rel=1e-12)
    assert law.std() == pytest.approx(math.sqrt(law.var()))
    levels = np.array([0.05, 0.5, 0.9])
    quantiles = law.quantile(levels)
    np.testing.assert_allclose(law.cdf(quantiles), levels, atol=1e-3)
    assert law.cdf(float(quantiles[1])) == law.cdf(quantiles)[1]
    assert math.isnan(law.cdf(math.nan))
    assert law.ppf(0.5) == quantiles[1]
    sample = law.sample(4000, seed=1)
    for level, quantile in zip(levels, quantiles, strict=True):
        share = np.mean(sample <= quantile)
        assert abs(share - level) < 4 * math.sqrt(level * (1 - level) * (1 / 4000 + 1 / 5000))
    assert abs(sample.mean() - law.mean()) < 4 * sample.std() / math.sqrt(len(sample))
    assert 0 < law.prob_hurt() < 0.5


def test_a_closed_form_has_no_standard_error_and_a_sampled_one_the_right_one():
    closed = risk_law(SAME, 0.03)
    asked = [("mean", None), ("var", None), ("std", None), ("prob_hurt", None), ("cdf", 0.3), ("quantile", 0.9)]
    assert all(closed.stderr(*one) == 0 for one in asked)
    laws = [risk_law(FRESH, 0.03, num_tasks=500, seed=seed) for seed in range(40)]
    for quantity, at in asked[3:]:
        ask = {"prob_hurt": lambda one: one.prob_hurt()}.get(quantity, lambda one: getattr(one, quantity)(at))  # noqa: B023
        found = np.std([ask(one) for one in laws])
        assert found == pytest.approx(np.mean([one.stderr(quantity, at) for one in laws]), rel=0.4)
    tasks = risk_law(Problem(20, 30, GaussianTasks(cov=np.linspace(0.5, 1, 8)), np.linspace(1, 2, 8)), 0.03)
    assert tasks.stderr("mean") > 0
    assert tasks.stderr("std") == pytest.approx(tasks.stderr("var") / (2 * tasks.std()))
    assert tasks.stderr("var") > 0


def test_the_cdf_of_a_risk_that_does_not_vary_steps_there():
    law = risk_law(Problem(5, 5, [0.0, 0.0], evaluation="same"), 0.1, 0.1)
    assert law.cdf([-1e-9, 0.0]).tolist() == [0.0, 1.0]
    assert law.quantile(0.5) == law.std() == law.stderr("std") == 0


def test_features_that_are_not_gaussian_are_sampled_on_rows():
    problem = Problem(20, 30, np.ones(6) / 6**0.5, feature_law="rademacher")
    law = risk_law(problem, 0.03, 1e-6, num_tasks=2000)
    assert law.source == "sampled, 2000 prompts"
    before = 1 - 2 * 20 * 0.03 + 0.03**2 * (20 * 19 + 20 * 6)  # E rows x x' x x' = 6 I for signs
    assert risk_law(problem, 0.03, 0.0, num_tasks=2000).mean() == pytest.approx(before, abs=5 * law.stderr("mean"))


def test_the_variance_says_how_precise_a_simulated_mean_is():
    from ttt_jax import estimate_risk

    problem = Problem(80, 80, np.ones(4) / 2, evaluation="same")
    law = risk_law(problem, 0.008)
    found = estimate_risk(problem, 0.008, law.procedure, num_tasks=20_000)
    relative = math.sqrt((found.kurtosis - 1) / found.num_tasks) / 2
    assert found.stderr == pytest.approx(law.std() / math.sqrt(20_000), rel=4 * relative)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: risk_law(SAME, 0.03, Folds(2, 0.1)), "no law of the risk is known for Folds"),
        (lambda: risk_law(SAME, 0.03, num_tasks=1), "num_tasks must be at least 2 for a standard error, got 1"),
        (lambda: risk_law(SAME, np.zeros(3)), r"start must be a scalar or have shape \(6,\)"),
        (
            lambda: risk_law(Problem(5, 5, [1.0], feature_law="rademacher"), 0.1),
            "lr must be a number, got 'optimal': exact_risk needs Gaussian features",
        ),
        (lambda: risk_law(SAME, 0.03).quantile(1.0), "q must be between 0 and 1, got 1.0"),
        (lambda: risk_law(SAME, 0.03).quantile([0.5, np.nan]), r"q must be between 0 and 1, got \[0.5, nan\]"),
        (lambda: risk_law(SAME, 0.03).sample(0), "num must be an integer >= 1, got 0"),
        (lambda: risk_law(SAME, 0.03).stderr("median"), "quantity must be one of mean, var"),
        (lambda: risk_law(SAME, 0.03).stderr("cdf"), "at must be given for a cdf or a quantile and no other, got None"),
        (lambda: risk_law(SAME, 0.03).stderr("var", 0.5), "at must be given for a cdf or a quantile and no other"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_has_no_law():
    with pytest.raises(NotApplicable, match="risk_law is known for linear attention from W"):
        risk_law(SAME, functional(LinearAttention(jnp.zeros((6, 6)))))
