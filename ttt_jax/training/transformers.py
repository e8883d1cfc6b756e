"""Models beyond one layer: several layers of linear attention, one layer in a loop, a decoder in the style of GPT-2."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ttt_jax._internal.validate import non_negative, positive_integer
from ttt_jax.training.models import Prompt

__all__ = ["Decoder", "LoopedLinearAttention", "MultiLayerLinearAttention"]


class MultiLayerLinearAttention(nnx.Module):
    """L layers of linear attention with residuals on the tokens (x_i, y_i) and (x, 0).

        z <- z + sum over the context i of (z'W_Q W_K' z_i) W_V' z_i;     the prediction is the label entry of the query

    Context tokens are keys, the query is not, so that queries do not see each other. No 1/n, as in the whole package.

    Args:
        d: number of features.
        layers: number of layers.
        rngs: where the initial weights come from.
        scale: standard deviation of the initial weights.

    Example:
        >>> model = MultiLayerLinearAttention(3, 2, nnx.Rngs(0))
        >>> model(Prompt(jnp.ones((5, 3)), jnp.ones(5), jnp.ones((2, 3)), jnp.zeros(2))).shape
        (2,)

    Reference: L = 1 with W_Q W_K' = diag(W, 0) and W_V = diag(0, 1) is `LinearAttention`.
    """

    def __init__(self, d: int, layers: int, rngs: nnx.Rngs, scale: float = 0.02):
        shape = positive_integer("layers", layers), positive_integer("d", d) + 1, d + 1
        self.query, self.key, self.value = (
            nnx.Param(non_negative("scale", scale) * jax.random.normal(rngs.params(), shape)) for _ in range(3)
        )

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        layers = self.query[...], self.key[...], self.value[...]
        (_, queries), _ = jax.lax.scan(lambda tokens, layer: (_attend(tokens, layer), None), _tokens(prompt), layers)
        return queries[:, -1]


class LoopedLinearAttention(nnx.Module):
    """One layer of `MultiLayerLinearAttention`, applied L times.

    Args:
        d: number of features.
        loops: L.
        rngs: where the initial weights come from.
        scale: standard deviation of the initial weights.

    Example:
        >>> model = LoopedLinearAttention(3, 4, nnx.Rngs(0))
        >>> model(Prompt(jnp.ones((5, 3)), jnp.ones(5), jnp.ones((2, 3)), jnp.zeros(2))).shape, model.query.shape
        ((2,), (4, 4))

    Reference: Gatmiry et al. (2024), where it learns gradient descent in L steps.
    """

    def __init__(self, d: int, loops: int, rngs: nnx.Rngs, scale: float = 0.02):
        self.loops = positive_integer("loops", loops)
        shape = positive_integer("d", d) + 1, d + 1
        self.query, self.key, self.value = (
            nnx.Param(non_negative("scale", scale) * jax.random.normal(rngs.params(), shape)) for _ in range(3)
        )

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        layer = self.query[...], self.key[...], self.value[...]
        _, queries = jax.lax.fori_loop(0, self.loops, lambda _, tokens: _attend(tokens, layer), _tokens(prompt))
        return queries[:, -1]


Tokens = tuple[Float[Array, "n e"], Float[Array, "k e"]]
"""The tokens of the context and those of the queries."""


def _tokens(prompt: Prompt) -> Tokens:
    """(x_i, y_i) of the context and (x, 0) of the queries."""
    context = jnp.column_stack([prompt.context_x, prompt.context_y])
    return context, jnp.column_stack([prompt.query_x, jnp.zeros_like(prompt.query_x[:, 0])])


def _attend(tokens: Tokens, layer: tuple[Float[Array, "e e"], ...]) -> Tokens:
    """The tokens after a layer W_Q, W_K, W_V."""
    context, queries = tokens
    query, key, value = layer
    keys, values = context @ key, context @ value
    return context + (context @ query @ keys.T) @ values, queries + (queries @ query @ keys.T) @ values


class Decoder(nnx.Module):
    """A GPT-2 style decoder on the sequence x_1, y_1, ..., x_n, y_n, x: read-in, learned positions, pre-LN blocks.

    The k queries of a prompt share one pass: each stands at the position after the context and sees the context and
    itself, not the others.

    Args:
        d: number of features.
        max_context: largest number of context pairs.
        layers, width, heads: sizes of the transformer; heads divides width.
        rngs: where the initial weights come from.

    Example:
        >>> model = Decoder(3, max_context=5, layers=2, width=16, heads=2, rngs=nnx.Rngs(0))
        >>> model(Prompt(jnp.ones((4, 3)), jnp.ones(4), jnp.ones((2, 3)), jnp.zeros(2))).shape
        (2,)

    Reference: Garg, Tsipras, Liang, Valiant (2022); section 6 of Gozeten et al. (ICML 2025).
    """

    def __init__(self, d: int, *, max_context: int, layers: int, width: int, heads: int, rngs: nnx.Rngs):
        for field, value in (("max_context", max_context), ("layers", layers), ("width", width), ("heads", heads)):
            positive_integer(field, value)
        if width % heads:
            raise ValueError(f"heads must divide width = {width}, got {heads}")
        self.read_in = nnx.Linear(positive_integer("d", d), width, rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (2 * max_context + 1, width)))
        self.blocks = nnx.List([_Block(width, heads, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.read_out = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        n, d = prompt.context_x.shape
        k = len(prompt.query_x)
        if 2 * n + 1 > len(self.positions[...]):
            raise ValueError(f"prompts may have at most {len(self.positions[...]) // 2} context pairs, got {n}")
        labels = jnp.zeros((n, d)).at[:, 0].set(prompt.context_y)
        context = jnp.stack([prompt.context_x, labels], axis=1).reshape(2 * n, d)
        position = jnp.minimum(jnp.arange(2 * n + k), 2 * n)
        tokens = self.read_in(jnp.concatenate([context, prompt.query_x])) + self.positions[...][position]
        index = jnp.arange(2 * n + k)
        sees = (index[None, :] <= index[:, None]) & (index[None, :] < 2 * n) | (index[None, :] == index[:, None])
        for block in self.blocks:
            tokens = block(tokens, sees)
        return self.read_out(self.norm(tokens[2 * n :]))[:, 0]


class _Block(nnx.Module):
    """Attention and a feed-forward layer of four times the width, each after a layer norm and beside a residual."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.heads = heads
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, tokens: Float[Array, "t w"], sees: Bool[Array, "t t"]) -> Float[Array, "t w"]:
        qkv = self.qkv(self.norms[0](tokens)).reshape(len(tokens), 3, self.heads, -1)
        mixed = jax.nn.dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2], mask=sees[None])
        tokens = tokens + self.out(mixed.reshape(tokens.shape))
        return tokens + self.down(jax.nn.gelu(self.up(self.norms[1](tokens))))
