import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.training.test_models import SHAPES, random_prompt
from ttt_jax import LinearAttention, Prompt, TokenLinearAttention, functional, ttt_loss, ttt_step, ttt_train


@pytest.mark.parametrize(("n", "k", "d"), SHAPES)
@pytest.mark.parametrize("lr", [0.0, 1e-3, 0.7])
def test_step_is_proposition_3_1(n, k, d, lr):
    with jax.enable_x64(True):
        prompt = jax.tree.map(jnp.asarray, random_prompt(k, n, k, d))
        weights = np.random.default_rng(1).normal(size=(d, d))
        model, params = functional(LinearAttention(jnp.asarray(weights)))
        stepped = ttt_step(model, params, prompt, lr).weights[...]
        u = np.asarray(prompt.context_x.T @ prompt.context_y)
        residual = np.asarray(prompt.query_y) - np.asarray(prompt.query_x) @ weights @ u
        expected = weights + 2 * lr * np.outer(np.asarray(prompt.query_x).T @ residual, u)
        np.testing.assert_allclose(stepped, expected, rtol=1e-10)


def test_any_model_and_any_pytree_can_be_stepped():
    class TwoLayers(nnx.Module):
        def __init__(self, rngs):
            self.read_in, self.read_out = nnx.Linear(3, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, prompt):
            return self.read_out(nnx.tanh(self.read_in(prompt.query_x)))[:, 0]

    prompt = jax.tree.map(jnp.float32, random_prompt(0, 4, 6, 3))
    model, params = functional(TwoLayers(nnx.Rngs(0)))
    before, after = (ttt_loss(model, p, prompt) for p in (params, ttt_step(model, params, prompt, 1e-3)))
    assert after < before

    def affine(params, prompt):
        return prompt.query_x @ params["slope"] + params["shift"]

    stepped = ttt_step(affine, {"slope": jnp.zeros(3), "shift": 0.0}, prompt, 0.5)
    np.testing.assert_allclose(stepped["shift"], prompt.query_y.sum(), rtol=1e-6)


def test_step_is_pure_and_transforms():
    model, params = functional(TokenLinearAttention.from_weights(jnp.eye(2)))
    prompts = [jax.tree.map(jnp.float32, random_prompt(seed, 3, 4, 2)) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *prompts)
    together = jax.jit(jax.vmap(lambda prompt: ttt_step(model, params, prompt, 0.1)))(stacked)
    for i, prompt in enumerate(prompts):
        alone = ttt_step(model, params, prompt, 0.1)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=2e-5, atol=1e-5)


def test_shapes_that_do_not_fit_are_refused():
    model, params = functional(LinearAttention(jnp.eye(2)))
    good = random_prompt(0, 3, 4, 2)
    for bad, field in (
        (good._replace(query_y=np.ones(5)), "query"),
        (good._replace(context_x=np.ones(3)), "context"),
        (Prompt(good.context_x, good.context_y[:, None], good.query_x, good.query_y), "context"),
    ):
        for call in (
            lambda bad=bad: ttt_loss(model, params, bad),
            lambda bad=bad: ttt_step(model, params, bad, 0.1),
            lambda bad=bad: ttt_train(model, params, bad, optax.sgd(0.1), 2),
        ):
            with pytest.raises(ValueError, match=f"prompt.{field}_x must be"):
                call()
    for bad in (
        good._replace(query_x=np.ones((4, 3))),
        good._replace(query_x=good.query_x[None], query_y=good.query_y[None]),
        good._replace(context_x=good.context_x[None], context_y=good.context_y[None]),
    ):
        with pytest.raises(ValueError, match=r"prompt.context_x and query_x must have the same features"):
            ttt_loss(model, params, bad)


def test_a_model_does_not_get_the_labels_that_it_is_asked_for():
    prompt, seen = random_prompt(0, 3, 4, 2), []

    def records(params, prompt):
        seen.append(prompt)
        return prompt.query_x @ params

    ttt_step(records, jnp.ones(2), prompt, 0.1)
    assert seen[0][3] is None
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), prompt)
    with pytest.raises(ValueError, match="model must not read query_y, the labels that it is asked for"):
        jax.jit(jax.vmap(lambda prompt: ttt_loss(jax.jit(lambda w, p: p.query_y), None, prompt)))(stacked)


def test_predictions_that_do_not_fit_and_wrong_numbers_of_steps_are_refused():
    good = random_prompt(0, 3, 4, 2)
    with pytest.raises(ValueError, match=r"model must predict \(4,\), a number for each query, got \(4, 1\)"):
        ttt_loss(lambda params, prompt: prompt.query_x @ params, jnp.ones((2, 1)), good)
    model, params = functional(LinearAttention(jnp.eye(2)))
    for num_steps in (-3, 2.5):
        with pytest.raises(ValueError, match=f"num_steps must be an integer >= 1, got {num_steps}"):
            ttt_train(model, params, good, optax.sgd(0.1), num_steps)
    for optimizer in (0.05, optax.adam):
        with pytest.raises(ValueError, match=r"^optimizer must be an optax optimiser such as"):
            ttt_train(model, params, good, optimizer, 3)


def test_an_optimiser_may_look_at_the_loss():
    model, params = functional(LinearAttention(jnp.zeros((1, 1))))
    prompt = Prompt(jnp.ones((2, 1)), jnp.ones(2), jnp.ones((1, 1)), jnp.ones(1))
    trained = ttt_train(model, params, prompt, optax.lbfgs(), 3)
    assert float(trained.weights[0, 0]) == pytest.approx(0.5, abs=1e-5)  # x'W u = 1: a parabola


def test_held_out_pairs_choose_the_step_of_smallest_loss():
    """Training goes from W = 0 to 1/2, the held-out pair asks for W = 1/5 on the way."""
    model, params = functional(LinearAttention(jnp.zeros((1, 1))))
    prompt = Prompt(jnp.ones((2, 1)), jnp.ones(2), jnp.ones((1, 1)), jnp.ones(1))
    held_out = prompt._replace(query_y=jnp.array([0.4]))
    chosen = ttt_train(model, params, prompt, optax.sgd(0.01), 20, held_out=held_out).weights[0, 0]
    on_the_way = 0.5 * (1 - 0.92 ** np.arange(21))  # a step takes 8 lr of what is left
    nearest = np.abs(on_the_way - 0.2).argmin()
    assert 0 < nearest < 20
    assert float(chosen) == pytest.approx(on_the_way[nearest], rel=1e-5)
