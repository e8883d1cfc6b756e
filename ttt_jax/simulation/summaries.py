"""A TTT experiment drawn from the law of its summaries u and v, with O(d) random numbers.

u = X'y of n rows has the law of t p + sqrt(t tau) g with t ~ chi2(n), p = Sx b, tau = b'Sx b + s2 and an independent
g ~ N(0, Sx - p p'/tau); v = Xt'(yt - Xt W u) has, given u, the same law with k for n and b - W u for b. So n and k are
numbers here, not array shapes. The exact formulas rest on the same law: this sampler is fast evidence, the data sampler
is the independent one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ttt_jax._internal import linalg
from ttt_jax.simulation.chi_square import ChiSquare
from ttt_jax.simulation.scaled import RowLaw, Scaled, draw_task


def summary(key: Key[Array, ""], t: Float[Array, ""], predictor: Float[Array, " d"], law: RowLaw) -> Float[Array, " d"]:
    """X'(X b + xi), from its mixture law; `predictor` is b.

    For p = Sx^(1/2) l and standard normals z,    sqrt(tau) g = Sx^(1/2) [sqrt(tau) z + (s - sqrt(tau)) (l'z / l'l) l].
    """
    root, z, noise = law.root, jax.random.normal(key, predictor.shape, predictor.dtype), jnp.sqrt(law.noise_var)
    label = linalg.apply(root, predictor)
    square = jnp.sum(label * label)
    tau_root = jnp.sqrt(square + law.noise_var)
    along = (noise - tau_root) * jnp.sum(label * z) / jnp.where(square > 0, square, 1.0)
    return linalg.apply(root, t * label + jnp.sqrt(t) * (tau_root * z + along * label))


def risk_of_step(
    key: Key[Array, ""],
    scaled: Scaled,
    weights: Float[Array, ...],
    lr: Float[Array, ""],
    left: Float[Array, ...] | None,
    right: Float[Array, ...] | None,
    rows: tuple[ChiSquare, ...],
) -> Float[Array, ""]:
    """The risk after one gradient step in one experiment, the new query integrated out.

    W_TT u_e = W u_e + 2 lr (u'R u_e) L v,     risk = |Sq^(1/2) (b - W_TT u_e)|^2 + sq2

    `rows` are the laws of t of the context, the batch and, if it is new, the context at inference.
    """
    key_task, key_rows, *keys = jax.random.split(key, 5)
    task = draw_task(key_task, scaled)
    context, batch, *inference = (
        law(z) for law, z in zip(rows, jax.random.normal(key_rows, (len(rows),), task.dtype), strict=True)
    )
    u = summary(keys[0], context, task, scaled.train)
    v = summary(keys[1], batch, task - linalg.apply(weights, u), scaled.train)
    u_eval = u
    for t in inference:
        u_eval = scaled.summary_scale * summary(keys[2], t, task, scaled.inference)
    overlap = jnp.sum(u * (u_eval if right is None else linalg.apply(right, u_eval)))
    v = v if left is None else linalg.apply(left, v)
    predictor = linalg.apply(weights, u_eval) + 2 * lr * overlap * v
    error = linalg.apply(scaled.query.root, task - predictor)
    return jnp.sum(error * error) + scaled.query.noise_var
