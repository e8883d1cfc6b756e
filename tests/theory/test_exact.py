import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import random_problem
from ttt_jax import GaussianTasks, Problem, exact_risk
from ttt_jax.problem import EVALUATIONS
from ttt_jax.theory.exact import risk_coefficients
from ttt_jax.theory.paper import lemma_b2, lemma_c1, proposition_4_1_risk, theorem_4_5


def gaussian_grid(dimension, nodes):
    """Points and weights that integrate polynomials of degree below 2 nodes in each standard Gaussian, exactly."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    points = np.stack(np.meshgrid(*[x] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    return points, np.prod(np.stack(np.meshgrid(*[w / w.sum()] * dimension, indexing="ij"), -1), -1).ravel()


def rows(problem, count, nodes):
    """All of count rows x and noises on the grid: (points, count, d), (points, count), and the weights."""
    root = np.linalg.cholesky(problem.feature_cov)
    points, weights = gaussian_grid(count * (problem.d + 1), nodes)
    points = points.reshape(-1, count, problem.d + 1)
    return points[..., :-1] @ root.T, np.sqrt(problem.noise_var) * points[..., -1], weights


def by_quadrature(problem, w, evaluation):
    """(c0, c1, c2) from every row of the data, by Gauss and Hermite's rule: exact for polynomials, no moment formula.

    The weights after the step are W + 2 lr v u' with v = S (b - W u) + z, S = Xt'Xt and z = Xt'xi_t.
    """
    b, sx = problem.task, problem.feature_cov
    x, noise, weight = rows(problem, problem.n, 7)  # degree 12 in each entry for "same"
    u = np.einsum("pni,pn->pi", x, x @ b + noise)
    x, noise, train_weight = rows(problem, problem.k, 3)
    s, z = np.einsum("pki,pkj->pij", x, x), np.einsum("pki,pk->pi", x, noise)
    mean_s = np.einsum("p,pij->ij", train_weight, s)
    mean_ssxs = np.einsum("p,pij,jl,plm->im", train_weight, s, sx, s)
    mean_zsxz = np.einsum("p,pi,ij,pj->", train_weight, z, sx, z)
    r = b - u @ w.T
    if evaluation == "fresh":  # averages over u and an independent u_e
        overlap_r = np.einsum("p,pi,pj->ij", weight, u, r)  # E u r'
        slope = np.trace(mean_s.T @ sx @ overlap_r.T @ overlap_r)  # E (u'u_e) (S r)'Sx r_e
        second = np.einsum("p,pi,pj->ij", weight, u, u)
        square = np.einsum("pi,ij,pj->p", u, second, u)
    else:
        length = np.sum(u**2, axis=1)
        slope = np.sum(weight * length * np.einsum("pi,ij,pj->p", r, mean_s.T @ sx, r))
        square = length**2
    curvature = np.sum(weight * square * (np.einsum("pi,ij,pj->p", r, mean_ssxs, r) + mean_zsxz))
    initial = problem.noise_var + np.sum(weight * np.einsum("pi,ij,pj->p", r, sx, r))
    return np.array([initial, 4 * slope, 4 * curvature])


SMALL = [
    (Problem(n, k, [0.8, -0.5], [[1.5, 0.4], [0.4, 0.7]], noise_var), np.array([[0.3, 0.1], [-0.2, 0.15]]))
    for n, k, noise_var in ((1, 1, 0.0), (2, 1, 0.6), (1, 2, 0.6), (2, 2, 0.3))
]
SMALL += [(Problem(2, 2, [1.5], [[0.7]], 0.4), np.array([[0.2]]))]


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_small_problems_by_quadrature_over_all_the_data(evaluation):
    for problem, w in SMALL:
        expected = by_quadrature(problem, w, evaluation)
        np.testing.assert_allclose(coefficients(problem, w, evaluation), expected, rtol=1e-10)


def test_initial_risk_of_random_tasks_by_quadrature_over_the_tasks():
    """Too few sampled tasks for exact c1 and c2; c0 is exact all the same."""
    mean, root = np.array([0.8, -0.5]), np.array([[1.0, 0.0], [0.3, 0.5]])
    points, weight = gaussian_grid(2, 2)
    for sx, w in (([[1.5, 0.4], [0.4, 0.7]], [[0.3, 0.1], [-0.2, 0.15]]), ([1.5, 0.7], [0.3, 0.1])):
        fixed = [exact_risk(Problem(3, 2, mean + root @ z, sx, 0.6), w).initial for z in points]
        curve = exact_risk(Problem(3, 2, GaussianTasks(mean, root @ root.T), sx, 0.6), w, num_tasks=15)
        assert curve.initial == pytest.approx(weight @ fixed, rel=1e-12)
        assert curve.stderr(0.0) == 0 < curve.stderr(0.01)


def coefficients(problem, weights, evaluation="fresh"):
    curve = exact_risk(replace(problem, evaluation=evaluation), weights)
    return np.array([curve.c0, curve.c1, curve.c2])


@given(st.integers(0, 10**6))
def test_initial_risk_is_lemma_b2(seed):
    problem, weights = random_problem(seed)
    assert exact_risk(problem, weights).initial == pytest.approx(lemma_b2(problem, weights), rel=1e-11)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 2, 7, 60]), st.floats(0, 3))
def test_cold_start_is_theorem_4_5(n, k, d, noise_var):
    task = np.random.default_rng(d).normal(size=d)
    ours = coefficients(Problem(n, k, task, noise_var=noise_var), 0.0)
    theorem = theorem_4_5(n, k, d, task @ task, noise_var)
    np.testing.assert_allclose(ours, [theorem.c0, theorem.c1, theorem.c2], rtol=1e-11)


def test_known_values_without_ttt():
    task = np.ones(30) / np.sqrt(30)
    assert exact_risk(Problem(20, 5, task, noise_var=0.4), 1 / 51.4).initial == pytest.approx(
        proposition_4_1_risk(20, 30, 1.0, 0.4)
    )
    risk, weights = lemma_c1(8, task)
    curve = exact_risk(Problem(8, 5, task), weights)
    assert curve.initial == pytest.approx(risk)
    assert curve.optimal_lr * curve.c1 < 1e-12  # no step improves the best possible weights


@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_diagonal_and_dense_forms_agree(seed, evaluation):
    problem, weights = random_problem(seed, dense=False)
    dense = Problem(problem.n, problem.k, problem.task, np.diag(problem.feature_cov), problem.noise_var)
    expected = coefficients(problem, weights, evaluation)
    np.testing.assert_allclose(coefficients(dense, weights, evaluation), expected, rtol=1e-12)
    np.testing.assert_allclose(coefficients(problem, np.diag(weights), evaluation), expected, rtol=1e-12)


@pytest.mark.parametrize("evaluation", EVALUATIONS)
@given(st.integers(0, 10**6))
def test_rotations_change_nothing(evaluation, seed):
    problem, weights = random_problem(seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(problem.d, problem.d)))
    rotated = Problem(
        problem.n,
        problem.k,
        rotation @ problem.task,
        rotation @ problem.feature_cov @ rotation.T,
        problem.noise_var,
    )
    np.testing.assert_allclose(
        coefficients(rotated, rotation @ weights @ rotation.T, evaluation),
        coefficients(problem, weights, evaluation),
        rtol=1e-9,
    )


@pytest.mark.parametrize("evaluation", EVALUATIONS)
@given(st.integers(0, 10**6), st.sampled_from([1e-40, 1e-3, 7.0, 1e40]))
def test_units(evaluation, seed, c):
    problem, weights = random_problem(seed)
    scaled = Problem(problem.n, problem.k, c * problem.task, problem.feature_cov, c**2 * problem.noise_var)
    a, b = (exact_risk(replace(p, evaluation=evaluation), weights) for p in (problem, scaled))
    assert b.initial == pytest.approx(c**2 * a.initial, rel=1e-10)
    assert b.c1 == pytest.approx(c**4 * a.c1, rel=1e-10)
    assert b.c2 / c**3 == pytest.approx(c**3 * a.c2, rel=1e-10)


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_coefficients_are_never_negative(evaluation):
    for seed in range(30):
        assert (coefficients(*random_problem(seed), evaluation) >= 0).all()


def test_where_no_step_helps_rounding_leaves_no_negative_slope():
    assert all(exact_risk(Problem(n, 4, [1.0]), 1 / (n + 2)).c1 >= 0 for n in range(1, 40))


@pytest.mark.parametrize(
    "problem",
    [
        Problem(3, 4, [0.0, 0.0]),
        Problem(3, 4, [0.0, 0.0], noise_var=1.0),
        Problem(3, 4, [1.0, 2.0], feature_cov=0.0),
        Problem(3, 4, [0.0, 1.0], feature_cov=[[1.0, 0.0], [0.0, 0.0]]),
        Problem(1, 1, [1.0]),
    ],
)
@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_degenerate_problems_are_finite(problem, evaluation):
    for weights in (0.0, 0.1):
        curve = exact_risk(replace(problem, evaluation=evaluation), weights)
        assert np.isfinite([curve.c0, curve.c1, curve.c2, curve.optimal_lr, curve.optimal]).all()
        if not np.any(problem.feature_cov @ problem.task if np.ndim(problem.feature_cov) else problem.task):
            assert weights or curve.optimal_lr == 0


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_gradients_match_differences_also_in_n_and_k(evaluation):
    with jax.enable_x64(True):
        problem, weights = random_problem(3)
        arguments = [problem.task, problem.feature_cov, problem.noise_var, weights, 4.5, 6.25]
        arguments = [np.asarray(a, np.float64) for a in arguments]

        @jax.jit
        def risk(*a):
            c0, c1, c2 = risk_coefficients(*a, evaluation=evaluation)
            return c0 - 0.01 * c1 + 1e-4 * c2

        directions = [np.asarray(np.random.default_rng(i).normal(size=a.shape)) for i, a in enumerate(arguments)]
        _, derivative = jax.jit(lambda *a: jax.jvp(risk, a, tuple(directions)))(*arguments)
        h = 1e-5
        up, down = (risk(*(a + s * h * v for a, v in zip(arguments, directions, strict=True))) for s in (1, -1))
        assert float(derivative) == pytest.approx(float(up - down) / (2 * h), rel=1e-6)


def test_vmap_over_problems():
    problems = [Problem(n, k, np.ones(3)) for n, k in itertools.product((2, 5), (3, 4))]
    n, k = (np.array([float(getattr(p, f)) for p in problems], np.float32) for f in "nk")
    one = lambda n, k: risk_coefficients(jnp.ones(3), jnp.ones(()), 0.0, jnp.full((), 0.1), n, k)  # noqa: E731
    batched = jax.jit(jax.vmap(one))(n, k)
    for i, problem in enumerate(problems):
        np.testing.assert_allclose([c[i] for c in batched], coefficients(problem, 0.1), rtol=1e-5)


def test_global_precision_is_untouched():
    exact_risk(Problem(3, 4, np.ones(3)), 0.1)
    assert jnp.ones(1).dtype == jnp.float32


def test_bad_arguments_are_named():
    problem = Problem(3, 4, np.ones(3))
    with pytest.raises(ValueError, match="evaluation must be one of fresh, same, got 'stale'"):
        replace(problem, evaluation="stale")
    with pytest.raises(ValueError, match=r"procedure must be a step size or a procedure such as .* got None"):
        exact_risk(problem, 0.1, None)
    with pytest.raises(ValueError, match=r"procedure must be a step size .* or 'optimal', got 'same'"):
        exact_risk(problem, 0.1, "same")
    with pytest.raises(ValueError, match=r"start must be a scalar or have shape \(3,\) or \(3, 3\)"):
        exact_risk(problem, np.ones((3, 2)))
    with pytest.raises(ValueError, match="start must hold finite"):
        exact_risk(problem, np.nan)


def test_labels_of_noise_alone():
    """b = 0 from W = 0: u | t ~ N(0, t s2 Sx) and v, given r = 0, has the second moment k s2 Sx."""
    n, k, s2, sx = 5, 7, 0.3, np.array([0.5, 1.0, 2.0])
    one, two = sx.sum(), (sx**2).sum()
    fresh = 4 * k * s2 * two * (n * s2) ** 2 * two
    same = 4 * k * s2 * two * n * (n + 2) * s2**2 * (one**2 + 2 * two)
    for evaluation, curvature in (("fresh", fresh), ("same", same)):
        found = coefficients(Problem(n, k, np.zeros(3), sx, s2), 0.0, evaluation)
        np.testing.assert_allclose(found, [s2, 0.0, curvature], rtol=1e-12)
