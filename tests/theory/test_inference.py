"""A law at inference apart from that of training, and the factors L and R: by quadrature over every row, and limits."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ttt_jax import GaussianTasks, GradientStep, Inference, NotApplicable, Problem, asymptotic_risk, exact_risk
from ttt_jax._internal import linalg

SX = np.array([[1.0, 0.3], [0.3, 0.6]])
SE = np.array([[0.5, -0.2], [-0.2, 1.3]])
SQ = np.array([[2.0, 0.5], [0.5, 0.4]])
W = np.array([[0.10, 0.05], [-0.04, 0.15]])
L = np.array([[1.0, 0.4], [-0.2, 0.7]])
R = np.array([[0.8, -0.3], [0.5, 1.1]])
TASK = np.array([0.7, -0.4])
OWN = Inference(n=2, feature_cov=SE, noise_var=0.5, query_feature_cov=SQ, query_noise_var=0.15)


def summaries(points, rows, feature_cov, noise_var, predictor):
    """u = X'(X b + xi) at the nodes of a product Gauss-Hermite rule over all rows and labels, and their weights."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    grid = np.array(list(itertools.product(nodes, repeat=3 * rows))).reshape(-1, rows, 3)
    probability = np.array(list(itertools.product(weights / weights.sum(), repeat=3 * rows))).prod(axis=1)
    x = grid[:, :, :2] @ linalg.sqrt(feature_cov)
    y = x @ predictor + np.sqrt(noise_var) * grid[:, :, 2]
    return np.einsum("gnd,gn->gd", x, y), probability


def quadrature_risk(problem, weights, lr, left=1.0, right=1.0):
    """The risk of one step for n = 1, d = 2: a polynomial in the rows, of degree 12, 4 and 4 in those of each kind."""
    left, right = (linalg.dense(a, 2) for a in (left, right))
    law, sx, s2 = problem.inference, problem.feature_cov, problem.noise_var
    contexts, probability = summaries(7, 1, sx, s2, problem.task)
    scale = problem.n / law.n if law.rescale else 1.0
    if law.context == "fresh":
        fresh, fresh_probability = summaries(3, law.n, law.feature_cov, law.noise_var, problem.task)
        mean, second = scale * fresh_probability @ fresh, scale**2 * (fresh.T * fresh_probability) @ fresh
    total = 0.0
    for u, weight in zip(contexts, probability, strict=True):
        v, v_probability = summaries(3, problem.k, sx, s2, problem.task - weights @ u)
        trained = weights + 2 * lr * np.einsum("vi,j->vij", v @ left.T, u @ right)
        if law.context == "same":
            mean, second = u, np.outer(u, u)
        b, sq = problem.task, law.query_feature_cov
        linear = np.einsum("i,ij,vjk,k->v", b, sq, trained, mean)
        square = np.einsum("vji,jk,vkl,li->v", trained, sq, trained, second)
        total += weight * v_probability @ (b @ sq @ b - 2 * linear + square)
    return total + law.query_noise_var


@pytest.mark.parametrize(
    ("evaluation", "factors"),
    [
        (OWN, {}),
        (replace(OWN, rescale=True), {"left": L, "right": R}),
        (Inference("same", query_feature_cov=SQ, query_noise_var=0.15), {}),
        (Inference("same", query_feature_cov=SQ), {"left": L, "right": R}),
        ("fresh", {"left": [0.5, 2.0], "right": L.T @ L}),
        ("same", {"left": np.linalg.inv(SX), "right": np.linalg.inv(SX)}),
    ],
    ids=["own law", "own law, rescaled, factors", "same", "same, factors", "fresh, factors", "same, preconditioned"],
)
def test_against_quadrature_over_every_row(evaluation, factors):
    problem = Problem(1, 2, TASK, SX, 0.3, evaluation=evaluation)
    curve = exact_risk(problem, W, GradientStep(**factors))
    given = {name: np.asarray(factor) for name, factor in factors.items()}
    for lr in (0.0, 0.01, -0.03):
        assert curve.at(lr) == pytest.approx(quadrature_risk(problem, W, lr, **given), rel=1e-11)


def coefficients(problem, weights, risk=exact_risk, **factors):
    curve = risk(problem, weights, GradientStep(**factors))
    return np.array([curve.c0, curve.c1, curve.c2])


@pytest.mark.parametrize("risk", [exact_risk, asymptotic_risk])
@pytest.mark.parametrize("task", [TASK, GaussianTasks(TASK, 0.2)], ids=["one task", "random tasks"])
@pytest.mark.parametrize("context", ["fresh", "same"])
def test_the_training_law_given_in_full_is_the_short_form(risk, task, context):
    problem = Problem(5, 7, task, SX, 0.3, evaluation=context)
    rows = {"n": 5, "feature_cov": SX, "noise_var": 0.3} if context == "fresh" else {}
    law = Inference(context, **rows, query_feature_cov=SX, query_noise_var=0.3, rescale=True)
    long = coefficients(replace(problem, evaluation=law), W, risk, left=1.0, right=np.eye(2))
    np.testing.assert_allclose(long, coefficients(problem, W, risk), rtol=1e-12)


@pytest.mark.parametrize("risk", [exact_risk, asymptotic_risk])
def test_diagonal_and_dense_forms_agree(risk):
    forms = []
    for form in (np.array, np.diag):
        laws = dict(zip(("feature_cov", "query_feature_cov"), map(form, ([0.5, 1.5], [2.0, 0.1])), strict=True))
        factors = {"left": form([1.0, 0.3]), "right": form([0.7, 2.0])}
        for context, given in (("fresh", {"n": 9, **laws}), ("same", {"query_feature_cov": laws["query_feature_cov"]})):
            problem = Problem(5, 7, TASK, form([1.0, 0.6]), 0.3, evaluation=Inference(context, **given))
            forms.append(coefficients(problem, form([0.1, 0.05]), risk, **factors))
    np.testing.assert_allclose(forms[:2], forms[2:], rtol=1e-12)


@pytest.mark.parametrize("context", ["fresh", "same"])
def test_a_preconditioned_step_is_a_plain_step_on_whitened_features(context):
    """With x = S^(1/2) z a step with L = R = S^-1 on W is a plain one on S^(1/2) W S^(1/2), for the task S^(1/2) b."""
    root, inverse = linalg.sqrt(SX), np.linalg.inv(SX)
    problem = Problem(5, 7, TASK, SX, 0.3, evaluation=context)
    white = Problem(5, 7, root @ TASK, noise_var=0.3, evaluation=context)
    preconditioned = coefficients(problem, W, left=inverse, right=inverse)
    np.testing.assert_allclose(preconditioned, coefficients(white, root @ W @ root), rtol=1e-11)


def test_longer_contexts_hurt_without_rescaling():
    """W*(20) at d = 40: the risk before TTT with 20, 40 and 80 pairs at inference, as it is and rescaled."""
    problem, weight = Problem(20, 40, np.ones(40) / 40**0.5), 1 / 61
    for rescale, expected in ((False, [0.672, 0.559, 0.979]), (True, [0.672, 0.562, 0.507])):
        laws = [Inference(n=n, rescale=rescale) for n in (20, 40, 80)]
        initial = [exact_risk(replace(problem, evaluation=law), weight).initial for law in laws]
        np.testing.assert_allclose(initial, expected, atol=6e-4)


def test_noise_of_the_query_is_a_part_of_the_risk_and_nothing_else():
    problem = Problem(5, 7, TASK, SX, 0.3)
    for context in ("fresh", "same"):
        quiet, loud = (
            coefficients(replace(problem, evaluation=Inference(context, query_noise_var=s2)), W) for s2 in (0.0, 2.0)
        )
        np.testing.assert_allclose(loud - quiet, [2.0, 0.0, 0.0], atol=1e-12)


SPECTRUM = [0.25, 0.5, 1.0, 2.25]
QUERIES = [2.0, 0.5, 1.0, 0.25]


@pytest.mark.parametrize(
    ("context", "own", "factors"),
    [
        ("fresh", {"n": 2.0, "feature_cov": QUERIES, "noise_var": 0.9, "query_feature_cov": SPECTRUM}, {}),
        ("fresh", {"n": 2.0, "query_noise_var": 0.0, "rescale": True}, {"left": QUERIES, "right": SPECTRUM}),
        ("same", {"query_feature_cov": QUERIES}, {"left": SPECTRUM, "right": QUERIES}),
    ],
    ids=["own law", "rescaled, factors", "same, factors"],
)
def test_the_error_of_the_leading_order_falls_like_one_over_d(context, own, factors):
    errors = []
    for d in (256, 1024):
        laws = {name: np.resize(value, d) if isinstance(value, list) else value for name, value in own.items()}
        if "n" in laws:
            laws["n"] = int(laws["n"] * d)
        step = GradientStep(**{name: np.resize(value, d) for name, value in factors.items()})
        law = Inference(context, **laws)
        problem = Problem(d // 2, 2 * d, np.ones(d) / np.sqrt(d), np.resize(SPECTRUM, d), 0.3, evaluation=law)
        exact, leading = (risk(problem, 1 / (1.5 * d), step) for risk in (exact_risk, asymptotic_risk))
        gains = [curve.initial - curve.optimal for curve in (exact, leading)]
        errors.append(
            [leading.initial / exact.initial - 1, gains[1] / gains[0] - 1, leading.optimal_lr / exact.optimal_lr - 1]
        )
    small, large = np.abs(errors)
    assert (large < small / 3).all()  # four times smaller, to leading order
    assert (large < 0.05).all()


def test_contexts_without_a_common_direction_have_no_leading_order():
    problem = Problem(5, 7, [1.0, 0.0], [1.0, 0.5], evaluation=Inference(feature_cov=[0.0, 1.0]))
    with pytest.raises(NotApplicable, match="needs contexts that share a direction, but p'R p_e = 0"):
        asymptotic_risk(problem, 0.1)
    assert exact_risk(problem, 0.1).c1 == 0
    factors = GradientStep(right=[0.0, 1.0])
    with pytest.raises(NotApplicable, match="share a direction"):
        asymptotic_risk(replace(problem, evaluation="fresh"), 0.1, factors)
