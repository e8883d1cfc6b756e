"""Any model on whole prompts: linear attention task by task against the streamed path, softmax against a NumPy loop."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.simulation.draws import draws
from ttt_jax import (
    Folds,
    GaussianTasks,
    GradientStep,
    GradientSteps,
    Inference,
    LinearAttention,
    NotApplicable,
    Optimizer,
    Problem,
    compare,
    estimate_risk,
    exact_risk,
    functional,
    ttt_loss,
)
from ttt_jax.procedures import PROCEDURES, Procedure, make_procedure
from ttt_jax.simulation import samplers
from ttt_jax.simulation.blocks import ROW_BLOCK
from ttt_jax.simulation.gradient_step import risk_after
from ttt_jax.simulation.prompts import prompt_sampler
from ttt_jax.simulation.samplers import Sampler
from ttt_jax.training.models import SoftmaxAttention

pytestmark = pytest.mark.usefixtures("quick_compilation")
SX = np.array([[1.0, 0.3, 0.0], [0.3, 0.7, 0.1], [0.0, 0.1, 1.5]])
W = np.array([[0.05, 0.01, 0.0], [-0.02, 0.04, 0.03], [0.01, 0.0, 0.06]])
TASKS = GaussianTasks([0.6, -0.4, 0.5], 0.1)
FIRST = np.array([1.0, 0.0, 0.0])
"""Variances of a query of signs along one axis: its squared error is the same for every draw, as if integrated out."""


@pytest.mark.parametrize(
    ("evaluation", "procedures"),
    [
        (
            Inference("same", query_feature_cov=FIRST),
            (
                GradientStep(1e-3),
                Folds(2, 5e-4),
                GradientSteps([1e-3, 5e-4, 2e-3]),
                Optimizer(optax.sgd(4e-3, momentum=0.9), 5, held_out=9),
            ),
        ),
        (Inference(query_feature_cov=FIRST), (GradientStep(1e-3), Folds(2, 5e-4))),
        (
            Inference(n=13, feature_cov=SX @ SX, noise_var=0.7, query_feature_cov=4 * FIRST, query_noise_var=0.3),
            (
                Folds(2, 5e-4),
                Optimizer(optax.adam(0.01), 4),
                GradientSteps([1e-3, 5e-4, 2e-3], new_context=True),
                Optimizer(optax.adamw(0.01), 3, new_context=True, held_out=3),
            ),
        ),
    ],
    ids=["same", "fresh", "law at inference"],
)
def test_linear_attention_is_that_of_the_streamed_path_task_by_task(evaluation, procedures):
    problem = Problem(7, 9, TASKS, SX, 0.2, "rademacher", evaluation=evaluation)
    with jax.enable_x64(True):
        start = functional(LinearAttention(jnp.asarray(W)))
    options = {"num_tasks": 6, "x64": True}
    streamed = draws(problem, W, procedures, **options)
    whole = draws(problem, start, procedures, num_queries=2, **options)
    assert np.ptp(streamed, axis=0).all()
    np.testing.assert_allclose(whole, streamed, rtol=1e-9)


def test_a_risk_measured_on_queries_is_that_with_the_query_integrated_out():
    """Gaussian features, the same tasks: the difference is the noise of the queries alone."""
    problem = Problem(20, 30, TASKS, SX, 0.2)
    start = functional(LinearAttention(jnp.asarray(W, jnp.float32)))
    options = {"num_tasks": 2000, "seed": 4}
    streamed, few, many = (
        draws(problem, begin, (GradientStep(1e-6),), **options, **more)[:, 0]
        for begin, more in ((W, {}), (start, {"num_queries": 4}), (start, {"num_queries": 64}))
    )
    for measured in (few, many):
        difference = measured - streamed
        assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(2000)
    assert (many - streamed).std() < 0.5 * (few - streamed).std()


def softmax_loop(n, k, d, weights, lr, noise_var, num_tasks, num_queries=64):
    """The mean risk after one step and its standard error, written out in NumPy with the gradient by hand."""
    rng = np.random.default_rng(1)
    risks = np.empty(num_tasks)
    task = np.ones(d) / np.sqrt(d)

    def attend(w, x, context_x, context_y):
        scores = x @ w @ context_x.T
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return shares, shares @ context_y

    def pairs(rows):
        x = rng.normal(size=(rows, d))
        return x, x @ task + np.sqrt(noise_var) * rng.normal(size=rows)

    for i in range(num_tasks):
        (context_x, context_y), (x, y), (new_x, new_y) = pairs(n), pairs(k), pairs(n)
        shares, predicted = attend(weights, x, context_x, context_y)
        pull = (y - predicted)[:, None] * shares * (context_y - predicted[:, None])
        query = rng.normal(size=(num_queries, d))
        _, after = attend(weights + 2 * lr * x.T @ pull @ context_x, query, new_x, new_y)
        risks[i] = np.mean((query @ task - after) ** 2) + noise_var
    return risks.mean(), risks.std(ddof=1) / np.sqrt(num_tasks)


@pytest.mark.parametrize(("n", "k", "d"), [(4, 3, 2), (10, 20, 3), (25, 8, 6)])
def test_softmax_attention_agrees_with_a_numpy_loop(n, k, d):
    weights = np.random.default_rng(0).normal(size=(d, d)) / d + np.eye(d)
    problem = Problem(n, k, np.ones(d) / np.sqrt(d), noise_var=0.1)
    start = functional(SoftmaxAttention(jnp.asarray(weights, jnp.float32)), "weights")
    joint = estimate_risk(problem, start, (0.0, 0.1 / k), num_tasks=4000)
    after, (gain, gain_stderr) = joint.estimates[1], joint.difference(0, 1)
    mean, stderr = softmax_loop(n, k, d, weights, 0.1 / k, 0.1, 4000)
    assert abs(after.mean - mean) < 4 * np.hypot(after.stderr, stderr)
    assert abs(gain) > 4 * gain_stderr  # the step matters
    assert after.stderr_reliable is None
    assert after.doubt == "not assessed"


def test_an_optimiser_alone_is_that_of_one_among_others():
    problem, start = Problem(4, 3, [0.6, 0.8]), functional(SoftmaxAttention(jnp.eye(2)))
    steps = Optimizer(optax.sgd(0.05), 2)
    alone, joint = (estimate_risk(problem, start, what, num_tasks=50) for what in (steps, (0.0, steps, steps)))
    for estimate in joint.estimates[1:]:
        np.testing.assert_allclose(estimate.mean, alone.mean, rtol=1e-5)
    assert alone.mean[0] == pytest.approx(joint.estimates[0].mean, rel=1e-5)


def test_a_model_has_no_theory_and_says_so():
    problem = Problem(4, 3, [0.6, 0.8])
    start = functional(SoftmaxAttention(jnp.eye(2)))
    compared = compare(problem, start, 1e-2, num_tasks=50)
    assert (compared.exact, compared.asymptotic, compared.z) == (None, None, None)
    assert "not for a model with parameters" in compared.reason
    assert compared.estimate.stderr_reliable is None
    assert "not assessed" in str(compared)
    with pytest.raises(ValueError, match=r"lr must be a number, got 'optimal': .* not for a model with parameters"):
        compare(problem, start)
    with pytest.raises(NotApplicable, match="exact_risk is known for linear attention from W"):
        exact_risk(problem, start, 1e-2)


@pytest.mark.parametrize(
    ("evaluation", "options", "message"),
    [
        ("fresh", {"sampler": "law"}, "sampler must be 'data' for a model, got 'law'"),
        ("fresh", {"num_queries": 0}, "num_queries must be an integer >= 1, got 0"),
        ("fresh", {"procedure": GradientStep(1e-3, left=2.0)}, "left and right must be None for a model"),
        (Inference(rescale=True), {}, "rescale must be False for"),
    ],
)
def test_what_a_model_cannot_do_is_refused(evaluation, options, message):
    problem = Problem(4, 4, [0.6, 0.8], evaluation=evaluation)
    start = functional(LinearAttention(jnp.eye(2)))
    with pytest.raises(ValueError, match=message):
        estimate_risk(**{"problem": problem, "start": start, "procedure": 1e-3} | options)


@dataclass(frozen=True, eq=False)
class SignStep(Procedure):
    """A procedure of one's own: W - lr sign(gradient)."""

    lr: Any


@samplers.rows.register
def _rows(procedure: SignStep, problem, units):
    return Sampler(sign_risk, units.m * procedure.lr, np.array([units.risk]), ROW_BLOCK, problem.d**2)


def sign_risk(key, scaled, weights, lr):
    return risk_after(key, scaled, weights, lambda gradient: lr * jnp.sign(gradient))


@samplers.prompts.register
def _prompts(procedure: SignStep, problem, model, num_queries):
    return prompt_sampler(procedure, problem, model, num_queries, SignTrain(model), procedure.lr, 1)


@dataclass(frozen=True)
class SignTrain:
    model: Any

    def __call__(self, params, lr, prompt_at):
        slope = jax.grad(ttt_loss, argnums=1)(self.model, params, prompt_at(0))
        return jax.tree.map(lambda p, g: (p - lr * jnp.sign(g))[None], params, slope)


def test_a_procedure_of_one_s_own_on_both_paths(monkeypatch):
    monkeypatch.setitem(PROCEDURES, "sign", SignStep)
    procedure = make_procedure("sign", lr=0.01)
    problem = Problem(7, 9, TASKS, 3 * SX, 0.2, "rademacher", evaluation=Inference(query_feature_cov=FIRST))
    with jax.enable_x64(True):
        start = functional(LinearAttention(jnp.asarray(W)))
    options = {"num_tasks": 6, "x64": True}
    whole = draws(problem, start, (procedure,), num_queries=1, **options)
    np.testing.assert_allclose(whole, draws(problem, W, (procedure,), **options), rtol=1e-9)
    gaussian = replace(problem, feature_law="gaussian")
    compared = compare(gaussian, W, procedure, num_tasks=200)
    assert compared.reason.startswith("no exact risk is known for SignStep; no leading order is known for SignStep")
    assert compared.estimate.stderr_reliable is None
    joint = estimate_risk(gaussian, W, (procedure, 0.0), num_tasks=200)
    assert joint.difference(0, 1)[0] != 0
    with pytest.raises(NotApplicable, match="sampler must be 'data' for SignStep, got 'law'"):
        estimate_risk(gaussian, W, procedure, sampler="law")


def of_ones_own(draw, *, train=None, arguments=1.0, units=(1.0,), num_rows=8):
    """A procedure with these samplers."""

    @dataclass(frozen=True, eq=False)
    class Own(Procedure):
        lr: Any = 0.1

    @samplers.rows.register
    def rows(procedure: Own, problem, units_of_problem):
        return Sampler(draw, arguments, np.array(units), num_rows)

    @samplers.prompts.register
    def prompts(procedure: Own, problem, model, num_queries):
        return prompt_sampler(procedure, problem, model, num_queries, train, arguments, 1)

    return Own


def right(key, scaled, start, arguments):
    return jnp.ones(1)


ANY_ROWS = r"draw must return an array of shape \(1,\), as many values as units, got"


@pytest.mark.parametrize(
    ("procedure", "message"),
    [
        (of_ones_own(lambda key, scaled, start, arguments: None)(), f"{ANY_ROWS} None"),
        (of_ones_own(lambda key, scaled, start, arguments: jnp.zeros(()))(), rf"{ANY_ROWS} shape \(\)"),
        ((of_ones_own(lambda *given: 1.0)(),) * 2, f"{ANY_ROWS} 1.0"),
        (
            of_ones_own(lambda key, scaled: None)(),
            r"draw must be a function of \(key, scaled, start, arguments\), got <lambda>\(key, scaled\)",
        ),
        (of_ones_own(None)(), r"draw must be a function of .*, got None"),
        (of_ones_own(right, units=1.0)(), r"units must be a vector, one for each value of draw, got array\(1.\)"),
        (of_ones_own(right, num_rows=0)(), "num_rows must be an integer >= 1, got 0"),
        (of_ones_own(right, arguments={"lr": np.nan})(), "arguments must be numbers, got {'lr': nan}"),
        (of_ones_own(right)(np.nan), "lr must be a finite number, got nan"),
        (of_ones_own(right)("best"), "lr must be a finite number or 'optimal', got 'best'"),
    ],
)
def test_a_sampler_that_is_wrong_says_how(procedure, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        estimate_risk(Problem(4, 4, [0.6, 0.8]), 0.0, procedure, num_tasks=8)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            lambda params: params,
            r"train must be a function of \(params, arguments, prompt_at\), got <lambda>\(params\)",
        ),
        (
            lambda params, arguments, prompt_at: params,
            r"train must return the parameters stacked, of shapes \[\(1, 2, 2\)\], got \[\(2, 2\)\]",
        ),
        (lambda params, arguments, prompt_at: None, r"train must return the parameters stacked, .* got \[\]"),
    ],
)
def test_a_training_that_is_wrong_says_how(train, message):
    start = functional(LinearAttention(jnp.eye(2)))
    with pytest.raises(ValueError, match=f"^{message}"):
        estimate_risk(Problem(4, 4, [0.6, 0.8]), start, of_ones_own(right, train=train)(), num_tasks=8)


@pytest.mark.parametrize(
    ("start", "procedure", "message"),
    [
        (
            functional(LinearAttention(jnp.eye(3))),
            0.1,
            "start must be a model for n = 4, k = 5, d = 2, got TypeError: dot",
        ),
        ((lambda w, prompt: prompt.query_x, jnp.eye(2)), 0.1, r"start must be a model of predictions of shape \(5,\)"),
        (
            (lambda w, prompt: w * prompt.query_y, jnp.ones(())),
            0.1,
            "start .* got ValueError: model must not read query_y",
        ),
        (
            (lambda w, prompt: prompt.query_x @ w, np.array([0, np.nan])),
            0.1,
            "start must have parameters that are numbers",
        ),
        ((1, 2, 3), 0.1, r"start must be W, or \(model, params\) .*, got \(1, 2, 3\)"),
        (0.0, [0.1, 0.2], r"procedure must be one procedure or a tuple of them, got the list \[0.1, 0.2\]"),
        ("pretrained", 0.1, r"start must be W, or \(model, params\) .*, got 'pretrained'"),
        (functional(LinearAttention(jnp.eye(2))), "optimal", "lr must be a number .* no theory finds it for a model"),
        (
            0.0,
            Optimizer(optax.sgd(np.nan), 2),
            "optimizer must have a learning rate that is a number, got an update of",
        ),
    ],
)
def test_a_start_or_a_procedure_that_is_wrong_says_how(start, procedure, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        estimate_risk(Problem(4, 5, [0.6, 0.8]), start, procedure, num_tasks=8)


def test_a_procedure_without_samplers_is_not_applicable():
    class Nothing(Procedure):
        pass

    problem = Problem(4, 4, [0.6, 0.8])
    with pytest.raises(NotApplicable, match="no sampler of rows is known for Nothing"):
        estimate_risk(problem, 0.0, Nothing())
    with pytest.raises(NotApplicable, match="no sampler of prompts is known for Nothing"):
        estimate_risk(problem, functional(LinearAttention(jnp.eye(2))), Nothing())
