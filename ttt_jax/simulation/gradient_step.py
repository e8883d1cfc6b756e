"""Samplers of one gradient step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal import linalg
from ttt_jax.problem import Problem
from ttt_jax.procedures import GradientStep
from ttt_jax.simulation import samplers
from ttt_jax.simulation.blocks import ROW_BLOCK
from ttt_jax.simulation.chi_square import ChiSquare
from ttt_jax.simulation.frame import FrameLaw, risk_in_frame
from ttt_jax.simulation.rows import encode, gradient, summaries
from ttt_jax.simulation.samplers import Sampler
from ttt_jax.simulation.scaled import Scaled, Units, as_rows, draw_task
from ttt_jax.simulation.summaries import risk_of_step


@samplers.rows.register
def _rows(procedure: GradientStep, problem: Problem, units: Units) -> Sampler:
    return Sampler(risk_on_rows, _arguments(procedure, problem, units), np.array([units.risk]), ROW_BLOCK, problem.d**2)


@samplers.summaries.register
def _summaries(procedure: GradientStep, problem: Problem, units: Units, d: int) -> Sampler:
    lr, *factors = _arguments(procedure, problem, units)
    draw: Callable
    arguments: PyTree
    if problem.d < d:
        draw, arguments = risk_in_frame, (lr, FrameLaw.of(problem, d))
    else:
        law: Any = problem.inference
        rows = (problem.n, problem.k, law.n)[: 2 if law.context == "same" else 3]
        draw, arguments = risk_of_summaries, (lr, *factors, tuple(map(ChiSquare.of, rows)))
    return Sampler(draw, arguments, np.array([units.risk]), 1)


def _arguments(procedure: GradientStep, problem: Problem, units: Units) -> tuple:
    factors = (procedure.left, procedure.right)
    return units.lr(procedure.lr), *(None if factor is None else as_rows(factor, problem.d) for factor in factors)


def risk_on_rows(
    key: Key[Array, ""], scaled: Scaled, weights: Float[Array, "d d"], arguments: PyTree
) -> Float[Array, 1]:
    """The risk after the step in one experiment."""
    lr, left, right = arguments

    def change(step):
        if left is not None:
            step = left[:, None] * step if left.ndim == 1 else left @ step
        if right is not None:
            step = step * right if right.ndim == 1 else step @ right
        return lr * step

    return risk_after(key, scaled, weights, change)


def risk_after(
    key: Key[Array, ""],
    scaled: Scaled,
    weights: Float[Array, "d d"],
    change: Callable[[Float[Array, "d d"]], Float[Array, "d d"]],
) -> Float[Array, 1]:
    """The risk of W_TT = W - change(gradient), the query integrated out: |R (b - h)|^2 + s2, h = encode(W_TT, u)."""
    key_task, key_context, key_train, key_fresh = jax.random.split(key, 4)
    task = draw_task(key_task, scaled)
    u, u_eval = summaries(key_context, key_fresh, task, scaled)
    step = gradient(key_train, u, task, weights, scaled)
    error = linalg.apply(scaled.query.root, task - encode(weights - change(step), u_eval))
    return (error @ error + scaled.query.noise_var)[None]


def risk_of_summaries(
    key: Key[Array, ""], scaled: Scaled, weights: Float[Array, ...], arguments: PyTree
) -> Float[Array, 1]:
    """The same from the law of the summaries."""
    return jnp.reshape(risk_of_step(key, scaled, weights, *arguments), 1)
