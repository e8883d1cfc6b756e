"""The law of one prompt's risk: its moments, its quadratures, its limits, and prompts of sampled rows."""

import math

import numpy as np
import pytest

from ttt_jax import Folds, GaussianTasks, GradientStep, Inference, NotApplicable, Problem, exact_risk
from ttt_jax.theory import prompt_law
from ttt_jax.theory.prompt_law import (
    _chi2_table,
    four_chi_squares,
    isotropic_moments,
    known_law,
    prob_hurt,
    same_context_moments,
)

OTHER_LAW = {"n": 7, "feature_cov": 0.6, "noise_var": 0.2, "rescale": True}
QUERY_LAW = {"query_feature_cov": 1.7, "query_noise_var": 0.4}


def prompts(problem, weights, lr, count=100_000, seed=0):
    """|r|^2 before and after the step for sampled rows, Sx = I, no noise, the same context."""
    rng, n, k, d = np.random.default_rng(seed), problem.n, problem.k, problem.d
    x, queries = (rng.standard_normal((count, rows, d)) for rows in (n, k))
    u = np.einsum("cni,cn->ci", x, x @ problem.task)
    r = problem.task - u @ np.asarray(weights * np.eye(d) if np.ndim(weights) == 0 else weights).T
    v = np.einsum("cki,ck->ci", queries, np.einsum("cki,ci->ck", queries, r))
    return np.sum(r**2, 1), np.sum((r - 2 * lr * np.sum(u**2, 1)[:, None] * v) ** 2, 1)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("law", ["fresh", "same", Inference(**OTHER_LAW, **QUERY_LAW), Inference("same", **QUERY_LAW)])
def test_the_mean_is_the_exact_risk(d, law):
    task = np.arange(1.0, d + 1) / d
    for noise_var in (0.0, 0.3):
        problem = Problem(5, 6, task, 1.3, noise_var, evaluation=law)
        curve = exact_risk(problem, 0.03)
        lr = 0.8 * curve.optimal_lr
        context, at = problem.inference.context, prompt_law.at_inference(problem)
        sizes = 5, 6, d, float(task @ task), 1.3, noise_var, 0.03, lr
        at = at._replace(feature_cov=float(at.feature_cov), query_feature_cov=float(at.query_feature_cov))
        assert isotropic_moments(*sizes, context, at)[0] == pytest.approx(curve.at(lr), rel=1e-12)
        if context == "same" and not noise_var:
            unit, query = problem.inference.query_feature_cov * task @ task, problem.inference.query_noise_var
            mean, var = same_context_moments(5, 6, task, 1.3 * 0.03, lr * 1.3**3 * task @ task)
            assert query + unit * mean == pytest.approx(curve.at(lr), rel=1e-12)
            assert unit**2 * var == pytest.approx(isotropic_moments(*sizes, context, at)[1], rel=1e-10)


def test_a_dense_start_has_the_moments_of_sampled_rows():
    rng = np.random.default_rng(1)
    problem, weights = Problem(60, 60, [1.0, 0.5, -0.5], evaluation="same"), rng.normal(size=(3, 3)) / 60
    curve = exact_risk(problem, weights)
    lr, norm2 = 0.7 * curve.optimal_lr, 1.5
    mean, var = same_context_moments(60, 60, problem.task, weights, lr * norm2)
    assert norm2 * mean == pytest.approx(curve.at(lr), rel=1e-12)
    before, after = prompts(problem, weights, lr)
    square = (after - after.mean()) ** 2
    assert abs(after.mean() - norm2 * mean) < 4 * after.std() / math.sqrt(len(after))
    assert abs(square.mean() - norm2**2 * var) < 4 * square.std() / math.sqrt(len(after))
    share = prob_hurt(60, 60, 3, lr * norm2)
    assert abs(np.mean(after > before) - share) < 4 * math.sqrt(share * (1 - share) / len(after))


def test_a_turned_start_has_the_same_variance_for_the_turned_task():
    rng = np.random.default_rng(2)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    task, weights = rng.normal(size=5), rng.normal(size=(5, 5)) / 20
    plain, turned = (
        same_context_moments(8, 9, b, w, 1e-5) for b, w in ((task, weights), (turn @ task, turn @ weights @ turn.T))
    )
    np.testing.assert_allclose(plain, turned, rtol=1e-12)


@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (2, 3, 2), (12, 18, 8)])
def test_the_points_are_the_law_of_sampled_rows(n, k, d):
    problem, weight, lr = Problem(n, k, np.ones(d) / math.sqrt(d), evaluation="same"), 0.5 / (n + d), 0.05 / (n * n * k)
    points = np.sort(four_chi_squares(n, k, d, weight, lr))
    after = prompts(problem, weight, lr)[1]
    for level in (0.01, 0.1, 0.5, 0.9, 0.99):
        below = np.mean(after <= np.quantile(points, level))
        assert abs(below - level) < 4 * math.sqrt(level * (1 - level) / len(after)) + 2e-4


def test_the_points_know_their_exact_probabilities_to_1e_4():
    """Without a step and with d = 1, a risk of at most y is a t ~ chi2(4) in an interval."""
    for y in (0.02, 0.3, 1.0, 2.0):
        points = four_chi_squares(4, 3, 1, 0.25, 0.0)  # (1 - t/4)^2
        low, high = 4 * max(1 - math.sqrt(y), 0), 4 * (1 + math.sqrt(y))
        exact = math.exp(-low / 2) * (1 + low / 2) - math.exp(-high / 2) * (1 + high / 2)
        assert abs(np.mean(points <= y) - exact) < 1e-4


def test_tables_are_the_laws_of_chi_squares():
    for x in (0.01, 0.5, 3.0, 20.0):
        exact = {1: math.erf(math.sqrt(x / 2)), 2: 1 - math.exp(-x / 2), 4: 1 - math.exp(-x / 2) * (1 + x / 2)}
        for dof, value in exact.items():
            assert np.interp(x, *_chi2_table(dof)) == pytest.approx(value, abs=1e-8)
    values, below = _chi2_table(1e6)
    assert np.interp(1e6, values, below) == pytest.approx(0.5 + 1 / (3 * math.sqrt(math.pi * 1e6)), abs=1e-6)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 2), (3, 2, 5), (300, 400, 200)])
def test_prob_hurt_grows_from_0_to_1_with_the_step(sizes):
    n, k, d = sizes
    typical = 1 / (n * (n + d) * (k + d))
    shares = [prob_hurt(*sizes, x * typical) for x in (1e-12, 0.3, 1.0, 3.0, 1e14)]
    assert shares[0] < 1e-3
    assert shares[-1] > 1 - 1e-3
    assert np.all(np.diff(shares) > 0)
    assert prob_hurt(*sizes, 0.0) == 0
    assert prob_hurt(*sizes, -typical) == 1


def test_prob_hurt_of_one_feature_is_an_integral_over_t():
    """There x ~ chi2(k), whose tail is elementary for k = 2 and 4; t ~ chi2(4)."""
    t = np.exp(np.arange(-40.0, 5.0, 1e-3))
    density = t**2 * np.exp(-t / 2)
    half = 1 / (2 * 0.02 * t**2)
    for k, tail in ((2, np.exp(-half)), (4, np.exp(-half) * (1 + np.minimum(half, 1e3)))):
        assert prob_hurt(4, k, 1, 0.02) == pytest.approx(density @ tail / density.sum(), rel=1e-11)


def test_prob_hurt_does_not_depend_on_its_grid(monkeypatch):
    """Also where k is so large, or small beside n, that the probability given t is a step."""
    sizes = [(1, 1, 1), (1, 1, 2), (2, 3, 3), (12, 18, 8), (1000, 1000, 1000), (1, 100_000, 1), (100_000, 1, 2)]
    given = [(n, k, d, 0.7 / (n * (n + d) * (k + d))) for n, k, d in sizes]
    coarse = [prob_hurt(*one) for one in given]
    monkeypatch.setattr(prompt_law, "GRID", 500)
    np.testing.assert_allclose([prob_hurt(*one) for one in given], coarse, rtol=1e-11)


def test_prob_hurt_keeps_the_digits_of_small_probabilities():
    """For n = 2 and d = 1, P(t > y) = exp(-y/2): with k = 4, x x exp(-x/2)/4 is averaged over x by a sum."""
    x = np.exp(np.arange(-6.0, 12.0, 1e-3))
    exact = np.sum(x**2 / 4 * np.exp(-x / 2 - 1 / (2 * np.sqrt(1e-5 * x)))) * 1e-3
    assert exact < 1e-16
    assert prob_hurt(2, 4, 1, 1e-5) == pytest.approx(exact, rel=1e-11, abs=0)


def test_other_units_of_the_features_change_nothing_but_units():
    c, task = 2.5, np.array([0.6, 0.8, 0.0])
    weights = np.random.default_rng(3).normal(size=(3, 3)) / 30
    plain = known_law(GradientStep(1e-5), Problem(8, 9, task, evaluation="same"), weights)
    law = Inference("same", query_feature_cov=1.0)
    scaled = known_law(GradientStep(1e-5 / c**3), Problem(8, 9, task, c, evaluation=law), weights / c)
    assert scaled.prob_hurt == pytest.approx(plain.prob_hurt, rel=1e-12)
    assert scaled.var == pytest.approx(plain.var, rel=1e-12)
    factors = GradientStep(1e-5, 2.0, np.full(3, 0.5))
    assert known_law(factors, Problem(8, 9, task, evaluation="same"), weights).var == pytest.approx(plain.var)


def test_what_is_known_of_which_problem():
    task, dense = np.ones(3), np.diag([0.1, 0.2, 0.3])
    known = {
        (True, True, True): known_law(GradientStep(1e-5), Problem(8, 9, task, evaluation="same"), np.array(0.01)),
        (True, True, False): known_law(GradientStep(1e-5), Problem(8, 9, task, evaluation="same"), dense),
        (True, False, False): known_law(GradientStep(1e-5), Problem(8, 9, task, noise_var=0.1), np.array(0.01)),
        (False, False, False): known_law(GradientStep(1e-5), Problem(8, 9, task), dense),
    }
    for answers, law in known.items():
        assert answers == tuple(value is not None for value in (law.var, law.prob_hurt, law.risks))
    for problem in (
        Problem(8, 9, GaussianTasks(d=3), evaluation="same"),
        Problem(8, 9, task, [1.0, 2.0, 3.0], evaluation="same"),
        Problem(8, 9, task, evaluation="same", feature_law="rademacher"),
    ):
        assert known_law(GradientStep(1e-5), problem, np.array(0.01)).var is None


def test_a_task_without_signal_has_a_risk_that_does_not_vary():
    law = known_law(GradientStep(1.0), Problem(3, 4, [0.0, 0.0], evaluation="same"), np.array(0.1))
    assert law.var == law.prob_hurt == 0
    assert not law.risks.any()


def test_what_is_not_known_is_refused():
    with pytest.raises(NotApplicable, match="no law of the risk is known for Folds"):
        known_law(Folds(2, 0.1), Problem(3, 3, [1.0]), np.array(0.0))
    with pytest.raises(ValueError, match="n must be positive, got 0"):
        prob_hurt(0, 1, 1, 0.1)
    with pytest.raises(ValueError, match="d must be a number >= 1, got 0"):
        prob_hurt(1, 1, 0, 0.1)
