"""A catalogue of models, by name: every entry is a function (d, rngs, **parameters) -> Flax module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from ttt_jax._internal.validate import choice, non_negative, positive_integer, require_parameters, seed_integer
from ttt_jax.training.models import (
    LinearAttention,
    MergedLinearAttention,
    MLPReadOut,
    SoftmaxAttention,
    TokenLinearAttention,
)
from ttt_jax.training.transformers import Decoder, LoopedLinearAttention, MultiLayerLinearAttention

__all__ = ["MODELS", "make_model"]


def make_model(name: str, *, d: int, seed: int = 0, **parameters: Any) -> nnx.Module:
    """A named model with random weights, for `functional` and `pretrain`.

    Args:
        name: an entry of `MODELS`.
        d: number of features.
        seed: of the weights.
        parameters: those of the entry, by keyword; each has a default.

    Raises:
        ValueError: if the model is unknown, or a parameter is unknown or out of range.

    Example:
        >>> make_model("softmax", d=3, temperature=0.5).weights.shape
        (3, 3)
        >>> make_model("softmax", d=3, layers=2)
        Traceback (most recent call last):
        ValueError: model 'softmax' takes temperature, scale, got layers
    """
    model = MODELS[choice("model", name, tuple(MODELS))]
    require_parameters("model", name, model, parameters)
    return model(positive_integer("d", d), nnx.Rngs(seed_integer(seed)), **parameters)


def linear(d: int, rngs: nnx.Rngs, *, scale: float = 0.02) -> LinearAttention:
    """Linear attention x'W X'y."""
    return LinearAttention(_weights(d, rngs, scale))


def token(d: int, rngs: nnx.Rngs, *, scale: float = 0.02) -> TokenLinearAttention:
    """Linear attention with W_Q, W_K and W_V trained."""
    return TokenLinearAttention(*(_weights(d + 1, rngs, scale) for _ in range(3)))


def merged(d: int, rngs: nnx.Rngs, *, scale: float = 0.02) -> MergedLinearAttention:
    """Linear attention with one matrix of d + 1 columns for W_Q W_K', and W_V trained, from v = (0, 1)."""
    return MergedLinearAttention.from_weights(_weights(d, rngs, scale))


def softmax(d: int, rngs: nnx.Rngs, *, temperature: float = 1.0, scale: float = 0.02) -> SoftmaxAttention:
    """Softmax attention."""
    return SoftmaxAttention(_weights(d, rngs, scale), temperature)


def mlp(d: int, rngs: nnx.Rngs, *, width: int = 32, scale: float = 0.02) -> MLPReadOut:
    """Linear attention that an MLP reads."""
    return MLPReadOut(_weights(d, rngs, scale), width, rngs)


def multi_layer(d: int, rngs: nnx.Rngs, *, layers: int = 2, scale: float = 0.02) -> MultiLayerLinearAttention:
    """Several layers of linear attention."""
    return MultiLayerLinearAttention(d, layers, rngs, scale)


def looped(d: int, rngs: nnx.Rngs, *, loops: int = 2, scale: float = 0.02) -> LoopedLinearAttention:
    """One layer of linear attention in a loop."""
    return LoopedLinearAttention(d, loops, rngs, scale)


def decoder(
    d: int, rngs: nnx.Rngs, *, max_context: int = 64, layers: int = 2, width: int = 32, heads: int = 2
) -> Decoder:
    """A decoder in the style of GPT-2."""
    return Decoder(d, max_context=max_context, layers=layers, width=width, heads=heads, rngs=rngs)


MODELS: dict[str, Callable[..., nnx.Module]] = {
    "linear": linear,
    "token": token,
    "merged": merged,
    "softmax": softmax,
    "mlp": mlp,
    "multi_layer": multi_layer,
    "looped": looped,
    "decoder": decoder,
}
"""Every model by name; add your own here."""


def _weights(size: int, rngs: nnx.Rngs, scale: float) -> Float[Array, "s s"]:
    return non_negative("scale", scale) * jax.random.normal(rngs.params(), (size, size))
