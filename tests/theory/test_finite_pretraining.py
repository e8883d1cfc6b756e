import numpy as np
import pytest

from ttt_jax import GaussianTasks, Inference, Problem, asymptotic_risk
from ttt_jax.theory.finite_pretraining import finite_pretraining_risk, finite_pretraining_switch
from ttt_jax.theory.paper import corollary_4_6_switch


def problem(noise_var=0.0, evaluation="fresh", n=100, k=400, d=200, length=1.0):
    return Problem(n, k, np.full(d, length / d**0.5), noise_var=noise_var, evaluation=evaluation)


def coefficients(curve):
    return np.array([curve.c0, curve.c1, curve.c2])


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize("noise_var", [0.0, 0.7])
def test_unlimited_prompts_are_the_optimum_and_unlimited_ridge_is_zero(evaluation, noise_var):
    """The leading order of W* for tasks N(0, I/d), and of W = 0."""
    one = problem(noise_var, evaluation)
    optimum = 1 / (one.n + one.d * (1 + noise_var))
    for options, weights in (({"num_prompts": 10**17}, optimum), ({"num_prompts": 9, "ridge": 1e25}, 0.0)):
        found, known = finite_pretraining_risk(one, **options), asymptotic_risk(one, weights)
        np.testing.assert_allclose(coefficients(found), coefficients(known), rtol=1e-9)


@pytest.mark.parametrize("theta", [0.2, 0.75, 1.5, 4.0])
@pytest.mark.parametrize("n", [50, 400])
def test_the_closed_forms_without_ridge_and_noise(theta, n):
    d = 200
    a, g = n / d, 2
    if theta > 1:
        risk, misfit = theta / ((theta - 1) * (1 + a)), (1 + a / (theta - 1)) / (1 + a) ** 2
    else:
        risk = (1 / (1 - theta) + (1 - theta) * a) / (1 + a)
        misfit = (1 - theta * a / (1 + a)) ** 2 + a * theta * ((1 - theta) * a + 1 / (1 - theta)) / (1 + a) ** 2
    after = {"fresh": risk - g / (1 + g) * misfit**2 / risk, "same": risk / (1 + g)}
    for evaluation, expected in after.items():
        curve = finite_pretraining_risk(problem(evaluation=evaluation, n=n, d=d), round(theta * d**2))
        assert (curve.initial, curve.optimal) == pytest.approx((risk, expected), rel=1e-12)


def test_the_peak_is_between_and_a_ridge_removes_it():
    one = problem()
    without = [
        finite_pretraining_risk(one, round(theta * one.d**2)).initial for theta in (0.5, 0.9, 0.99, 1.01, 1.1, 2)
    ]
    assert without[0] < without[1] < without[2] > 30 < without[3] > without[4] > without[5]
    length = one.n * (one.n + one.d)
    at = [finite_pretraining_risk(one, one.d**2 + more, ridge=one.d * length).initial for more in (-1, 0, 1)]
    learned, q = (3 - 5**0.5) / 2, 1 / 3  # at theta = l = 1
    assert at[1] == pytest.approx(((1 - learned) ** 2 * q + 1 - q) / (1 - learned**2), rel=1e-12)
    assert at == sorted(at, reverse=True)
    assert at[0] - at[2] < 1e-4
    assert at[0] < 1


@pytest.mark.parametrize("theta", [0.4, 2.5])
@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_a_small_ridge_changes_little(theta, evaluation):
    one = problem(0.3, evaluation)
    curves = [finite_pretraining_risk(one, round(theta * one.d**2), ridge=ridge) for ridge in (0.0, 1e-3, 1e-2)]
    first, second = (np.abs(coefficients(curve) / coefficients(curves[0]) - 1).max() for curve in curves[1:])
    assert 0 < first < second < 1e-6
    assert second / first == pytest.approx(10, rel=1e-2)


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_units_of_the_labels(evaluation):
    c2 = 9.0
    one, other = problem(0.3, evaluation), problem(0.3 * c2, evaluation, length=3.0)
    curves = [finite_pretraining_risk(p, 20_000, ridge=r) for p, r in ((one, 1e8), (other, 1e8 * c2))]
    np.testing.assert_allclose(coefficients(curves[1]) / coefficients(curves[0]), [c2, c2**2, c2**3], rtol=1e-12)


def test_the_switch():
    for a in (0.5, 1.0, 3.0):
        assert finite_pretraining_switch(a, 1e9) == pytest.approx(corollary_4_6_switch(a), rel=1e-8)
        assert finite_pretraining_switch(a, 1 + 0.999 / a) == finite_pretraining_switch(a, 1.0) == 0.0
        assert 0 < finite_pretraining_switch(a, 1 + 1.001 / a) < 0.01
    assert finite_pretraining_switch(3.0, 0.7) == 0.0
    assert 0 < finite_pretraining_switch(3.0, 0.66) < 0.1
    d = 10_000
    for n, theta in ((20_000, 2.0), (20_000, 0.25), (10_000, 5.0)):
        switch = finite_pretraining_switch(n / d, theta)
        for share in (0.98, 1.02):
            one = problem(n=n, k=round(share * switch * d), d=d)
            warm, cold = finite_pretraining_risk(one, round(theta * d**2)), asymptotic_risk(one, 0.0)
            assert (warm.optimal < cold.optimal) == (share < 1)


def test_one_of_everything():
    one = Problem(1, 1, [1.0])
    assert finite_pretraining_risk(one, 2).initial == pytest.approx(1.0)  # theta/[(theta-1)(1+a)]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (problem(), {"num_prompts": 0}, "num_prompts must be an integer >= 1, got 0"),
        (problem(), {"num_prompts": 9, "ridge": -1}, "ridge must be a finite number >= 0, got -1"),
        (problem(), {"num_prompts": 40_000}, "num_prompts must differ from d\\^2 without ridge"),
        (Problem(3, 3, np.zeros(3)), {"num_prompts": 5}, "task must be one vector other than 0"),
        (Problem(3, 3, GaussianTasks(d=3)), {"num_prompts": 5}, "task must be one vector other than 0"),
        (Problem(3, 3, np.ones(2), [1.0, 2.0]), {"num_prompts": 5}, "feature_cov must be the identity"),
        (Problem(3, 3, np.ones(2), feature_law="rademacher"), {"num_prompts": 5}, "needs Gaussian features"),
        (Problem(3, 3, np.ones(2), evaluation=Inference(n=7)), {"num_prompts": 5}, "training law at inference"),
    ],
)
def test_what_it_does_not_know_is_refused_in_one_line(given, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        finite_pretraining_risk(given, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("a", "theta", "name"), [(0, 2, "n_over_d"), (1, -2, "prompts_over_d2")])
def test_the_switch_refuses_sizes_without_meaning(a, theta, name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        finite_pretraining_switch(a, theta)
