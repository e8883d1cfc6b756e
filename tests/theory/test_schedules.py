"""The exact risk of several steps on one batch: against enumeration, one step, simulation and its own limits."""

from dataclasses import replace
from fractions import Fraction
from math import comb, prod

import numpy as np
import pytest

from tests.theory.test_exact import gaussian_grid
from ttt_jax import GaussianTasks, GradientSteps, Inference, NotApplicable, Problem, estimate_risk, exact_risk
from ttt_jax.problem import EVALUATIONS
from ttt_jax.theory.schedules import looped_attention, one_batch, wishart_moments
from ttt_jax.theory.several_steps import best_steps_risk, one_batch_risk
from ttt_jax.theory.wishart_words import expectation, trace, wishart


def test_moments_are_the_known_ones_and_those_of_wick():
    S = wishart("S")
    power = S
    for p, count in enumerate((4, 32, 344), start=1):
        assert wishart_moments(4, 3, 3)[p] == count
        power = S if p == 1 else power @ S
        for k, d in ((1, 1), (2, 5), (7, 3)):  # E tr S^p = d E (S^p)_11
            assert d * wishart_moments(k, d, p)[p] == expectation(trace(power)).at({"S": k}, d)
    assert wishart_moments(9, 1, 6)[6] == np.prod(np.arange(9, 21, 2))  # chi2(9)
    assert wishart_moments(200, 100, 40)[40].bit_length() == 361


def test_d_times_a_moment_is_symmetric_in_the_shape_of_the_data():
    for k, d in ((2, 7), (10, 3)):
        assert [d * e for e in wishart_moments(k, d, 9)[1:]] == [k * e for e in wishart_moments(d, k, 9)[1:]]


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_one_step_is_the_exact_parabola(evaluation):
    rng = np.random.default_rng(0)
    for d, scale in ((1, 1.0), (2, 1.0), (5, 1.0), (3, 0.0)):  # the last has no task, only noise
        problem = Problem(3, 4, scale * rng.normal(size=d), noise_var=0.3, evaluation=evaluation)
        weights = rng.normal(size=(d, d)) / 8
        curve, steps = exact_risk(problem, weights), one_batch(problem, weights, 1)
        found = [float(steps.c0), float(2 * steps.alpha[0]), float(steps.beta[0])]
        assert found == pytest.approx([curve.c0, curve.c1, curve.c2], rel=1e-13)


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_two_steps_by_quadrature_over_all_the_data(evaluation):
    """Every row and noise on Gauss and Hermite's grid, and real gradient steps; even numbers of nodes leave out 0."""
    dense, number = np.array([[0.2, 0.3], [-0.1, 0.1]]), np.array([[0.15]])
    for n, k, d, weights in ((1, 1, 2, dense), (1, 2, 1, number), (2, 1, 1, number)):
        task, noise_var, lr = np.array([0.9, -0.4])[:d], 0.5, [0.02, 0.05]
        problem = Problem(n, k, task, noise_var=noise_var, evaluation=evaluation)
        points, chance = gaussian_grid(n * (d + 1), 12)  # degree 20 in an entry of the context, 8 in one of the batch
        x, xi = points.reshape(-1, n, d + 1)[..., :d], np.sqrt(noise_var) * points.reshape(-1, n, d + 1)[..., d]
        u = np.einsum("pni,pn->pi", x, x @ task + xi)
        nodes, batch_chance = gaussian_grid(k * (d + 1), 5)
        rows, noise = nodes.reshape(-1, k, d + 1)[..., :d], np.sqrt(noise_var) * nodes.reshape(-1, k, d + 1)[..., d]
        s, z = np.einsum("qki,qkj->qij", rows, rows), np.einsum("qki,qk->qi", rows, noise)
        first = np.broadcast_to((task - u @ weights.T)[:, None], (len(u), len(s), d))
        r, length = first, np.sum(u**2, axis=1)[:, None, None]
        expected = []
        for size in (None, *lr):
            if size:
                r = r - 2 * size * length * (np.einsum("qij,pqj->pqi", s, r) + z)
            if evaluation == "same":
                error = np.sum(r**2, axis=2)
            else:  # b - (W + z u') u_e = r_e - (first - r) u'u_e / |u|^2
                change = (first - r) / length
                cov = n * (n + 1) * np.outer(task, task) + n * (task @ task + noise_var) * np.eye(d)  # E u_e u_e'
                cross = n * np.outer(task, task) - weights @ cov  # E r_e u_e'
                still = exact_risk(problem, weights).initial - noise_var
                error = still - 2 * np.einsum("pqi,ij,pj->pq", change, cross, u)
                error = error + np.sum(change**2, axis=2) * np.einsum("pi,ij,pj->p", u, cov, u)[:, None]
            expected.append(noise_var + chance @ error @ batch_chance)
        np.testing.assert_allclose(exact_risk(problem, weights, GradientSteps(lr)).risks, expected, rtol=1e-11)


OWN_LAW = {"n": 4, "feature_cov": 0.7, "noise_var": 0.2, "rescale": True}
QUERY_LAW = {"query_feature_cov": 1.4, "query_noise_var": 0.6}
LAWS = ["fresh", "same", Inference(**OWN_LAW), Inference(**QUERY_LAW), Inference("same", **QUERY_LAW)]


@pytest.mark.parametrize("evaluation", LAWS)
def test_one_step_is_the_exact_parabola_for_other_laws_and_random_tasks(evaluation):
    rng = np.random.default_rng(2)
    for d in (1, 2, 3):
        root = rng.normal(size=(d, d))
        for task in (rng.normal(size=d), GaussianTasks(rng.normal(size=d), root @ root.T), GaussianTasks(cov=0.3, d=d)):
            problem = Problem(3, 4, task, 1.7, noise_var=0.3, evaluation=evaluation)
            for weights in (rng.normal(size=(d, d)) / 8, 0.05):
                curve, steps = exact_risk(problem, weights), one_batch(problem, weights, 1)
                found = [float(steps.c0), float(2 * steps.alpha[0]), float(steps.beta[0])]
                assert found == pytest.approx([curve.c0, curve.c1, curve.c2], rel=1e-12)


@pytest.mark.parametrize("evaluation", LAWS)
def test_random_tasks_are_averaged_exactly(evaluation):
    """Two steps are of degree 10 in the task: six Hermite nodes along each principal axis."""
    mean, root, weights = np.array([0.8, -0.5]), np.array([[0.5, 0.0], [0.3, 0.4]]), np.array([[0.1, 0.2], [-0.1, 0.1]])
    points, chance = gaussian_grid(2, 6)
    problem = Problem(3, 4, GaussianTasks(mean, root @ root.T), 0.8, 0.3, evaluation=evaluation)
    fixed = [one_batch(replace(problem, task=mean + root @ z), weights, 2).risks([0.002, 0.003]) for z in points]
    np.testing.assert_allclose(one_batch(problem, weights, 2).risks([0.002, 0.003]), chance @ fixed, rtol=1e-12)


def test_an_average_over_tasks_loses_no_digit():
    """b ~ N(0, 1), else as in the test of one task: E b^82 in place of 1, and so on."""
    problem, lr = Problem(1, 1, GaussianTasks(d=1), evaluation="same"), np.full(20, 2.0**-14)
    chi2 = [prod(range(1, 2 * m, 2)) for m in range(81)]  # E chi2(1)^m
    total = sum(comb(40, p) * Fraction(-2, 2**14) ** p * chi2[2 * p] * chi2[p] * chi2[p + 1] for p in range(41))
    assert one_batch(problem, 0.0, 20).risks(lr)[-1] == pytest.approx(float(total), rel=1e-15)


@pytest.mark.parametrize("evaluation", [*EVALUATIONS, Inference(**OWN_LAW | {"n": 80}, **QUERY_LAW)])
@pytest.mark.parametrize("random", [False, True])
def test_simulated_steps_agree(evaluation, random):
    rng = np.random.default_rng(1)
    task = rng.normal(size=4) / 2
    problem = Problem(  # long: light tails
        60, 40, GaussianTasks(task, 0.02) if random else task, 0.8, 0.2, evaluation=evaluation
    )
    weights = rng.normal(size=(4, 4)) / 200
    procedure = GradientSteps(exact_risk(problem, weights).optimal_lr * np.array([0.5, 0.3, 0.4]))
    found = estimate_risk(problem, weights, procedure, num_tasks=20_000)
    exact = exact_risk(problem, weights, procedure).risks
    assert np.abs((found.mean - exact)[1:] / found.stderr[1:]).max() < 4
    assert (found.stderr[1:] < 0.02 * exact[1:]).all()


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_the_leading_order_is_the_limit(evaluation):
    errors = []
    for d in (50, 100, 200):
        problem = Problem(d, 2 * d, np.ones(d) / np.sqrt(d), noise_var=0.3, evaluation=evaluation)
        steps = np.array([0.3, 0.2, 0.1]) / (2 * d * (d**2 + 1.3 * d**2))
        exact = exact_risk(problem, 0.5 / d, GradientSteps(steps)).risks
        errors.append(d * np.abs(one_batch_risk(problem, 0.5 / d, steps) / exact - 1).max())
    assert errors[2] < 1.1 * errors[0]
    assert errors[2] < 10


def test_many_steps_lose_no_digit():
    """Twenty steps at n = k = d = 1, in rational numbers: E (1 - 2 lr u^2 s)^40 with u = x^2, x^2 and s ~ chi2(1)."""
    problem, lr = Problem(1, 1, [1.0], evaluation="same"), np.full(20, 2.0**-9)
    exact = one_batch(problem, 0.0, 20).risks(lr)[-1]
    chi2 = [prod(range(1, 2 * m, 2)) for m in range(81)]  # E chi2(1)^m
    total = sum(comb(40, p) * Fraction(-2, 512) ** p * chi2[2 * p] * chi2[p] for p in range(41))
    assert exact == pytest.approx(float(total), rel=1e-15)


def test_overflow_is_infinite():
    assert one_batch(Problem(5, 9, np.ones(4)), 0.0, 2).risks([1e200, 1e200])[-1] == np.inf


@pytest.mark.parametrize(
    ("noise_var", "evaluation", "real"), [(0.0, "same", True), (0.0, "fresh", True), (0.5, "fresh", False)]
)
def test_best_step_sizes_are_at_the_bottom(noise_var, evaluation, real):
    problem = Problem(20, 40, np.ones(20) / np.sqrt(20), noise_var=noise_var, evaluation=evaluation)
    schedules = one_batch(problem, 1 / 41, 3)
    curve = exact_risk(problem, 1 / 41)
    assert schedules.bound(1) == pytest.approx(curve.optimal, rel=1e-12)
    assert schedules.best_step_sizes(1) == pytest.approx(curve.optimal_lr)
    for steps in (2, 3):
        best = schedules.best_step_sizes(steps)
        lowest = schedules.risks(best)[-1]
        assert (lowest == pytest.approx(schedules.bound(steps), rel=1e-9)) == real
        assert lowest >= schedules.bound(steps) * (1 - 1e-12)
        rng = np.random.default_rng(0)
        for scale in (1e-3, 0.3):
            for _ in range(10):
                assert schedules.risks(best * np.exp(scale * rng.normal(size=steps)))[-1] > lowest
    assert schedules.bound(3) < schedules.bound(2) < schedules.bound(1)


def test_best_of_two_complex_steps_is_the_best_of_a_grid():
    schedules = one_batch(Problem(20, 40, np.ones(20) / np.sqrt(20), noise_var=0.5), 1 / 41, 2)
    best = schedules.best_step_sizes()
    assert best[0] == pytest.approx(best[1], rel=1e-4)  # the complex pair meets on the real line
    grid = best.mean() * np.linspace(0, 3, 31)
    lowest = min(schedules.risks([a, b])[-1] for a in grid for b in grid[grid <= a])
    assert schedules.risks(best)[-1] <= lowest


def test_the_best_risk_tends_to_the_leading_order():
    errors = []
    for d in (20, 40, 80):
        problem = Problem(d, 2 * d, np.ones(d) / np.sqrt(d), evaluation="same")
        errors.append(one_batch(problem, 0.0, 2).bound() / best_steps_risk(problem, 0.0, 2) - 1)
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[2] < 0.6 * errors[1]


def test_looped_attention_is_simulated_by_its_layers():
    n, d, noise_var, size = 12, 8, 0.3, [0.05, 0.03, 0.04]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, n, d))
    y = x[..., 0] + np.sqrt(noise_var) * rng.normal(size=(20_000, n))
    h, exact = np.zeros((20_000, d)), looped_attention(n, d, 3, noise_var=noise_var).risks(size)
    for layer, s in enumerate(size, start=1):
        h = h + s * np.einsum("pni,pn->pi", x, y - np.einsum("pni,pi->pn", x, h))
        error = np.sum((h - np.eye(d)[0]) ** 2, axis=1)
        assert abs(error.mean() + noise_var - exact[layer]) < 4 * error.std() / np.sqrt(20_000)
    assert exact[0] == 1 + noise_var


def test_what_it_does_not_know_is_refused():
    problem, procedure = Problem(5, 9, np.ones(4)), GradientSteps([1e-4, 1e-4])
    for changes, message in (
        ({"feature_cov": [2.0, 1.0, 1.0, 1.0]}, "feature_cov must be a multiple of the identity"),
        ({"feature_cov": [2.0, 1.0, 1.0, 1.0], "evaluation": Inference(feature_cov=1.0)}, "^feature_cov must be a mul"),
        ({"evaluation": Inference(feature_cov=[2.0, 1.0, 1.0, 1.0])}, "^evaluation.feature_cov must be a multiple"),
        ({"evaluation": Inference(query_feature_cov=[2.0, 1.0, 1.0, 1.0])}, "evaluation.query_feature_cov must be"),
        ({"feature_law": "rademacher"}, "needs Gaussian features"),
    ):
        with pytest.raises(NotApplicable, match=message):
            exact_risk(replace(problem, **changes), 0.0, procedure)
    with pytest.raises(NotApplicable, match="neither a task nor noise"):
        one_batch(replace(problem, task=np.zeros(4)), 0.0, 2).bound()
    schedules = one_batch(problem, 0.0, 1)
    with pytest.raises(ValueError, match="step_sizes must hold at most 1, got 2"):
        schedules.risks([0.1, 0.1])
    with pytest.raises(ValueError, match="steps must be at most 1, got 2"):
        schedules.bound(2)
