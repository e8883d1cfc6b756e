"""Sparse tasks and labels with a link, through theory, simulation, pretraining and the verbs."""

import math
from dataclasses import replace
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ttt_jax as ttt
from tests.simulation.draws import draws
from ttt_jax import GaussianTasks, GradientStep, Inference, NotApplicable, Problem, SingleIndex, SparseTasks
from ttt_jax.problem import mean_square, second_moment
from ttt_jax.simulation.prompt_risks import prompt_risks
from ttt_jax.simulation.scaled import safe_units
from ttt_jax.simulation.yardsticks import estimate_posterior_mean
from ttt_jax.theory import decisions, paper
from ttt_jax.theory.finite_pretraining import finite_pretraining_risk
from ttt_jax.theory.folds import folds_curve
from ttt_jax.theory.schedules import one_batch
from ttt_jax.theory.several_steps import best_step_sizes, best_steps_risk, new_context_risk, one_batch_risk
from ttt_jax.theory.task_average import draw_tasks
from ttt_jax.theory.yardsticks import least_squares_risk, ridge_penalty, ridge_risk
from ttt_jax.training.prompts import sample_task

pytestmark = pytest.mark.usefixtures("quick_compilation")
SPARSE = SparseTasks(4, nonzero=2, variance=0.5)
SIGN = Problem(6, 8, SingleIndex([0.6, 0.8, 0.0, 0.0], "sign"), noise_var=0.1)
SX = np.array([0.5, 1.0, 1.5, 0.7])


def sampled(num):
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(jax.vmap(lambda key: sample_task(key, jnp.zeros(4), jnp.sqrt(0.5), 2))(keys), np.float64)


@pytest.mark.parametrize("tasks", [sampled(20_000), draw_tasks(SPARSE, 20_000, 0)], ids=["simulation", "theory"])
def test_sparse_tasks_have_their_support_and_their_moments(tasks):
    assert ((tasks != 0).sum(axis=1) == 2).all()
    products = tasks[:, :, None] * tasks[:, None]
    mean, cov = second_moment(SPARSE)
    expected = np.outer(mean, mean) + cov * np.eye(4)
    stderr = np.maximum(products.std(axis=0) / 20_000**0.5, 1e-12)
    assert np.abs((products.mean(axis=0) - expected) / stderr).max() < 4.5
    supports = [np.mean((tasks[:, [i, j]] != 0).all(axis=1)) for i, j in combinations(range(4), 2)]
    assert np.abs(np.array(supports) - 1 / 6).max() < 4.5 * math.sqrt(5 / 36 / 20_000)
    squares = (tasks**2).sum(axis=1)
    assert abs(squares.mean() - mean_square(Problem(3, 3, SPARSE))) < 4 * squares.std() / 20_000**0.5


@pytest.mark.parametrize(
    ("feature_cov", "evaluation"), [(1.0, "fresh"), (1.0, "same"), (SX, "fresh"), (SX, Inference(n=9, feature_cov=2.0))]
)
def test_the_exact_risk_of_sparse_tasks_is_an_average_over_supports(feature_cov, evaluation):
    problem, weights = Problem(6, 8, SPARSE, feature_cov, 0.2, evaluation=evaluation), np.diag([0.1, 0.05, 0.02, 0.0])
    weights = weights if np.ndim(feature_cov) else 0.06
    found = ttt.exact_risk(problem, weights)
    gaussian = []
    for support in combinations(range(4), 2):
        task = GaussianTasks(cov=0.5 * np.isin(np.arange(4), support))
        gaussian.append(ttt.exact_risk(replace(problem, task=task), weights))
    for name in ("c0", "c1", "c2"):
        expected = np.mean([getattr(curve, name) for curve in gaussian])
        assert getattr(found, name) == pytest.approx(expected, rel=1e-11)
    few = ttt.exact_risk(problem, weights, num_tasks=50)  # too few for every support
    assert few.c0 == pytest.approx(found.c0, rel=1e-11)
    assert abs(few.c1 - found.c1) <= 4 * np.sqrt(few.covariance[1, 1]) + 1e-11 * found.c1


def test_full_support_is_gaussian_tasks():
    sparse, gaussian = (Problem(6, 8, task, SX) for task in (SparseTasks(4, 4, 0.5), GaussianTasks(cov=0.5, d=4)))
    assert ttt.exact_risk(sparse, 0.05).optimal == pytest.approx(ttt.exact_risk(gaussian, 0.05).optimal, rel=1e-12)


@pytest.mark.parametrize("feature_cov", [1.0, SX])
@pytest.mark.parametrize("sampler", ["data", "law"])
def test_sparse_tasks_are_simulated_on_both_paths(sampler, feature_cov):
    problem = Problem(12, 16, SPARSE, feature_cov, 0.2)
    compared = ttt.compare(problem, 1 / 20, num_tasks=8000, sampler=sampler, seed=3)
    assert abs(compared.z) < 4
    assert compared.estimate.stderr_reliable is None
    assert compared.asymptotic is not None


def test_sparse_tasks_where_another_law_is_known():
    isotropic = replace(SIGN, task=SPARSE)
    alike = [replace(isotropic, task=GaussianTasks(cov=[0.5, 0.5, 0.0, 0.0])), isotropic]
    for ask in (
        lambda problem: folds_curve(problem, 0.05, 2).optimal,
        lambda problem: ridge_risk(problem, 0.3),
        lambda problem: decisions.warm_or_cold(problem).warm,
        lambda problem: ttt.asymptotic_risk(problem, 0.05).optimal,
    ):
        gaussian, sparse = map(ask, alike)
        assert sparse == pytest.approx(gaussian, rel=1e-10)
    for ask in (lambda p: one_batch(p, 0.0, 2), lambda p: best_steps_risk(p, 0.0, 2)):
        with pytest.raises(NotApplicable, match=r"^task must be one vector"):
            ask(isotropic)
    risk, stderr = estimate_posterior_mean(isotropic, 0.25, num_draws=400)
    assert abs(risk - ridge_risk(isotropic, 0.1 / 0.25)) < 4 * stderr < 0.1 * risk
    law = ttt.risk_law(isotropic, 0.05, 1e-3, num_tasks=500)
    assert law.mean() == ttt.exact_risk(isotropic, 0.05).at(1e-3)
    assert abs(law.sample(4000).mean() - law.mean()) < 4 * law.sample(4000).std() / 4000**0.5


def test_a_link_that_does_nothing_leaves_the_exact_risk():
    problem = Problem(12, 16, SingleIndex(SPARSE, lambda index: index), SX, 0.2)
    curve = ttt.exact_risk(replace(problem, task=SPARSE), 1 / 20)
    estimate = ttt.estimate_risk(problem, 1 / 20, curve.optimal_lr, num_tasks=8000)
    assert abs(estimate.mean - curve.optimal) < 4 * estimate.stderr


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_risk_of_signs_before_a_step(scale):
    """E[x sign(x'b)] = sqrt(2/pi) b/|b|, and the square of a label is 1 + s2; the length of b does not matter."""
    n, d, s2, w = 10, 5, 0.3, 0.05
    problem = Problem(n, 4, SingleIndex(GaussianTasks(cov=scale, d=d), "sign"), noise_var=s2)
    c2 = 2 / math.pi
    expected = 1 - 2 * w * n * c2 + w**2 * (n * d * (1 + s2) + n * (n - 1) * c2) + s2
    estimate = ttt.estimate_risk(problem, w, 0.0, num_tasks=4000)
    assert abs(estimate.mean - expected) < 4 * estimate.stderr < 0.1
    assert estimate.stderr_reliable is None


@pytest.mark.parametrize("link", ["relu", "square", np.cos])
def test_a_step_on_labels_with_a_link_agrees_with_a_numpy_loop(link):
    n, k, d, lr, s2, task = 5, 4, 3, 2e-3, 0.1, np.array([0.9, -0.4, 0.2])
    function = {"relu": lambda z: z * (z > 0), "square": np.square, np.cos: np.cos}[link]
    given = jnp.cos if link is np.cos else link
    problem = Problem(n, k, SingleIndex(task, given), SX[:3], s2, evaluation="same")
    rng, risks, weights = np.random.default_rng(0), [], 0.1 * np.eye(3)

    def pairs(rows, noise):
        x = rng.normal(size=(rows, d)) * np.sqrt(SX[:3])
        return x, function(x @ task) + noise * rng.normal(size=rows)

    for _ in range(4000):
        (x, y), (xt, yt), (xq, yq) = pairs(n, s2**0.5), pairs(k, s2**0.5), pairs(64, 0.0)
        u = x.T @ y
        after = weights + 2 * lr * np.outer(xt.T @ (yt - xt @ weights @ u), u)
        risks.append(np.mean((yq - xq @ after @ u) ** 2) + s2)
    estimate = ttt.estimate_risk(problem, 0.1, lr, num_tasks=4000)
    assert abs(estimate.mean - np.mean(risks)) < 4 * np.hypot(estimate.stderr, np.std(risks) / 4000**0.5)


def test_weights_and_their_model_are_the_same_start_for_a_link():
    start = ttt.functional(ttt.LinearAttention(0.05 * jnp.eye(4)))
    procedures = (GradientStep(1e-3), ttt.Folds(2, 1e-3), ttt.GradientSteps([1e-3, 1e-3]))
    by_weights, by_model = (draws(SIGN, begin, procedures, num_tasks=3, num_queries=2) for begin in (0.05, start))
    np.testing.assert_allclose(by_weights, by_model, rtol=1e-5)


@pytest.mark.parametrize("features", ["rademacher", "student_t"])
def test_a_link_takes_any_features_and_any_model(features):
    problem = replace(SIGN, feature_law=features, dof=30.0 if features == "student_t" else None)
    start = ttt.functional(ttt.make_model("softmax", d=4))
    for begin in (start, 0.02):
        procedures = (0.0, ttt.Folds(2, 1e-5), ttt.GradientSteps([1e-5, 1e-5]))
        before, folds, steps = ttt.estimate_risk(problem, begin, procedures, num_tasks=200).estimates
        assert steps.mean[0] == pytest.approx(before.mean, rel=1e-5)
        assert 1.5 > steps.mean[0] > steps.mean[1] > steps.mean[2] > 0.5
        assert 0.5 < folds.mean < 1.5


REFUSALS = {
    "exact_risk": lambda p: ttt.exact_risk(p, 0.0),
    "exact_risk of steps": lambda p: ttt.exact_risk(p, 0.0, ttt.GradientSteps([0.1])),
    "asymptotic_risk": lambda p: ttt.asymptotic_risk(p, 0.0),
    "risk_law": lambda p: ttt.risk_law(p, 0.0, 0.1),
    "prompt_risks": lambda p: prompt_risks(p, 0.0, GradientStep(0.1), num_tasks=5),
    "estimate_curve": lambda p: ttt.estimate_curve(p, 0.0, ttt.Folds(2), num_tasks=5),
    "estimate_posterior_mean": lambda p: estimate_posterior_mean(p, 1.0),
    "safe_units": safe_units,
    "folds_curve": lambda p: folds_curve(p, 0.0, 2),
    "one_batch": lambda p: one_batch(p, 0.0, 2),
    "one_batch_risk": lambda p: one_batch_risk(p, 0.0, [0.1]),
    "best_steps_risk": lambda p: best_steps_risk(p, 0.0, 2),
    "best_step_sizes": lambda p: best_step_sizes(p, 2),
    "new_context_risk": lambda p: new_context_risk(p, 0.0, [0.1]),
    "finite_pretraining_risk": lambda p: finite_pretraining_risk(p, 5),
    "warm_or_cold": decisions.warm_or_cold,
    "best_split": decisions.best_split,
    "best_context": lambda p: decisions.best_context(p, max_n=3),
    "best_scale": decisions.best_scale,
    "sample_complexity": lambda p: decisions.sample_complexity(p, 0.5, max_n=3),
    "least_squares_risk": least_squares_risk,
    "ridge_penalty": ridge_penalty,
    "ridge_risk": lambda p: ridge_risk(p, 0.1),
    "lemma_b2": lambda p: paper.lemma_b2(p, 0.0),
    "check": lambda p: ttt.check(lambda n: n, [p], start="zero", procedure=0.1, quantity="variance", num_tasks=5),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_for_linear_labels_says_so(name):
    with pytest.raises(NotApplicable, match=r"needs linear labels, got SingleIndex with the link 'sign'$"):
        REFUSALS[name](SIGN)


@pytest.mark.parametrize("formula", [paper.misalignment, paper.theorem_5_3, paper.theorem_c4, decisions.alignment])
def test_the_paper_s_formulas_are_for_one_vector(formula):
    for task in (SIGN.task, SPARSE):
        with pytest.raises(ValueError, match=f"^task must be one vector for .*, got {type(task).__name__}$"):
            formula(replace(SIGN, task=task, noise_var=0.0), 0.0)


def test_the_verbs_say_why_there_is_no_theory():
    compared = ttt.compare(SIGN, 0.02, 1e-3, num_tasks=50)
    assert (compared.exact, compared.asymptotic, compared.row()["z"]) == (None, None, None)
    assert "exact_risk needs linear labels" in compared.row()["note"]
    assert "not assessed" in compared.row()["note"]
    with pytest.raises(ValueError, match="lr must be a number, got 'optimal': exact_risk needs linear labels"):
        ttt.compare(SIGN, 0.02)
    for yardstick in ttt.yardsticks(SIGN, ttt.Pretraining(6, d=4)):
        assert "not applicable" in str(yardstick)
    judged = ttt.check(lambda n, k, d: 1.1, [SIGN], start="zero", procedure=1e-3, quantity="initial", num_tasks=100)
    assert judged.rows[0].estimate == pytest.approx(1.1)  # signs, and the noise


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: SparseTasks(4, 5), "nonzero must be at most d = 4, got 5"),
        (lambda: SparseTasks(4, 0), "nonzero must be an integer >= 1, got 0"),
        (lambda: SparseTasks(4, 1, -1.0), "variance must be a finite number >= 0, got -1.0"),
        (lambda: SingleIndex([1.0], "logit"), "link must be one of sign, relu, tanh, square, got 'logit'"),
        (lambda: SingleIndex([1.0], np.sign), "link must not raise, got TracerArrayConversionError"),
        (lambda: SingleIndex([1.0], jnp.sum), r"link must act entry by entry, got shape \(\) from \(3,\)"),
        (lambda: SingleIndex([[1.0]], "sign"), r"task must be a vector of shape \(d,\)"),
        (
            lambda: SingleIndex(SIGN.task, "sign"),
            "task must be a vector, GaussianTasks or SparseTasks, got SingleIndex",
        ),
        (lambda: Problem(3, 3, SIGN.task, feature_cov=[1.0, 2.0]), "feature_cov must be for 4 features"),
        (lambda: ttt.estimate_risk(SIGN, 0.0, 0.1, sampler="law"), "sampler must be 'data' for labels with a link"),
        (lambda: ttt.estimate_risk(SIGN, np.ones(3), 0.1), "start must be a scalar or have shape"),
        (
            lambda: ttt.estimate_risk(SIGN, 0.0, GradientStep(0.1, right=2.0)),
            "left and right must be None for a model that is not linear attention, and for links",
        ),
        (
            lambda: ttt.estimate_risk(replace(SIGN, evaluation=Inference(n=9, rescale=True)), 0.0, 0.1),
            r"rescale must be False for \(model, params\), and for links",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(ask, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        ask()
