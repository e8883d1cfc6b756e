"""A TTT experiment drawn from the law of its summaries u and v, with O(d) random numbers.

u = X'y of n rows has the law of t p + sqrt(t tau) g with t ~ chi2(n), p = Sx b, tau = b'Sx b + s2 and an independent
g ~ N(0, Sx - p p'/tau); v = Xt'(yt - Xt W u) has, given u, the same law with k for n and b - W u for b. So n and k are
numbers here, not array shapes. The exact formulas rest on the same law: this sampler is fast evidence, the data sampler
is the independent one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ttt_jax._internal import linalg
from ttt_jax.simulation.scaled import RowLaw, Scaled, draw_task


class SummaryDraws(NamedTuple):
    """The random numbers of a summary: chi2 of as many degrees of freedom as rows, and standard normals.

    Those of the features are many, so they are drawn where they are used.
    """

    chi2: Float[Array, ""]
    features: Callable[[], Float[Array, " d"]]
    noise: Float[Array, ""]


def draw_all(key_chi2: Key[Array, ""], key_normal: Key[Array, ""], scaled: Scaled) -> tuple[SummaryDraws, ...]:
    """Of the context and the batch of TTT, and of a new context at inference; fewer calls compile faster."""
    shape, dtype = scaled.task_mean.shape, scaled.task_mean.dtype
    rows = jnp.stack([scaled.n, scaled.k, scaled.n_inference]).astype(dtype)
    chi2 = jax.random.chisquare(key_chi2, rows, dtype=dtype)
    key_noise, *keys = jax.random.split(key_normal, 4)
    noise = jax.random.normal(key_noise, (3,), dtype)
    return tuple(
        SummaryDraws(chi2[i], partial(jax.random.normal, key, shape, dtype), noise[i]) for i, key in enumerate(keys)
    )


def summary(draws: SummaryDraws, predictor: Float[Array, " d"], law: RowLaw) -> Float[Array, " d"]:
    """X'(X b + xi), from its mixture law; `predictor` is b."""
    root, t, z = law.root, draws.chi2, draws.features()
    label = linalg.apply(root, predictor)  # y = label'z + noise, of variance tau
    tau = label @ label + law.noise_var
    y = label @ z + jnp.sqrt(law.noise_var) * draws.noise
    inverse_tau = jnp.where(tau > 0, 1 / jnp.where(tau > 0, tau, 1.0), 0.0)
    return linalg.apply(root, jnp.sqrt(t * tau) * z + (t - jnp.sqrt(t * tau) * y * inverse_tau) * label)


def risk_of_step(
    key: Key[Array, ""],
    scaled: Scaled,
    weights: Float[Array, ...],
    lr: Float[Array, ""],
    left: Float[Array, ...] | None,
    right: Float[Array, ...] | None,
    draw: Callable[..., tuple[SummaryDraws, ...]] = draw_all,
) -> Float[Array, ""]:
    """The risk after one gradient step in one experiment, the new query integrated out.

    W_TT u_e = W u_e + 2 lr (u'R u_e) L v,     risk = |Sq^(1/2) (b - W_TT u_e)|^2 + sq2

    `draw` has the arguments and the random numbers of `draw_all`.
    """
    key_task, key_chi2, key_normal = jax.random.split(key, 3)
    task = draw_task(key_task, scaled)
    context, batch, inference = draw(key_chi2, key_normal, scaled)
    u = summary(context, task, scaled.train)
    v = summary(batch, task - linalg.apply(weights, u), scaled.train)
    u_eval = scaled.summary_scale * jax.lax.cond(
        scaled.same, lambda: u, lambda: summary(inference, task, scaled.inference)
    )
    overlap = u @ (u_eval if right is None else linalg.apply(right, u_eval))
    v = v if left is None else linalg.apply(left, v)
    predictor = linalg.apply(weights, u_eval) + 2 * lr * overlap * v
    error = linalg.apply(scaled.query.root, task - predictor)
    return error @ error + scaled.query.noise_var
