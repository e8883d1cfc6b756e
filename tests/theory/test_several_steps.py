"""The theory of several steps: its limits, and its integrals by another road."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ttt_jax import GaussianTasks, GradientSteps, Inference, Problem, asymptotic_risk, exact_risk
from ttt_jax.theory.paper import misalignment, theorem_5_3
from ttt_jax.theory.schedules import one_batch
from ttt_jax.theory.several_steps import (
    best_step_sizes,
    best_steps_fraction,
    best_steps_risk,
    marchenko_pastur,
    new_context_risk,
    new_context_risk_leading,
    one_batch_risk,
)


def isotropic(n, k, d, noise_var=0.0, task_norm=1.0, evaluation="fresh"):
    return Problem(n, k, task_norm * np.ones(d) / np.sqrt(d), noise_var=noise_var, evaluation=evaluation)


def moment(j, g):
    """int m^j of the law of Marchenko and Pastur, by Narayana numbers."""
    return sum(math.comb(j, i) * math.comb(j, i - 1) * g**i for i in range(1, j + 1)) / j if j else 1.0


@pytest.mark.parametrize("g", [0.3, 1.0, 2.5])
def test_quadrature_has_the_moments_of_the_law(g):
    m, w = marchenko_pastur(g, 5)
    for j in range(1, 10):
        assert w @ m ** (j - 1) == pytest.approx(moment(j, g), rel=1e-13)


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize("noise_var", [0.0, 0.4])
def test_one_batch_is_the_integral_over_the_spectrum(evaluation, noise_var):
    """phi multiplied out, its powers integrated by Narayana moments; also at g = 1 and below, for a long task."""
    theta, n, d = np.array([0.3, 0.2, 0.1]), 30, 40
    for k in (20, 40, 90):
        problem = isotropic(n, k, d, noise_var, task_norm=1.7, evaluation=evaluation)
        norm2 = 1.7**2
        tau = norm2 + noise_var
        weight = 1 / (n + d + 1)
        misfit, spread = norm2 * (1 - n * weight) ** 2, n * tau * d * weight**2
        phi = np.poly1d([1.0])
        for value in theta:
            phi *= np.poly1d([-value, 1.0])
        psi = np.poly1d([1.0]) - phi

        def integral(polynomial, shift=0, g=k / d):
            return sum(c * moment(j - shift, g) for j, c in enumerate(polynomial.coeffs[::-1]) if c)

        square, noise = integral(psi**2), noise_var * integral(psi**2, shift=1)
        if evaluation == "same":
            expected = noise_var + (misfit + spread) * integral(phi**2) + noise
        else:
            kappa = n * norm2 / (n * norm2 + d * tau)
            expected = noise_var + misfit + spread - 2 * kappa * misfit * integral(psi)
            expected += kappa**2 * ((misfit + spread) * square + noise)
        steps = theta / (2 * d * (n**2 * norm2 + n * d * tau))
        assert one_batch_risk(problem, weight, steps)[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_one_step_is_the_leading_order_of_one_step(evaluation):
    problem = isotropic(3_000, 8_000, 6_000, noise_var=0.3, evaluation=evaluation)
    weight = 1 / 9_001
    lr = 0.7 * asymptotic_risk(problem, weight).optimal_lr
    start, end = one_batch_risk(problem, weight, [lr])
    curve = asymptotic_risk(problem, weight)
    assert (start, end) == pytest.approx((curve.initial, curve.at(lr)), rel=1e-3)
    assert end == pytest.approx(exact_risk(problem, weight).at(lr), rel=3e-3)


@pytest.mark.parametrize("g", [0.5, 1.0, 3.0])
def test_best_steps_reach_the_bound_and_no_others_do(g):
    problem = isotropic(500, int(1000 * g), 1000)
    same = replace(problem, evaluation="same")
    rng = np.random.default_rng(0)
    for steps in (1, 2, 5):
        sizes = best_step_sizes(problem, steps)
        best = best_steps_risk(same, 0.0, steps)
        assert best == pytest.approx(best_steps_fraction(g, steps))
        assert one_batch_risk(same, 0.0, sizes)[-1] == pytest.approx(best, rel=1e-12)
        for _ in range(5):
            other = sizes * np.exp(0.3 * rng.normal(size=steps))
            assert one_batch_risk(same, 0.0, other)[-1] > best
            assert one_batch_risk(problem, 0.0, other)[-1] > best_steps_risk(problem, 0.0, steps)


def test_best_of_one_step_is_theorem_5_3():
    problem, weights = isotropic(200, 500, 400), np.linspace(0, 1 / 400, 400)
    assert best_steps_risk(problem, weights, 1) == pytest.approx(theorem_5_3(problem, weights).optimal)
    assert one_batch_risk(problem, weights, [1e-9])[0] == pytest.approx(sum(misalignment(problem, weights)))


@pytest.mark.parametrize("seed", range(4))
def test_one_new_context_is_the_exact_risk(seed):
    """Every W, not symmetric, with and without noise: one step, and a step after a step of size 0."""
    rng = np.random.default_rng(seed)
    n, k, d = (int(x) for x in rng.integers(1, 7, size=3))
    problem = Problem(n, k, rng.normal(size=d), np.eye(d) if seed % 2 else 1.0, noise_var=(seed // 2) * 0.6)
    weights = rng.normal(size=(d, d)) / (n + d)
    curve = exact_risk(problem, weights)
    lr = curve.optimal_lr
    expected = [curve.initial, curve.initial, curve.at(lr), curve.at(lr)]
    assert new_context_risk(problem, weights, [0.0, lr, 0.0]) == pytest.approx(expected, rel=1e-12)


def test_new_contexts_scale_with_the_labels_and_keep_to_symmetric_weights():
    problem, larger = isotropic(5, 9, 4, 0.2), isotropic(5, 9, 4, 0.2 * 9, task_norm=3.0)
    steps = np.array([3e-3, 1e-3, 2e-3])
    scaled = new_context_risk(larger, 0.05, steps / 9)
    np.testing.assert_allclose(scaled, 9 * new_context_risk(problem, 0.05, steps), rtol=1e-12)


def test_leading_order_of_new_contexts_has_an_error_of_order_1_over_d():
    errors = []
    for d in (400, 800, 1600):
        problem = isotropic(d // 2, 2 * d, d)
        steps = 0.3 * 0.8 ** np.arange(5) / (problem.n**2 * problem.k)
        exact, leading = (f(problem, 1 / (1.5 * d), steps) for f in (new_context_risk, new_context_risk_leading))
        errors.append(d * abs(leading / exact - 1)[1:].max())
    assert errors[2] < 1.1 * errors[0]
    assert errors[2] < 30


def test_problems_outside_the_theory_are_refused():
    problem = isotropic(5, 9, 4)
    for bad, message in (
        (Problem(5, 9, GaussianTasks(d=4)), "task must be one vector"),
        (Problem(5, 9, np.ones(4), feature_cov=2.0), "feature_cov must be the identity .* got entries off by 1$"),
        (Problem(5, 9, np.zeros(4)), "task must not be 0"),
        (Problem(5, 9, np.ones(4), feature_law="rademacher"), "needs Gaussian features"),
        (Problem(5, 9, np.ones(4), evaluation=Inference(n=7)), "needs the training law at inference"),
    ):
        for function in (one_batch_risk, new_context_risk, new_context_risk_leading):
            with pytest.raises(ValueError, match=message):
                function(bad, 0.0, [0.1])
    for steps in ([], 0.1, [np.nan], [[0.1]], ["a"]):
        with pytest.raises(ValueError, match="step_sizes must be a sequence of finite numbers"):
            one_batch_risk(problem, 0.0, steps)
    noisy = isotropic(5, 9, 4, noise_var=0.1)
    with pytest.raises(ValueError, match="noise_var must be 0"):
        best_steps_risk(noisy, 0.0, 2)
    again = isotropic(5, 9, 4, evaluation="same")
    for function in (new_context_risk, new_context_risk_leading):
        with pytest.raises(ValueError, match="evaluation must be 'fresh' for new contexts at every step, got 'same'"):
            function(again, 0.0, [0.1])
    with pytest.raises(ValueError, match="noise_var must be 0"):
        new_context_risk_leading(noisy, 0.0, [0.1])
    with pytest.raises(ValueError, match="ratio must be positive, got -1"):
        best_steps_fraction(-1, 3)
    with pytest.raises(ValueError, match=r"ratio must be positive, got -1\.0"):
        marchenko_pastur(-1.0, 2)
    with pytest.raises(ValueError, match="steps must be an integer >= 1, got 0"):
        best_step_sizes(problem, 0)


def test_best_step_sizes_know_the_length_of_the_summary():
    """One step: 1 / lr = 2 d |u|^2 (1 + g) with |u|^2 = n^2 B + n d (B + s2), which label noise makes longer."""
    n, k, d, noise_var = 30, 20, 40, 0.5
    (lr,) = best_step_sizes(isotropic(n, k, d, noise_var, task_norm=1.5), 1)
    summary2 = n**2 * 1.5**2 + n * d * (1.5**2 + noise_var)
    assert 1 / lr == pytest.approx(2 * d * summary2 * (1 + k / d))


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_the_verbs_give_the_path_of_the_procedure_or_say_why_not(evaluation):
    problem, steps = isotropic(30, 50, 40, evaluation=evaluation), [3e-6, 2e-6]
    path = asymptotic_risk(problem, 0.01, GradientSteps(steps))
    np.testing.assert_array_equal(path.risks, one_batch_risk(problem, 0.01, steps))
    assert (path.initial, path.final, path.after()) == (path.risks[0], path.risks[2], path.risks[2])
    np.testing.assert_array_equal(
        exact_risk(problem, 0.01, GradientSteps(steps)).risks, one_batch(problem, 0.01, 2).risks(steps)
    )
    anew = GradientSteps(steps, new_context=True)
    if evaluation == "same":
        for risk in (exact_risk, asymptotic_risk):
            with pytest.raises(
                ValueError, match="evaluation must be 'fresh' for new contexts at every step, got 'same'"
            ):
                risk(problem, 0.01, anew)
        return
    np.testing.assert_array_equal(exact_risk(problem, 0.01, anew).risks, new_context_risk(problem, 0.01, steps))
    leading = new_context_risk_leading(problem, 0.01, steps)
    np.testing.assert_array_equal(asymptotic_risk(problem, 0.01, anew).risks, leading)
