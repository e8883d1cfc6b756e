"""The risks of single prompts before and after a step, one prompt per experiment.

Where every matrix is a multiple of the identity only lengths and angles matter. In a frame whose first axis is along
the task and in which u, v and the summary at inference fill one axis more each, they have four coordinates at most:
some fifteen random numbers per prompt, whatever n, k and d are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import weights_array
from ttt_jax.problem import NotApplicable, Problem
from ttt_jax.procedures import GradientStep, Procedure
from ttt_jax.simulation.estimate import make_run
from ttt_jax.simulation.scaled import Scaled, draw_task
from ttt_jax.simulation.summaries import SummaryDraws, risk_of_step

__all__ = ["prompt_risks"]

FRAME = 4
"""Coordinates of b, u, v and the summary at inference, together."""


def prompt_risks(
    problem: Problem, start: Any, procedure: Procedure, *, num_tasks: int, seed: int = 0, sampler: str = "law"
) -> Float[np.ndarray, "T 2"]:
    """Risks of independent prompts before and after a step of a given size, each averaged over its query alone.

    Args:
        problem, start, num_tasks, seed: as in `estimate_risk`, the start a W.
        procedure: a `GradientStep` with a number for its step size.
        sampler: "data" samples every row, "law" draws u and v, or what matters of them; only the first knows features
            that are not Gaussian.

    Example:
        >>> problem = Problem(n=40, k=40, task=np.ones(8) / 8**0.5)
        >>> before, after = prompt_risks(problem, 0.01, GradientStep(5e-6), num_tasks=1000).T
        >>> bool(after.mean() < before.mean()), bool((after < before).all())
        (True, False)
    """
    if not isinstance(procedure, GradientStep):
        raise NotApplicable(f"no law of the risk is known for {type(procedure).__name__}")
    weights = weights_array(start, problem.d)
    run = make_run(
        problem, weights, (procedure,), num_tasks=num_tasks, seed=seed, sampler=sampler, x64=sampler == "law"
    )
    (part,) = run.parts
    in_frame = sampler == "law" and _is_isotropic(problem, weights, procedure)
    draw = BeforeAndAfter(risk_in_frame if in_frame else part.draw)
    run = replace(run, parts=(replace(part, draw=draw, units=np.repeat(part.units, 2)),))
    return np.concatenate(list(run.values()))


@dataclass(frozen=True)
class BeforeAndAfter:
    """The risk at step sizes 0 and lr in one experiment, which draws its random numbers once."""

    draw: Callable[..., Float[Array, 1]]

    def __call__(self, key: Key[Array, ""], scaled: Scaled, weights: Float[Array, ...], arguments: PyTree):
        lr, *factors = arguments
        return jax.vmap(lambda lr: self.draw(key, scaled, weights, (lr, *factors))[0])(jnp.stack([0 * lr, lr]))


def risk_in_frame(
    key: Key[Array, ""], scaled: Scaled, weights: Float[Array, ...], arguments: PyTree
) -> Float[Array, 1]:
    """The risk after one step in one experiment where all matrices are multiples of I, in the frame of its vectors."""
    d = len(scaled.task_mean)
    lr, *factors = arguments
    key_task, key_step = jax.random.split(key)
    length = jnp.linalg.norm(draw_task(key_task, scaled))
    task = jnp.zeros(min(d, FRAME), length.dtype).at[0].set(length)

    def cut(diagonal):
        return diagonal[:FRAME]

    train, inference, query = (
        law._replace(root=cut(law.root)) for law in (scaled.train, scaled.inference, scaled.query)
    )
    frame = scaled._replace(task_mean=task, task_root=None, train=train, inference=inference, query=query)
    left, right = (None if factor is None else cut(factor) for factor in factors)
    return jnp.reshape(risk_of_step(key_step, frame, cut(weights), lr, left, right, partial(_draw_in_frame, d)), 1)


def _draw_in_frame(
    d: int, key_chi2: Key[Array, ""], key_normal: Key[Array, ""], frame: Scaled
) -> tuple[SummaryDraws, ...]:
    """The random numbers of the summaries: what a vector of d normals adds to the axes that are there is a length."""
    short, dtype = len(frame.task_mean), frame.task_mean.dtype
    filled = jnp.arange(1, FRAME)
    degrees = jnp.concatenate([jnp.stack([frame.n, frame.k, frame.n_inference]), jnp.maximum(d - filled, 1)])
    chi2 = jax.random.chisquare(key_chi2, degrees.astype(dtype), dtype=dtype)
    normal = jax.random.normal(key_normal, (3, short + 1), dtype)
    axis, filled, length = jnp.arange(short), filled[:, None], jnp.sqrt(chi2[3:, None])
    z = jnp.where(axis < filled, normal[:, :short], jnp.where(axis == filled, length, 0.0))
    return tuple(SummaryDraws(chi2[i], partial(z.__getitem__, i), normal[i, short]) for i in range(3))


def _is_isotropic(problem: Problem, weights: np.ndarray, procedure: GradientStep) -> bool:
    law: Any = problem.inference
    given = problem.feature_cov, law.feature_cov, law.query_feature_cov, weights, procedure.left, procedure.right
    return all(np.ndim(linalg.simplest(np.asarray(matrix))) == 0 for matrix in given if matrix is not None)
