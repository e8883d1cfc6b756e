"""LoRA and named parameters: what is frozen stays, and the first step is that of GradientStep(right=A'A)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.training.test_models import random_prompt
from ttt_jax import (
    GradientStep,
    LinearAttention,
    Problem,
    TokenLinearAttention,
    estimate_risk,
    exact_risk,
    functional,
    ttt_step,
    ttt_train,
)
from ttt_jax.training.catalogue import make_model
from ttt_jax.training.lora import lora

pytestmark = pytest.mark.usefixtures("quick_compilation")
PROMPT = jax.tree.map(jnp.float32, random_prompt(0, 5, 4, 3))
WEIGHTS = jnp.asarray(0.3 * np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)


@pytest.mark.parametrize("trainable", ["value", ("value", "key"), nnx.PathContains("value"), lambda path, _: True])
def test_a_step_moves_the_trainable_parameters_alone_and_as_before(trainable):
    module = TokenLinearAttention.from_weights(WEIGHTS)
    model, params = functional(module, trainable)
    names = list(params)
    assert names == (["value"] if trainable in ("value", nnx.PathContains("value")) else names)
    stepped, whole = ttt_step(model, params, PROMPT, 0.1), ttt_step(*functional(module), PROMPT, 0.1)
    for name in names:
        np.testing.assert_array_equal(stepped[name][...], whole[name][...])
    np.testing.assert_array_equal(model(params, PROMPT), module(PROMPT))


def test_a_name_in_the_middle_of_a_path_selects_all_below_it():
    decoder = make_model("decoder", d=3)
    _, params = functional(decoder, ("qkv", nnx.PathContains("read_out")))
    paths = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert {path.rsplit(".", 1)[0] for path in paths} == {"blocks.0.qkv", "blocks.1.qkv", "read_out"}


@pytest.mark.parametrize("trainable", ["weight", (), nnx.BatchStat])
def test_nothing_to_train_is_refused(trainable):
    message = "^trainable must select parameters of temperature, weights, got "
    with pytest.raises(ValueError, match=message):
        functional(make_model("softmax", d=2), trainable)


def test_the_first_step_of_lora_is_a_projected_step():
    model, params = lora(*functional(LinearAttention(WEIGHTS)), rank=2, seed=3)
    a = params["weights"]["A"]
    stepped = ttt_step(model, params, PROMPT, 0.1)["weights"]
    np.testing.assert_array_equal(stepped["A"], a)
    whole = ttt_step(*functional(LinearAttention(WEIGHTS)), PROMPT, 0.1).weights[...] - WEIGHTS
    np.testing.assert_allclose(stepped["B"] @ stepped["A"], whole @ a.T @ a, rtol=2e-4, atol=1e-5)


def test_the_risk_after_it_is_the_exact_one():
    problem = Problem(20, 30, np.ones(4) / 2, noise_var=0.2)
    model, params = lora(*functional(LinearAttention(jnp.eye(4) / 40)), rank=2)
    a = np.asarray(params["weights"]["A"], np.float64)
    curve = exact_risk(problem, 1 / 40, GradientStep(right=a.T @ a))
    estimate = estimate_risk(problem, (model, params), curve.optimal_lr, num_tasks=4000)
    assert abs(estimate.mean - curve.optimal) < 4 * estimate.stderr < 0.3 * (curve.initial - curve.optimal)


@pytest.mark.parametrize(("name", "trainable"), [("decoder", "qkv"), ("multi_layer", None), ("mlp", None)])
def test_lora_starts_where_the_model_is_and_learns(name, trainable):
    module = make_model(name, d=3)
    model, params = lora(*functional(module, trainable), rank=1)
    begin, before = jax.jit(lambda params: (model(params, PROMPT), module(PROMPT)))(params)
    np.testing.assert_allclose(begin, before, rtol=1e-6)
    trained = jax.jit(lambda params: ttt_train(model, params, PROMPT, optax.adam(3e-3), 5))(params)
    moved = jax.tree.map(lambda new, old: bool((new != old).any()), trained, params)
    assert all(jax.tree.leaves(moved))


def test_a_model_without_matrices_and_a_rank_without_meaning_are_refused():
    start = functional(make_model("softmax", d=2), "temperature")
    with pytest.raises(ValueError, match=r"^params must hold a matrix for LoRA, got temperature"):
        lora(*start, 1)
    with pytest.raises(ValueError, match=r"^rank must be an integer >= 1, got 0"):
        lora(*start, 0)
