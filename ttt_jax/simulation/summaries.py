"""A TTT experiment drawn from the law of its summaries u and v, with O(d) random numbers.

u = X'y of n rows has the law of t p + sqrt(t tau) g with t ~ chi2(n), p = Sx b, tau = b'Sx b + s2 and an independent
g ~ N(0, Sx - p p'/tau); v = Xt'(yt - Xt W u) has, given u, the same law with k for n and b - W u for b. So n and k are
numbers here, not array shapes. The exact formulas rest on the same law: this sampler is fast evidence, the data sampler
is the independent one.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ttt_jax._internal import linalg
from ttt_jax.simulation.scaled import RowLaw, Scaled, draw_task


def draw_summary(
    key: Key[Array, ""],
    predictor: Float[Array, " d"],
    rows: Int[Array, ""],
    law: RowLaw,
    normal: Callable = jax.random.normal,
) -> Float[Array, " d"]:
    """X'(X b + xi) for `rows` rows, from its mixture law; `predictor` is b, and `normal` draws the Gaussian vector."""
    root, dtype = law.root, predictor.dtype
    key_t, key_z, key_noise = jax.random.split(key, 3)
    t = jax.random.chisquare(key_t, rows.astype(dtype), dtype=dtype)
    z = normal(key_z, predictor.shape, dtype)
    label = linalg.apply(root, predictor)  # y = label'z + noise, of variance tau
    tau = label @ label + law.noise_var
    y = label @ z + jnp.sqrt(law.noise_var) * jax.random.normal(key_noise, (), dtype)
    inverse_tau = jnp.where(tau > 0, 1 / jnp.where(tau > 0, tau, 1.0), 0.0)
    return linalg.apply(root, jnp.sqrt(t * tau) * z + (t - jnp.sqrt(t * tau) * y * inverse_tau) * label)


def risk_of_step(
    key: Key[Array, ""],
    scaled: Scaled,
    weights: Float[Array, ...],
    lr: Float[Array, ""],
    left: Float[Array, ...] | None,
    right: Float[Array, ...] | None,
    normals: tuple[Callable, ...] = (jax.random.normal,) * 3,
) -> Float[Array, ""]:
    """The risk after one gradient step in one experiment, the new query integrated out.

    W_TT u_e = W u_e + 2 lr (u'R u_e) L v,     risk = |Sq^(1/2) (b - W_TT u_e)|^2 + sq2

    `normals` draw the Gaussian vectors of u, v and u_e.
    """
    key_task, key_context, key_train, key_fresh = jax.random.split(key, 4)
    task = draw_task(key_task, scaled)
    u = draw_summary(key_context, task, scaled.n, scaled.train, normals[0])
    v = draw_summary(key_train, task - linalg.apply(weights, u), scaled.k, scaled.train, normals[1])
    u_eval = scaled.summary_scale * jax.lax.cond(
        scaled.same, lambda: u, lambda: draw_summary(key_fresh, task, scaled.n_inference, scaled.inference, normals[2])
    )
    overlap = u @ (u_eval if right is None else linalg.apply(right, u_eval))
    v = v if left is None else linalg.apply(left, v)
    predictor = linalg.apply(weights, u_eval) + 2 * lr * overlap * v
    error = linalg.apply(scaled.query.root, task - predictor)
    return error @ error + scaled.query.noise_var
