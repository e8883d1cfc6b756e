"""The exact risk of K folds: by quadrature over all the data, by simulation, and beside one step."""

from dataclasses import replace

import numpy as np
import pytest

from tests.theory.test_exact import gaussian_grid
from ttt_jax import Folds, GaussianTasks, Inference, NotApplicable, Problem, exact_risk
from ttt_jax.theory.folds import CONTEXTS, folds_curve

WEIGHTS = np.array([[0.03, 0.01], [-0.02, 0.04]])
PROBLEM = Problem(4, 8, [0.8, -0.5], [[1.5, 0.4], [0.4, 0.7]], 0.6)


def sampled_coefficients(x, y, problem, weights, folds, context, scale=1.0):
    """(c0, c1, c2) of every batch (p, N, d) and its labels (p, N), given the data; averages over a new context."""
    b, query = problem.task, problem.inference.query_feature_cov
    parts = [slice(i, i + x.shape[1] // folds) for i in range(0, x.shape[1], x.shape[1] // folds)]
    own = [np.einsum("pni,pn->pi", x[:, part], y[:, part]) for part in parts]
    whole = sum(own)
    u = [whole - one for one in own]
    v = []
    for part, summary in zip(parts, u, strict=True):
        error = y[:, part] - np.einsum("pni,pi->pn", x[:, part], summary @ weights.T)
        v.append(np.einsum("pni,pn->pi", x[:, part], error))
    if context == "new":
        law = problem.inference
        n, p = x.shape[1] - x.shape[1] // folds, law.feature_cov @ b
        n = law.n if isinstance(problem.evaluation, Inference) else n
        second = n * (n + 1) * np.outer(p, p) + n * (b @ p + law.noise_var) * law.feature_cov
        cross = n * np.outer(b, p) - weights @ second  # E r_e u_e'
        first = n * weights @ p
        c0 = b @ query @ (b - 2 * first) + np.trace(weights.T @ query @ weights @ second)
        c1 = sum(np.einsum("pi,ij,jk,pk->p", v_i, query, cross, u_i) for v_i, u_i in zip(v, u, strict=True))
        change = sum(np.einsum("pi,pj->pij", v_i, u_i) for v_i, u_i in zip(v, u, strict=True))
        c2 = np.einsum("pij,jk,plk,il->p", change, second, change, query)
        return np.stack([c0 + 0 * c1 + law.query_noise_var, 4 * c1, 4 * c2])
    u_e = scale * (u[0] if context == "first" else whole)
    change = sum(v_i * np.sum(u_i * u_e, axis=1)[:, None] for v_i, u_i in zip(v, u, strict=True))
    r = b - u_e @ weights.T
    quadratic = [np.einsum("pi,ij,pj->p", one, query, other) for one, other in ((r, r), (r, change), (change, change))]
    return np.stack([quadratic[0] + problem.inference.query_noise_var, 4 * quadratic[1], 4 * quadratic[2]])


def rows(problem, points):
    """Rows and labels from standard Gaussian entries (p, N, d + 1)."""
    x = points[..., :-1] @ np.linalg.cholesky(problem.feature_cov).T
    return x, x @ problem.task + np.sqrt(problem.noise_var) * points[..., -1]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("folds", [2, 3])
def test_tiny_problems_by_quadrature_over_all_the_data(folds, context):
    """N = K pairs of one feature, with noise (K = 2) and without (K = 3): every entry on Gauss and Hermite's grid."""
    noise_var = 0.4 if folds == 2 else 0.0
    problem = Problem(1, folds - 1, [1.3], [[0.7]], noise_var)
    points, chance = gaussian_grid(folds * (2 if noise_var else 1), 9)
    points = points.reshape(len(points), folds, -1)
    x, y = rows(problem, points if noise_var else np.append(points, 0 * points, axis=2))
    expected = sampled_coefficients(x, y, problem, np.array([[0.2]]), folds, context) @ chance
    curve = folds_curve(problem, [[0.2]], folds, context=context)
    np.testing.assert_allclose([curve.c0, curve.c1, curve.c2], expected, rtol=1e-11)


def test_all_pairs_as_the_context_are_rescaled_to_the_length_of_training():
    """N = 2 pairs of one feature, of which a context in training has one: a factor 1/2 on the summary of both."""
    problem = Problem(1, 1, [1.3], [[0.7]], 0.4, evaluation=Inference(query_noise_var=0.2, rescale=True))
    points, chance = gaussian_grid(4, 9)
    x, y = rows(problem, points.reshape(len(points), 2, -1))
    expected = sampled_coefficients(x, y, problem, np.array([[0.2]]), 2, "all", scale=0.5) @ chance
    curve = folds_curve(problem, [[0.2]], 2, context="all")
    np.testing.assert_allclose([curve.c0, curve.c1, curve.c2], expected, rtol=1e-11)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("folds", [2, 3, 6])
def test_dense_problems_by_their_rows(folds, context):
    """A dense Sx, a W that is not symmetric, noise, N = 12, from sampled rows; a new context by its exact means."""
    rng = np.random.default_rng(folds)
    x, y = rows(PROBLEM, rng.normal(size=(60_000, 12, 3)))
    found = sampled_coefficients(x, y, PROBLEM, WEIGHTS, folds, context)
    curve = folds_curve(PROBLEM, WEIGHTS, folds, context=context)
    expected, stderr = np.array([curve.c0, curve.c1, curve.c2]), found.std(axis=1) / np.sqrt(60_000)
    known = int(context == "new")  # c0 is then no average
    assert found[:known, 0] == pytest.approx(expected[:known], rel=1e-12)
    z = (found.mean(axis=1) - expected)[known:] / stderr[known:]
    assert np.abs(z).max() < 4, z
    assert stderr[2] < 0.05 * curve.c2


def test_slope_and_start_are_those_of_one_step():
    one, curve = exact_risk(replace(PROBLEM, n=9, k=3), WEIGHTS), exact_risk(PROBLEM, WEIGHTS, Folds(4))
    assert (curve.c0, curve.c1) == pytest.approx((one.c0, 4 * one.c1), rel=1e-13)
    same = replace(PROBLEM, evaluation="same")
    assert exact_risk(same, WEIGHTS, Folds(4)).c0 == pytest.approx(
        exact_risk(replace(same, n=9), WEIGHTS).c0, rel=1e-13
    )


def test_from_zero_the_curvature_is_a_closed_form():
    """E[(v1'Sx v2)(u2'C u1)] = tr(Sx C_m C C_m) + 2 m M p'Sx C_m C p + m^2 (p'Sx p) tr(C C_M), M = (K-2) m."""
    sx, b, s2 = PROBLEM.feature_cov, PROBLEM.task, PROBLEM.noise_var
    p, tau = sx @ b, b @ sx @ b + s2
    for folds in (2, 3, 12):
        m, big = 12 // folds, (folds - 2) * 12 // folds
        c, c_m, c_big = (j * (j + 1) * np.outer(p, p) + j * tau * sx for j in (12 - m, m, big))
        cross = (
            np.trace(sx @ c_m @ c @ c_m)
            + 2 * m * big * p @ sx @ c_m @ c @ p
            + m**2 * (p @ sx @ p) * np.trace(c @ c_big)
        )
        one = exact_risk(replace(PROBLEM, n=12 - m, k=m), 0.0)
        expected = folds * one.c2 + 4 * folds * (folds - 1) * cross
        assert exact_risk(PROBLEM, 0.0, Folds(folds)).c2 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("context", CONTEXTS)
def test_diagonal_and_dense_forms_agree(context):
    diagonal = Problem(4, 8, [0.8, -0.5], [1.5, 0.7], 0.6)
    dense = replace(diagonal, feature_cov=np.diag([1.5, 0.7]) + 1e-13 * (np.ones((2, 2)) - np.eye(2)))
    curves = [folds_curve(problem, [0.03, 0.05], 3, context=context) for problem in (diagonal, dense)]
    assert (curves[0].c1, curves[0].c2) == pytest.approx((curves[1].c1, curves[1].c2), rel=1e-10)


@pytest.mark.parametrize("context", CONTEXTS)
def test_random_tasks_are_averaged_exactly(context):
    """By Hermite nodes for dense matrices; through |b|^2 where all are multiples of the identity."""
    mean, root = np.array([0.8, -0.5]), np.array([[0.5, 0.0], [0.3, 0.4]])
    points, chance = gaussian_grid(2, 5)
    for features, weights in ((PROBLEM.feature_cov, WEIGHTS), (1.0, 0.04)):
        problem = replace(PROBLEM, feature_cov=features, task=GaussianTasks(mean, root @ root.T))
        curve = folds_curve(problem, weights, 3, context=context)
        fixed = [folds_curve(replace(problem, task=mean + root @ z), weights, 3, context=context) for z in points]
        expected = [chance @ [getattr(c, name) for c in fixed] for name in ("c0", "c1", "c2")]
        assert [curve.c0, curve.c1, curve.c2] == pytest.approx(expected, rel=1e-11)


def test_what_it_does_not_know_is_refused():
    for changes, message in (
        ({"task": GaussianTasks(d=2)}, r"needs num_tasks >= 4\^rank\(task covariance\), got 5"),
        ({"feature_law": "rademacher"}, "the exact risk of K folds needs Gaussian features"),
    ):
        with pytest.raises(NotApplicable, match=message):
            exact_risk(replace(PROBLEM, **changes), 0.0, Folds(3), num_tasks=5)
    with pytest.raises(ValueError, match="context must be one of new, first, all, got 'old'"):
        folds_curve(PROBLEM, 0.0, 3, context="old")
    with pytest.raises(ValueError, match=r"folds must divide n \+ k = 12, got 5"):
        folds_curve(PROBLEM, 0.0, 5)
