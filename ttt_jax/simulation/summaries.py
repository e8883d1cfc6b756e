"""A TTT experiment drawn from the law of its sufficient statistics u and v, with O(d) random numbers.

u = X'y of n rows has the law of t p + sqrt(t tau) g with t ~ chi2(n), p = Sx b, tau = b'Sx b + s2 and an independent
g ~ N(0, Sx - p p'/tau); v = Xt'(yt - Xt W u) has, given u, the same law with k for n and b - W u for b. So n and k are
numbers here, not array shapes. The exact formulas rest on the same law: this sampler is fast evidence, the data sampler
is the independent one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ttt_jax._internal import linalg
from ttt_jax.simulation.scaled import Setting, draw_task


def draw_statistic(
    key: Key[Array, ""], predictor: Float[Array, " d"], rows: Int[Array, ""], setting: Setting
) -> Float[Array, " d"]:
    """X'(X b + xi) for `rows` rows, from its mixture law; `predictor` is b."""
    root, dtype = setting.feature_root, setting.task_mean.dtype
    key_t, key_z, key_noise = jax.random.split(key, 3)
    t = jax.random.chisquare(key_t, rows.astype(dtype), dtype=dtype)
    z = jax.random.normal(key_z, predictor.shape, dtype)
    label = linalg.apply(root, predictor)  # y = label'z + noise, of variance tau
    tau = label @ label + setting.noise_var
    y = label @ z + jnp.sqrt(setting.noise_var) * jax.random.normal(key_noise, (), dtype)
    inverse_tau = jnp.where(tau > 0, 1 / jnp.where(tau > 0, tau, 1.0), 0.0)
    return linalg.apply(root, jnp.sqrt(t * tau) * z + (t - jnp.sqrt(t * tau) * y * inverse_tau) * label)


def law_risk(key: Key[Array, ""], setting: Setting) -> Float[Array, ""]:
    """The risk after TTT in one experiment, the new query integrated out.

    W_TT u_e = W u_e + 2 lr v (u'u_e),     risk = |R (b - W_TT u_e)|^2 + s2
    """
    key_task, key_context, key_train, key_fresh = jax.random.split(key, 4)
    task = draw_task(key_task, setting)
    u = draw_statistic(key_context, task, setting.n, setting)
    residual = task - linalg.apply(setting.weights, u)
    v = draw_statistic(key_train, residual, setting.k, setting)
    u_eval = jax.lax.cond(setting.same, lambda: u, lambda: draw_statistic(key_fresh, task, setting.n, setting))
    predictor = linalg.apply(setting.weights, u_eval) + 2 * setting.lr * (u @ u_eval) * v
    error = linalg.apply(setting.feature_root, task - predictor)
    return error @ error + setting.noise_var
