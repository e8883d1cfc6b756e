"""Several simulated steps: against the step of the Flax model, the exact recursion, and each other."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import random_problem
from ttt_jax import (
    GradientSteps,
    Inference,
    LinearAttention,
    Optimizer,
    Problem,
    Prompt,
    estimate_risk,
    exact_risk,
    family_verdict,
    functional,
    ttt_loss,
    ttt_step,
    ttt_train,
)
from ttt_jax._internal import linalg
from ttt_jax.simulation.rows import ROW_BLOCK

pytestmark = pytest.mark.usefixtures("quick_compilation")
PROBLEM = Problem(20, 30, np.ones(12) / np.sqrt(12), noise_var=0.1)
WEIGHT = 1 / 35
LR = exact_risk(PROBLEM, WEIGHT).optimal_lr


@pytest.mark.parametrize("evaluation", ["fresh", "same", Inference(n=30, noise_var=0.4, rescale=True)])
def test_one_step_is_the_one_step_simulation(evaluation):
    problem = replace(PROBLEM, evaluation=evaluation)
    found = estimate_risk(problem, WEIGHT, GradientSteps([LR]), num_tasks=300, x64=True)
    single = estimate_risk(problem, WEIGHT, LR, num_tasks=300, x64=True)
    assert found.mean[1] == pytest.approx(single.mean, rel=1e-12)
    assert found.stderr[1] == pytest.approx(single.stderr, rel=1e-9)


def materialised(key, count, task, problem):
    """The rows that `data.sum_over_rows` draws from this key."""
    xs, ys = [], []
    for i in range(-(-count // ROW_BLOCK)):
        key_x, key_y = jax.random.split(jax.random.fold_in(key, i))
        x = linalg.apply(linalg.sqrt(problem.feature_cov), jax.random.normal(key_x, (ROW_BLOCK, len(task))))
        xs.append(x)
        ys.append(x @ task + np.sqrt(problem.noise_var) * jax.random.normal(key_y, (ROW_BLOCK,)))
    return jnp.concatenate(xs)[:count], jnp.concatenate(ys)[:count]


@pytest.mark.parametrize("new_context", [False, True])
def test_steps_are_steps_of_the_flax_model_under_adam_with_a_schedule(new_context):
    """One task, written out with whole arrays and `ttt_train`; correlated features, in units other than one."""
    problem, weights = random_problem(4)
    problem = Problem(problem.n, problem.k, 3 * problem.task, 2 * problem.feature_cov, problem.noise_var)
    optimizer = optax.adamw(optax.cosine_decay_schedule(0.02, 5), weight_decay=0.1)
    with jax.enable_x64(True):
        root = jax.random.key(0, impl="threefry2x32")
        (task_key,) = jax.random.split(jax.random.fold_in(root, 0), 1)
        _, key_context, key_train, key_fresh = jax.random.split(task_key, 4)
        task = jnp.asarray(problem.task)

        def prompt(i):
            keys = (jax.random.fold_in(key, i) if new_context else key for key in (key_context, key_train))
            (x, y), (qx, qy) = (
                materialised(k, rows, task, problem) for k, rows in zip(keys, (problem.n, problem.k), strict=True)
            )
            return Prompt(x, y, qx, qy)

        model, params = functional(LinearAttention(jnp.asarray(weights)))
        first = materialised(key_context, problem.n, task, problem)
        held_out = Prompt(*first, *materialised(jax.random.fold_in(key_fresh, 1), 11, task, problem))
        trained = ttt_train(model, params, prompt, optimizer, 5)
        stopped = ttt_train(model, params, prompt, optimizer, 5, held_out=held_out)
        x, y = materialised(key_fresh, problem.n, task, problem)

        def risk(params):
            error = task - params.weights[...] @ (y @ x)
            return float(error @ problem.feature_cov @ error + problem.noise_var)

        expected = risk(trained), risk(stopped)
    procedure = Optimizer(optimizer, 5, new_context=new_context, held_out=11)
    found = estimate_risk(problem, weights, procedure, num_tasks=1, block_size=1, x64=True)
    assert (found.mean[-1], found.stopped.risk) == pytest.approx(expected, rel=1e-9)


def test_new_contexts_agree_with_the_exact_recursion_and_one_batch_does_not():
    steps = LR * np.array([1.0, 0.8, 0.6])
    exact = exact_risk(PROBLEM, WEIGHT, GradientSteps(steps, new_context=True)).risks
    found = estimate_risk(PROBLEM, WEIGHT, GradientSteps(steps, new_context=True), num_tasks=4000)
    zs = (found.mean - exact)[1:] / found.stderr[1:]
    assert family_verdict(zs)[0], zs
    repeated = estimate_risk(PROBLEM, WEIGHT, GradientSteps(steps), num_tasks=4000)
    assert (repeated.mean - exact)[3] > 5 * repeated.stderr[3]


def test_early_stopping_saves_a_start_that_training_spoils():
    """From nearly optimal weights, large steps make things worse, and a held-out set notices."""
    task = np.eye(12)[0]
    problem = Problem(20, 12, task)
    weights = np.outer(task, task) / 22
    lr = 3 * exact_risk(problem, 0.0).optimal_lr
    found = estimate_risk(problem, weights, Optimizer(optax.sgd(lr), 4, held_out=40), num_tasks=500)
    assert found.stopped.risk < found.mean[1:].min()
    assert 0 <= found.stopped.step < 2
    assert 0 < found.stopped.stderr < found.stderr[1]
    without = estimate_risk(problem, weights, GradientSteps(np.full(4, lr)), num_tasks=500)
    np.testing.assert_allclose(without.mean, found.mean, rtol=1e-5)
    assert without.stopped is None


def test_a_stop_does_not_displace_what_stands_beside_it():
    """With held-out pairs an estimate has two more values; the covariance is of the risks after the last step."""
    lr = LR / 2
    optimizer = Optimizer(optax.sgd(lr), 2, held_out=8)
    joint = estimate_risk(PROBLEM, WEIGHT, (optimizer, GradientSteps([lr, lr]), lr, optimizer), num_tasks=200)
    stopped, steps, single, again = joint.estimates
    np.testing.assert_array_equal(stopped.mean, again.mean)
    assert joint.difference(0, 1) == pytest.approx((0.0, 0.0), abs=1e-5)  # of two float32 programs
    assert joint.difference(1, 2)[0] == pytest.approx(steps.mean[2] - single.mean)
    assert steps.mean[1] == pytest.approx(single.mean, rel=1e-5)
    assert (stopped.stopped is None, steps.stopped, single.stopped) == (False, None, None)
    last = [stopped.stderr[-1], steps.stderr[-1], single.stderr, again.stderr[-1]]
    np.testing.assert_allclose(np.sqrt(np.diag(joint.covariance)), last)


def test_train_with_sgd_is_repeated_steps():
    key = jax.random.key(0)
    x = jax.random.normal(key, (7, 3))
    prompt = Prompt(x[:3], x[:3, 0], x[3:], x[3:, 0])
    model, params = functional(LinearAttention(jnp.zeros((3, 3))))
    repeated = params
    for lr in (0.01, 0.02):
        repeated = ttt_step(model, repeated, prompt, lr)
    trained = ttt_train(model, params, prompt, optax.sgd(lambda i: 0.01 * (i + 1)), 2)
    np.testing.assert_allclose(trained.weights[...], repeated.weights[...], rtol=1e-6)
    diverged = ttt_train(model, params, prompt, optax.sgd(10.0), 5, held_out=prompt)
    assert ttt_loss(model, diverged, prompt) <= ttt_loss(model, params, prompt)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Optimizer("adam", 1), r"optimizer must be an optax optimiser such as optax.adam\(1e-3\), got 'adam'"),
        (lambda: Optimizer(optax.sgd(0.1), 0), "num_steps must be an integer >= 1, got 0"),
        (lambda: Optimizer(optax.sgd(0.1), 1, held_out=-1), "held_out must be an integer >= 0, got -1"),
        (lambda: GradientSteps([0.1], new_context="both"), "new_context must be True or False, got 'both'"),
        (lambda: GradientSteps(["a"]), "step_sizes must be a sequence of finite numbers, at least one, got"),
        (lambda: GradientSteps([]), r"step_sizes must be a sequence of finite numbers, at least one, got \[\]"),
    ],
)
def test_procedures_without_meaning_are_refused_when_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("procedure", "options", "message"),
    [
        (Optimizer(optax.lbfgs(), 1), {}, "optimizer must need the gradient and the weights alone"),
        (GradientSteps([0.1]), {"x64": "no"}, "x64 must be True or False, got 'no'"),
        (GradientSteps([0.1]), {"block_size": 2**30}, "block_size must be at most 1048576, got 1073741824"),
        (GradientSteps([0.1]), {"sampler": "law"}, "sampler must be 'data' for GradientSteps, got 'law'"),
        (Optimizer(optax.sgd(0.1), 1, held_out=2**31), {}, "held_out must be at most 2147483639 to be simulated"),
        (GradientSteps([0.1]), {"problem": Problem(4, 2**31, np.ones(3))}, "k must be at most 2147483639 to be sim"),
        *(
            (
                procedure,
                {"problem": replace(PROBLEM, evaluation="same")},
                "evaluation must be 'fresh' for new contexts at every step, got 'same'",
            )
            for procedure in (GradientSteps([0.1], new_context=True), Optimizer(optax.sgd(0.1), 1, new_context=True))
        ),
    ],
)
def test_bad_input_is_refused(procedure, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_risk(**{"problem": PROBLEM, "start": 0.0, "procedure": procedure} | options)


def test_overflow_is_reported():
    with pytest.warns(UserWarning, match="is not finite"):
        found = estimate_risk(PROBLEM, 0.0, GradientSteps([1e6] * 12), num_tasks=10)
    assert np.isnan(found.mean).all()
    assert found.num_nonfinite
    assert found.stderr_reliable is False
