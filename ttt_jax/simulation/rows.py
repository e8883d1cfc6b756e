"""A TTT experiment on sampled data: contexts, training pairs, and the jax.grad of the Flax model's loss.

Rows are drawn and consumed in fixed blocks, so memory grows neither with n nor with k, and both may be traced numbers.
The gradient is never taken through that loop: the model is cut at h = encode(params, u), the part of it that every
query reads. The loss is a sum over queries given h, so its gradient in h is accumulated over row blocks, each by
jax.grad, and pulled back to the parameters once, by jax.vjp. That is the chain rule, and equals `ttt_step`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ttt_jax._internal import linalg
from ttt_jax.simulation.blocks import ROW_BLOCK
from ttt_jax.simulation.scaled import RowLaw, Scaled
from ttt_jax.training.models import LinearAttention


def summaries(
    key_context: Key[Array, ""], key_fresh: Key[Array, ""], task: Float[Array, " d"], scaled: Scaled
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """The summaries of the context of TTT and of the context at inference, in a loop, which is compiled once."""
    rows = jnp.stack([scaled.n, jnp.where(scaled.same, 0, scaled.n_inference)])
    laws = jax.tree.map(lambda *fields: jnp.stack(fields), scaled.train, scaled.inference)
    u, fresh = jax.lax.map(
        lambda context: summarize(context[0], task, context[1], context[2], scaled.features),
        (jnp.stack([key_context, key_fresh]), rows, laws),
    )
    return u, jnp.where(scaled.same, u, fresh) * scaled.summary_scale


def summarize(
    key: Key[Array, ""], task: Float[Array, " d"], rows: Int[Array, ""], law: RowLaw, features: Callable
) -> Float[Array, " d"]:
    """The summary u of a new context."""

    def summary(x, y, live):
        return LinearAttention.summarize(x, jnp.where(live, y, 0.0))

    return sum_over_rows(summary, key, rows, task, law, features)


def encode(weights: Float[Array, "d d"], u: Float[Array, " d"]) -> Float[Array, " d"]:
    """What the model with these weights makes of a context summary."""
    return LinearAttention(weights).encode(u)


def gradient(
    key: Key[Array, ""], u: Float[Array, " d"], task: Float[Array, " d"], weights: Float[Array, "d d"], scaled: Scaled
) -> Float[Array, "d d"]:
    """The gradient of the TTT loss of the weights on k new queries, with u as the context of each."""
    h, pull_back = jax.vjp(lambda weights: encode(weights, u), weights)

    def loss(h, x, y, live):
        return jnp.sum(jnp.where(live, y - LinearAttention.read(h, x), 0.0) ** 2)

    def gradient_in_h(x, y, live):
        return jax.grad(loss)(h, x, y, live)

    (total,) = pull_back(sum_over_rows(gradient_in_h, key, scaled.k, task, scaled.train, scaled.features))
    return total


def sum_over_rows(
    function: Callable[..., Float[Array, ...]],
    key: Key[Array, ""],
    rows: Int[Array, ""],
    task: Float[Array, " d"],
    law: RowLaw,
    features: Callable,
) -> Float[Array, ...]:
    """The sum of function(x, y, live) over blocks of ROW_BLOCK rows; rows beyond `rows` are drawn, but not live."""

    def block(i):
        live = i * ROW_BLOCK + jnp.arange(ROW_BLOCK) < rows
        return function(*_row_block(key, i, task, law, features), live)

    num_blocks = (rows + ROW_BLOCK - 1) // ROW_BLOCK
    zero = jnp.zeros(jax.eval_shape(block, 0).shape, task.dtype)
    return jax.lax.fori_loop(0, num_blocks, lambda i, total: total + block(i), zero)


def draw_rows(
    key: Key[Array, ""], rows: int, task: Float[Array, " d"], law: RowLaw, features: Callable
) -> tuple[Float[Array, "rows d"], Float[Array, " rows"]]:
    """The rows that `sum_over_rows` streams, as arrays."""
    blocks = jnp.arange(-(-rows // ROW_BLOCK))
    x, y = jax.vmap(lambda i: _row_block(key, i, task, law, features))(blocks)
    return x.reshape(-1, len(task))[:rows], y.reshape(-1)[:rows]


def _row_block(key: Key[Array, ""], i: Int[Array, ""], task: Float[Array, " d"], law: RowLaw, features: Callable):
    key_x, key_y = jax.random.split(jax.random.fold_in(key, i))
    x = linalg.apply(law.root, features(key_x, (ROW_BLOCK, len(task)), task.dtype))
    return x, law.labels(x, task) + jnp.sqrt(law.noise_var) * jax.random.normal(key_y, (ROW_BLOCK,), task.dtype)
