"""A TTT experiment on sampled data: contexts, training pairs, and a jax.grad step of the Flax model.

Rows are drawn and consumed in fixed blocks, so memory grows neither with n nor with k, and both may be traced numbers.
The gradient is never taken through that loop: the model is cut at h = encode(params, u), the part of it that every
query reads. The loss is a sum over queries given h, so its gradient in h is accumulated over row blocks, each by
jax.grad, and pulled back to the parameters once, by jax.vjp. That is the chain rule, and equals `ttt.ttt_step`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ttt_jax._internal import linalg
from ttt_jax.simulation.blocks import ROW_BLOCK
from ttt_jax.simulation.scaled import Setting, draw_task
from ttt_jax.training.models import LinearAttention


def data_risk(key: Key[Array, ""], setting: Setting) -> Float[Array, ""]:
    """The risk after TTT in one experiment, the query integrated out: |R (b - h)|^2 + s2, h = encode(W_TT, u)."""
    key_task, key_context, key_train, key_fresh = jax.random.split(key, 4)
    task = draw_task(key_task, setting)
    u, u_eval = summaries(key_context, key_fresh, task, setting)
    weights = setting.weights - setting.lr * gradient(key_train, u, task, setting)
    error = linalg.apply(setting.feature_root, task - encode(weights, u_eval))
    return error @ error + setting.noise_var


def summaries(
    key_context: Key[Array, ""], key_fresh: Key[Array, ""], task: Float[Array, " d"], setting: Setting
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """The summaries of the context of TTT and of the context at inference, in a loop, which is compiled once."""
    rows = jnp.stack([setting.n, jnp.where(setting.same, 0, setting.n)])
    u, fresh = jax.lax.map(
        lambda context: summarize(context[0], task, setting._replace(n=context[1])),
        (jnp.stack([key_context, key_fresh]), rows),
    )
    return u, jnp.where(setting.same, u, fresh)


def summarize(key: Key[Array, ""], task: Float[Array, " d"], setting: Setting) -> Float[Array, " d"]:
    """The summary u of a new context of n rows."""

    def summary(x, y, live):
        return LinearAttention.summarize(x, jnp.where(live, y, 0.0))

    return sum_over_rows(summary, key, setting.n, task, setting)


def encode(weights: Float[Array, "d d"], u: Float[Array, " d"]) -> Float[Array, " d"]:
    """What the model with these weights makes of a context summary."""
    return LinearAttention(weights).encode(u)


def gradient(
    key: Key[Array, ""], u: Float[Array, " d"], task: Float[Array, " d"], setting: Setting
) -> Float[Array, "d d"]:
    """The gradient of the TTT loss of the setting's weights on k new queries, with u as the context of each."""
    h, pull_back = jax.vjp(lambda weights: encode(weights, u), setting.weights)

    def loss(h, x, y, live):
        return jnp.sum(jnp.where(live, y - LinearAttention.read(h, x), 0.0) ** 2)

    def gradient_in_h(x, y, live):
        return jax.grad(loss)(h, x, y, live)

    (total,) = pull_back(sum_over_rows(gradient_in_h, key, setting.k, task, setting))
    return total


def sum_over_rows(
    function: Callable[..., Float[Array, ...]],
    key: Key[Array, ""],
    rows: Int[Array, ""],
    task: Float[Array, " d"],
    setting: Setting,
) -> Float[Array, ...]:
    """The sum of function(x, y, live) over blocks of ROW_BLOCK rows; rows beyond `rows` are drawn, but not live."""
    d, dtype = len(task), task.dtype

    def block(i):
        key_x, key_y = jax.random.split(jax.random.fold_in(key, i))
        x = linalg.apply(setting.feature_root, setting.features(key_x, (ROW_BLOCK, d), dtype))
        y = x @ task + jnp.sqrt(setting.noise_var) * jax.random.normal(key_y, (ROW_BLOCK,), dtype)
        live = i * ROW_BLOCK + jnp.arange(ROW_BLOCK) < rows
        return function(x, y, live)

    num_blocks = (rows + ROW_BLOCK - 1) // ROW_BLOCK
    zero = jnp.zeros(jax.eval_shape(block, 0).shape, dtype)
    return jax.lax.fori_loop(0, num_blocks, lambda i, total: total + block(i), zero)
