"""Several simulated steps: against the step of the Flax model, the exact recursion, and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import random_problem
from ttt_jax import (
    LinearAttention,
    Problem,
    Prompt,
    estimate_risk,
    estimate_trajectory,
    exact_risk,
    family_verdict,
    functional,
    ttt_loss,
    ttt_step,
    ttt_train,
)
from ttt_jax._internal import linalg
from ttt_jax.simulation.rows import ROW_BLOCK
from ttt_jax.theory.several_steps import new_context_risk

PROBLEM = Problem(20, 30, np.ones(12) / np.sqrt(12), noise_var=0.1)
WEIGHT = 1 / 35
LR = exact_risk(PROBLEM, WEIGHT).optimal_lr


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_one_step_is_the_one_step_simulation(evaluation):
    found = estimate_trajectory(PROBLEM, WEIGHT, [LR], evaluation=evaluation, num_tasks=300, x64=True)
    single = estimate_risk(PROBLEM, WEIGHT, LR, evaluation=evaluation, num_tasks=300, x64=True)
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


@pytest.mark.parametrize("protocol", ["one_batch", "new_context"])
def test_steps_are_steps_of_the_flax_model_under_adam_with_a_schedule(protocol):
    """One task, written out with whole arrays and `ttt_train`; correlated features, in units other than one."""
    problem, weights = random_problem(4)
    problem = Problem(problem.n, problem.k, 3 * problem.task, 2 * problem.feature_cov, problem.noise_var)
    optimizer = optax.adamw(optax.cosine_decay_schedule(0.02, 5), weight_decay=0.1)
    options = {"protocol": protocol, "num_tasks": 1, "block_size": 1, "held_out": 11, "x64": True}
    with jax.enable_x64(True):
        root = jax.random.key(0, impl="threefry2x32")
        (task_key,) = jax.random.split(jax.random.fold_in(root, 0), 1)
        _, key_context, key_train, key_fresh = jax.random.split(task_key, 4)
        task = jnp.asarray(problem.task)

        def prompt(i):
            new = protocol == "new_context"
            keys = (jax.random.fold_in(key, i) if new else key for key in (key_context, key_train))
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
    found = estimate_trajectory(problem, weights, optimizer=optimizer, num_steps=5, **options)
    assert (found.mean[-1], found.stopped) == pytest.approx(expected, rel=1e-9)


def test_new_contexts_agree_with_the_exact_recursion_and_one_batch_does_not():
    steps = LR * np.array([1.0, 0.8, 0.6])
    exact = new_context_risk(PROBLEM, WEIGHT, steps)
    found = estimate_trajectory(PROBLEM, WEIGHT, steps, protocol="new_context", num_tasks=4000)
    zs = (found.mean - exact)[1:] / found.stderr[1:]
    assert family_verdict(zs)[0], zs
    repeated = estimate_trajectory(PROBLEM, WEIGHT, steps, protocol="one_batch", num_tasks=4000)
    assert (repeated.mean - exact)[3] > 5 * repeated.stderr[3]


def test_early_stopping_saves_a_start_that_training_spoils():
    """From nearly optimal weights, large steps make things worse, and a held-out set notices."""
    task = np.eye(12)[0]
    problem = Problem(20, 12, task)
    weights = np.outer(task, task) / 22
    steps = np.full(4, 3 * exact_risk(problem, 0.0).optimal_lr)
    found = estimate_trajectory(problem, weights, steps, held_out=40, num_tasks=500)
    assert found.stopped < found.mean[1:].min()
    assert 0 <= found.stopped_step < 2
    without = estimate_trajectory(problem, weights, steps, num_tasks=500)
    np.testing.assert_array_equal(without.mean, found.mean)
    assert np.isnan(without.stopped)


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
    ("options", "message"),
    [
        ({}, "give either step_sizes, or optimizer and num_steps, got none"),
        (
            {"step_sizes": [0.1], "optimizer": optax.sgd(0.1), "num_steps": 1},
            "got step_sizes and optimizer and num",
        ),
        ({"optimizer": "adam", "num_steps": 1}, "optimizer must be an optax.GradientTransformation .* got 'adam'"),
        ({"optimizer": optax.lbfgs(), "num_steps": 1}, "optimizer must need the gradient and the weights alone"),
        ({"optimizer": optax.sgd(0.1)}, "give either step_sizes, or optimizer and num_steps"),
        ({"optimizer": optax.sgd(0.1), "num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ({"step_sizes": [0.1], "protocol": "both"}, "protocol must be one of one_batch, new_context, got 'both'"),
        ({"step_sizes": ["a"]}, "step_sizes must be a sequence of finite numbers, at least one, got"),
        ({"step_sizes": [0.1], "x64": "no"}, "x64 must be True or False, got 'no'"),
        ({"step_sizes": [0.1], "block_size": 2**30}, "block_size must be at most 1048576, got 1073741824"),
        ({"step_sizes": [0.1], "held_out": 2**31}, "held_out must be at most 2147483639 to be simulated"),
        ({"step_sizes": [0.1], "problem": Problem(4, 2**31, np.ones(3))}, "k must be at most 2147483639 to be sim"),
        ({"step_sizes": [0.1], "held_out": -1}, "held_out must be an integer >= 1, got -1"),
        (
            {"step_sizes": [0.1], "protocol": "new_context", "evaluation": "same"},
            "evaluation must be 'fresh' for the protocol 'new_context', got 'same'",
        ),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        estimate_trajectory(**{"problem": PROBLEM, "weights": 0.0} | options)


def test_overflow_is_reported():
    with pytest.warns(UserWarning, match="is not finite"):
        found = estimate_trajectory(PROBLEM, 0.0, [1e6] * 12, num_tasks=10)
    assert np.isnan(found.mean).all()
    assert found.num_nonfinite
