import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import LinearAttention, Prompt, TokenLinearAttention, functional

pytestmark = pytest.mark.usefixtures("quick_compilation")
SHAPES = [(1, 1, 1), (5, 3, 2), (2, 7, 4)]


@pytest.mark.parametrize("given", [3, "p", None, LinearAttention, lambda prompt: prompt.query_y, {"weights": 1.0}])
def test_only_flax_modules_are_functional(given):
    with pytest.raises(ValueError, match=r"^module must be a Flax module, an instance of nnx\.Module, got "):
        functional(given)


def random_prompt(seed, n, k, d):
    rng = np.random.default_rng(seed)
    return Prompt(rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=(k, d)), rng.normal(size=k))


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    n, k, d = request.param
    with jax.enable_x64(True):
        yield random_prompt(n, n, k, d), jnp.asarray(np.random.default_rng(7).normal(size=(d, d)))


def test_token_and_collapsed_form_agree(case):
    prompt, weights = case
    expected = prompt.query_x @ np.asarray(weights) @ prompt.context_x.T @ prompt.context_y
    for module in (LinearAttention(weights), TokenLinearAttention.from_weights(weights)):
        found = jax.jit(lambda prompt, module=module: module(prompt))(prompt)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_token_model_is_the_attention_formula_for_any_matrices(case):
    prompt, _ = case
    n, d = prompt.context_x.shape
    query, key, value = np.random.default_rng(3).normal(size=(3, d + 1, d + 1))
    model, params = functional(TokenLinearAttention(*map(jnp.asarray, (query, key, value))))
    for x, prediction in zip(prompt.query_x, np.asarray(jax.jit(model)(params, prompt)), strict=True):
        tokens = np.block([[prompt.context_x, prompt.context_y[:, None]], [x, 0.0]])
        output = tokens @ query @ key.T @ tokens.T @ tokens @ value
        np.testing.assert_allclose(prediction, output[n, d], rtol=1e-10)


@pytest.mark.parametrize("make", [LinearAttention, TokenLinearAttention.from_weights])
def test_query_labels_have_no_influence(case, make):
    prompt, weights = case
    model, params = functional(make(weights))

    def answer(context_y, query_y):
        return model(params, prompt._replace(context_y=context_y, query_y=query_y))

    of_context, of_queries = jax.jit(jax.jacobian(answer, (0, 1)))(prompt.context_y, prompt.query_y)
    assert not of_queries.any()
    assert of_context.any()
