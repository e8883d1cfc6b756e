import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.training.test_models import random_prompt
from ttt_jax import LinearAttention, Pretraining, TokenLinearAttention, functional, pretrain, ttt_loss, ttt_train
from ttt_jax._internal.progress import Progress
from ttt_jax.training import transformers
from ttt_jax.training.transformers import Decoder, LoopedLinearAttention, MultiLayerLinearAttention

pytestmark = pytest.mark.usefixtures("quick_compilation")
PROMPT = jax.tree.map(jnp.float32, random_prompt(0, 5, 4, 3))


def decoder(seed=0):
    return Decoder(3, max_context=6, layers=2, width=16, heads=2, rngs=nnx.Rngs(seed))


MODELS = {
    "decoder": decoder,
    "linear": lambda seed=0: MultiLayerLinearAttention(3, 2, nnx.Rngs(seed), 0.3),
    "looped": lambda seed=0: LoopedLinearAttention(3, 2, nnx.Rngs(seed), 0.3),
}


def test_every_model_is_tested():
    assert {type(make()).__name__ for make in MODELS.values()} == set(transformers.__all__)


@pytest.mark.parametrize("name", MODELS)
def test_queries_are_answered_as_if_alone_and_their_labels_are_not_read(name):
    call, params = functional(MODELS[name]())

    def answer(x, context_y, y):
        return call(params, PROMPT._replace(query_x=x, context_y=context_y, query_y=y))

    both = jax.jit(lambda *prompt: (answer(*prompt), jax.jacobian(answer, (1, 2))(*prompt)))
    together, (of_context, of_queries) = both(PROMPT.query_x, PROMPT.context_y, PROMPT.query_y)
    alone = jax.jit(jax.vmap(lambda x, y: answer(x[None], PROMPT.context_y, y[None])[0]))
    np.testing.assert_allclose(alone(PROMPT.query_x, PROMPT.query_y), together, rtol=1e-5, atol=1e-5)
    assert not of_queries.any()
    assert of_context.any()


def test_decoder_is_causal_and_positions_matter():
    """Without its position table a decoder with one head block would not tell the order of pairs."""
    model = decoder()
    reversed_context = PROMPT._replace(context_x=PROMPT.context_x[::-1], context_y=PROMPT.context_y[::-1])
    assert not np.allclose(model(PROMPT), model(reversed_context), atol=1e-4)
    with pytest.raises(ValueError, match="at most 6 context pairs, got 7"):
        model(jax.tree.map(jnp.float32, random_prompt(0, 7, 4, 3)))


def test_one_layer_of_linear_attention_is_the_paper_s_model():
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)), jnp.float32)
    token = TokenLinearAttention.from_weights(weights)
    model = MultiLayerLinearAttention(3, 1, nnx.Rngs(0))
    for name in ("query", "key", "value"):
        setattr(model, name, nnx.Param(getattr(token, name)[...][None]))
    np.testing.assert_allclose(model(PROMPT), LinearAttention(weights)(PROMPT), rtol=1e-5)
    for name in ("query", "key", "value"):  # a second layer that adds nothing
        first = getattr(model, name)[...]
        setattr(model, name, nnx.Param(jnp.concatenate([first, jnp.zeros_like(first)])))
    np.testing.assert_allclose(model(PROMPT), LinearAttention(weights)(PROMPT), rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_trained_at_test_time(name):
    model, params = functional(MODELS[name]())
    trained = jax.jit(lambda params: ttt_train(model, params, PROMPT, optax.adam(1e-3), 30))(params)
    loss = jax.jit(lambda params: ttt_loss(model, params, PROMPT))
    assert loss(trained) < loss(params)
    changed = [bool((a != b).any()) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(trained), strict=True)]
    assert all(changed)


def test_interrupted_pretraining_goes_on_to_the_same_result(tmp_path):
    model, params = functional(decoder())
    law = Pretraining(n=4, d=3)
    options = {"batch_size": 8, "num_queries": 2, "progress": False}
    whole = pretrain(model, params, law, num_steps=12, **options)

    def interrupted(bar):
        bar.done += 1
        if bar.done == 7:
            raise KeyboardInterrupt

    directory = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(model, params, law, num_steps=12, directory=directory, save_every=3, **options)
    resumed = pretrain(model, params, law, num_steps=12, directory=directory, save_every=3, **options)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    again = pretrain(model, params, law, num_steps=12, directory=directory, **options)
    np.testing.assert_array_equal(jax.tree.leaves(again)[0], jax.tree.leaves(whole)[0])
    other, other_params = functional(Decoder(3, max_context=6, layers=1, width=8, heads=2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="directory must hold a state with arrays of shapes"):
        pretrain(other, other_params, law, num_steps=12, directory=directory, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 15, "heads": 2}, "heads must divide width = 15, got 2"),
        ({"layers": 0}, "layers must be an integer >= 1, got 0"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Decoder(3, **({"max_context": 4, "layers": 1, "width": 8, "heads": 2} | options), rngs=nnx.Rngs(0))
