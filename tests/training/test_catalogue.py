"""Models by name, each against a loop over queries and pairs in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.training.test_models import random_prompt
from ttt_jax import LinearAttention, TokenLinearAttention, functional, ttt_loss, ttt_step
from ttt_jax.training import models, transformers
from ttt_jax.training.catalogue import MODELS, make_model
from ttt_jax.training.models import MergedLinearAttention, MLPReadOut

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZES = [(3, 2, 2), (6, 4, 3)]
LOOPED = {"merged": {}, "softmax": {"temperature": 0.7}, "mlp": {"width": 5}, "looped": {"loops": 3}}
"""The models with a loop below; those of the other names have theirs in `test_models` and `test_transformers`."""


def random_model(name, d, **parameters):
    """A model of float64 with parameters of order one, those that start at 0 included."""
    with jax.enable_x64(True):
        model = make_model(name, d=d, seed=2, **parameters)
        state = nnx.state(model, nnx.Param)
        rng = np.random.default_rng(5)
        nnx.update(model, jax.tree.map(lambda p: jnp.asarray(rng.uniform(0.2, 0.6, p.shape)), state))
        return model


def gelu(z):
    return z / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def merged(model, xs, ys, x):
    w, v = np.asarray(model.weights[...]), np.asarray(model.value[...])
    total = 0.0
    for z in [*(np.append(a, b) for a, b in zip(xs, ys, strict=True)), np.append(x, 0.0)]:
        total += (x @ w @ z) * (z @ v)
    return total


def softmax(model, xs, ys, x):
    w, temperature = np.asarray(model.weights[...]), float(model.temperature[...])
    shares = [math.exp(x @ w @ a / temperature) for a in xs]
    return sum(share * y for share, y in zip(shares, ys, strict=True)) / sum(shares)


def mlp(model, xs, ys, x):
    w = np.asarray(model.attention.weights[...])
    p = sum((x @ w @ a) * y for a, y in zip(xs, ys, strict=True))
    total = p + float(model.out.bias[...][0])
    for j in range(model.hidden.out_features):
        into = np.append(x, p) @ np.asarray(model.hidden.kernel[...])[:, j] + float(model.hidden.bias[...][j])
        total += float(model.out.kernel[...][j, 0]) * gelu(into)
    return total


def looped(model, xs, ys, x):
    query, key, value = (np.asarray(matrix[...]) for matrix in (model.query, model.key, model.value))
    tokens = [*(np.append(a, b) for a, b in zip(xs, ys, strict=True)), np.append(x, 0.0)]
    for _ in range(model.loops):
        tokens = [z + sum((z @ query @ key.T @ c) * (c @ value) for c in tokens[:-1]) for z in tokens]
    return tokens[-1][-1]


@pytest.mark.parametrize(("n", "k", "d"), SIZES)
@pytest.mark.parametrize("name", LOOPED)
def test_a_model_is_its_formula(name, n, k, d):
    model, prompt = random_model(name, d, **LOOPED[name]), random_prompt(n, n, k, d)
    expected = [globals()[name](model, prompt.context_x, prompt.context_y, x) for x in prompt.query_x]
    with jax.enable_x64(True):
        found = jax.jit(lambda prompt: model(prompt))(prompt)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_along_the_gradient_of_finite_differences(name):
    prompt, direction = random_prompt(1, 3, 2, 2), np.random.default_rng(3)
    model, params = functional(random_model(name, 2, **LOOPED.get(name, {})))
    with jax.enable_x64(True):
        stepped = jax.jit(lambda params: ttt_step(model, params, prompt, 1.0))(params)
        along = jax.tree.map(lambda p: direction.normal(size=p.shape), params)
        leaves = zip(*map(jax.tree.leaves, (stepped, params, along)), strict=True)
        slope = sum(np.vdot(np.asarray(new) - np.asarray(old), a) for new, old, a in leaves)

        @jax.jit
        def loss(h):
            return ttt_loss(model, jax.tree.map(lambda p, a: p + h * a, params, along), prompt)

        h, rtol = (1e-2, 1e-3) if name == "decoder" else (1e-3, 1e-7)  # the softmax of JAX's attention is in float32
        difference = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)  # error of order h^4
        np.testing.assert_allclose(-slope, difference, rtol=rtol)


@pytest.mark.parametrize("name", MODELS)
def test_queries_are_answered_as_if_alone_and_their_labels_are_not_read(name):
    model, prompt = random_model(name, 3), random_prompt(0, 5, 4, 3)
    call, params = functional(model)

    def answer(x, y):
        return call(params, prompt._replace(query_x=x, query_y=y))

    with jax.enable_x64(True):
        together, influence = jax.jit(lambda x, y: (answer(x, y), jax.jacobian(answer, 1)(x, y)))(*prompt[2:])
        alone = jax.jit(jax.vmap(lambda x: answer(x[None], jnp.zeros(1))[0]))(prompt.query_x)
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    assert not influence.any()


def test_every_model_of_the_package_has_a_name():
    kinds = {type(make_model(name, d=2)).__name__ for name in MODELS}
    assert kinds == {*models.__all__, *transformers.__all__} - {"Model", "Prompt", "functional"}


def test_special_cases_are_linear_attention():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    prompt = jax.tree.map(jnp.float32, random_prompt(0, 5, 4, 3))
    expected = LinearAttention(weights)(prompt)
    for model in (MergedLinearAttention.from_weights(weights), MLPReadOut(weights, 4, nnx.Rngs(0))):
        np.testing.assert_allclose(model(prompt), expected, rtol=1e-5)
    query, key, value = (0.5 * jnp.asarray(m, jnp.float32) for m in np.random.default_rng(1).normal(size=(3, 4, 4)))
    token, merged = TokenLinearAttention(query, key, value), MergedLinearAttention((query @ key.T)[:3], value[:, -1])
    np.testing.assert_allclose(merged(prompt), token(prompt), rtol=1e-4)


def test_a_loop_is_layers_of_equal_weights():
    prompt = jax.tree.map(jnp.float32, random_prompt(0, 5, 4, 3))
    loop, layers = make_model("looped", d=3, loops=3, scale=0.3), make_model("multi_layer", d=3, layers=3)
    for name in ("query", "key", "value"):
        setattr(layers, name, nnx.Param(jnp.stack([getattr(loop, name)[...]] * 3)))
    np.testing.assert_allclose(loop(prompt), layers(prompt), rtol=1e-4)


def test_names_seeds_and_parameters(monkeypatch):
    first, again, other = (make_model("linear", d=2, seed=seed).weights[...] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()
    monkeypatch.setitem(MODELS, "mine", lambda d, rngs, *, power=1: LinearAttention(jnp.eye(d) ** power))
    assert make_model("mine", d=2, power=2).weights.shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "lstm", "d": 2}, "model must be one of linear, token, .*, got 'lstm'"),
        ({"name": "linear", "d": 0}, "d must be an integer >= 1, got 0"),
        ({"name": "linear", "d": 2, "seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"name": "looped", "d": 2, "layers": 2}, "model 'looped' takes loops, scale, got layers"),
        ({"name": "looped", "d": 2, "loops": 0}, "loops must be an integer >= 1, got 0"),
        ({"name": "linear", "d": 2, "scale": np.nan}, "scale must be a finite number >= 0, got nan"),
        ({"name": "looped", "d": 2, "scale": -1}, "scale must be a finite number >= 0, got -1"),
        ({"name": "multi_layer", "d": 2, "scale": np.inf}, "scale must be a finite number >= 0, got inf"),
        ({"name": "softmax", "d": 2, "temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"name": "mlp", "d": 2, "width": 0}, "width must be an integer >= 1, got 0"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make_model(**arguments)
