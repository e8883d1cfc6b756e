"""Samplers of several steps: given step sizes or any optax optimiser, on one batch or on new contexts, early stopping.

Rows are never stored: a step that uses the same batch again draws it again from the same key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal import linalg
from ttt_jax.problem import Problem
from ttt_jax.procedures import GradientSteps, Optimizer
from ttt_jax.simulation import samplers
from ttt_jax.simulation.blocks import ROW_BLOCK
from ttt_jax.simulation.rows import encode, gradient, sum_over_rows, summaries, summarize
from ttt_jax.simulation.samplers import Sampler
from ttt_jax.simulation.scaled import Scaled, Units, draw_task
from ttt_jax.training.models import LinearAttention


@samplers.rows.register
def _gradient_steps(procedure: GradientSteps, problem: Problem, units: Units) -> Sampler:
    steps = procedure.num_steps
    draw = _Draw(steps, procedure.new_context, 0, None)
    return Sampler(
        draw, (units.lr(procedure.step_sizes), 1.0, 1.0), np.full(steps + 1, units.risk), ROW_BLOCK, problem.d**2
    )


@samplers.rows.register
def _optimizer(procedure: Optimizer, problem: Problem, units: Units) -> Sampler:
    steps, held_out = procedure.num_steps, procedure.held_out
    require_gradient_alone(procedure.optimizer)
    draw = _Draw(steps, procedure.new_context, held_out, procedure.optimizer)
    risks = np.full(steps + 1, units.risk)
    sizes = np.concatenate([[units.risk, 1.0], risks]) if held_out else risks
    return Sampler(draw, (np.zeros(steps), units.m, units.risk), sizes, ROW_BLOCK, problem.d**2)


@dataclass(frozen=True)
class _Draw:
    """One experiment: with held-out pairs the risk and the step where they say stop; the risk after 0, ..., T steps."""

    num_steps: int
    new_context: bool
    held_out: int
    optimizer: Any

    def __call__(
        self, key: Key[Array, ""], scaled: Scaled, weights: Float[Array, "d d"], arguments: PyTree
    ) -> Float[Array, " V"]:
        lr, weight_unit, loss_unit = (jnp.asarray(a, weights.dtype) for a in arguments)
        key_task, key_context, key_train, key_fresh = jax.random.split(key, 4)
        task = draw_task(key_task, scaled)
        u, u_eval = summaries(key_context, key_fresh, task, scaled)
        if self.optimizer is None:
            optimizer = optax.sgd(lambda i: lr[i])
        else:
            optimizer = _in_units(self.optimizer, weight_unit, loss_unit)

        def read(weights):
            error = linalg.apply(scaled.query.root, task - encode(weights, u_eval))
            return error @ error + scaled.query.noise_var, encode(weights, u)

        def step(carry, i):
            weights, state = carry
            u_step, key_step = u, key_train
            if self.new_context:
                key_new = jax.random.fold_in(key_context, i)
                u_step = summarize(key_new, task, scaled.n, scaled.train, scaled.features)
                key_step = jax.random.fold_in(key_train, i)
            total = gradient(key_step, u_step, task, weights, scaled)
            updates, state = optimizer.update(total, state, weights)
            weights = weights + updates
            return (weights, state), read(weights)

        start = weights, optimizer.init(weights)
        _, (risks, h) = jax.lax.scan(step, start, jnp.arange(self.num_steps))
        first_risk, first_h = read(weights)
        risks, h = jnp.append(first_risk, risks), jnp.concatenate([first_h[None], h])
        if not self.held_out:
            return risks

        def loss(x, y, live):
            errors = jnp.where(live, y - jax.vmap(LinearAttention.read, (0, None))(h, x), 0.0)
            return jnp.sum(errors**2, axis=1)

        key_held = jax.random.fold_in(key_fresh, 1)
        losses = sum_over_rows(loss, key_held, jnp.int32(self.held_out), task, scaled.train, scaled.features)
        stop = jnp.argmin(losses)
        return jnp.concatenate([jnp.stack([risks[stop], stop.astype(risks.dtype)]), risks])


def require_gradient_alone(optimizer: optax.GradientTransformation) -> None:
    """ValueError unless the optimiser is optax's and needs the gradient and the weights alone."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            f"optimizer must be an optax.GradientTransformation such as optax.adam(1e-3), got {optimizer!r}"
        )
    one = jnp.ones(1)
    try:
        update, _ = optimizer.update(one, optimizer.init(one), one)
    except TypeError as error:
        raise ValueError(f"optimizer must need the gradient and the weights alone: {error}") from None
    if jnp.isnan(update).any():
        raise ValueError("optimizer must have a learning rate that is a number, got an update of nan")


def _in_units(
    optimizer: optax.GradientTransformation, m: Float[Array, ""], unit: Float[Array, ""]
) -> optax.GradientTransformation:
    """The optimiser as it acts in the scaled units, where W' = m W and the loss is divided by its unit."""

    def update(gradient, state, weights=None):
        updates, state = optimizer.update(m * unit * gradient, state, weights / m)
        return m * updates, state

    return optax.GradientTransformation(lambda weights: optimizer.init(weights / m), update)
