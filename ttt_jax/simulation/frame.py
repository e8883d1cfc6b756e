"""Where every matrix is a multiple of I only lengths and angles matter: O(1) random numbers per experiment, at any d.

In a frame whose first axis is along the task b, the context's summary u, the batch's v and the summary at inference
fill one axis more each. Of a vector of d normals that meets the axes of its predictor, its coordinates along them count
and the length of the rest, whose square is a chi-square (the claim "frame"). A vector is the list of its coordinates.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import reduce
from itertools import zip_longest
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal import linalg
from ttt_jax.problem import GaussianTasks, Problem, SparseTasks
from ttt_jax.procedures import GradientStep, Procedure
from ttt_jax.simulation.chi_square import ChiSquare
from ttt_jax.simulation.scaled import RowLaw, Scaled

FRAME = 4
"""Axes that b, u, v and the summary at inference fill."""

Vector = list[Float[Array, ""]]


def in_frame(
    problem: Problem, weights: np.ndarray, procedures: tuple[Procedure, ...]
) -> tuple[Problem, np.ndarray, tuple[GradientStep, ...]] | None:
    """The problem along its task, which is one-dimensional, with W and the steps there.

    Returns:
        None if a matrix is not a multiple of I, a procedure not a single step, tasks are sparse, or d is below FRAME:
        nothing would be saved.

    Example:
        >>> problem, weights, _ = in_frame(Problem(4, 4, [3.0, 4.0, 0.0, 0.0]), 2 * np.eye(4), ())
        >>> problem.task.tolist(), weights.tolist()
        ([5.0], 2.0)
    """
    law: Any = problem.inference
    if isinstance(problem.task, SparseTasks):
        return None
    random = isinstance(problem.task, GaussianTasks)
    mean, task_cov = (problem.task.mean, problem.task.cov) if random else (problem.task, np.zeros(()))
    steps = [step for step in procedures if isinstance(step, GradientStep)]
    context_cov = problem.feature_cov if law.context == "same" else law.feature_cov
    given = [weights, task_cov, problem.feature_cov, context_cov, law.query_feature_cov]
    given += [np.ones(()) if side is None else side for step in steps for side in (step.left, step.right)]
    scalars = [linalg.simplest(np.asarray(matrix)) for matrix in given]
    if problem.d < FRAME or len(steps) < len(procedures) or any(matrix.ndim for matrix in scalars):
        return None
    weights, task_cov, feature_cov, context_cov, query_cov, *sides = scalars
    length = np.array([np.linalg.norm(mean)])
    law = replace(law, feature_cov=None if law.context == "same" else context_cov, query_feature_cov=query_cov)
    task = GaussianTasks(length, task_cov) if random else length
    along = Problem(problem.n, problem.k, task, feature_cov, problem.noise_var, evaluation=law)
    rates = (step.lr * left * right for step, left, right in zip(steps, sides[::2], sides[1::2], strict=True))
    return along, weights, tuple(map(GradientStep, rates))


class FrameLaw(NamedTuple):
    """The chi-squares of an experiment: t of every summary, and the squared length that it adds to the axes so far.

    Args:
        task: of a random task, the squared length across its mean.
        summaries: of the context, the batch and, if it is new, the context at inference.
    """

    task: ChiSquare | None
    summaries: tuple[tuple[ChiSquare, ChiSquare], ...]

    @classmethod
    def of(cls, problem: Problem, d: int) -> FrameLaw:
        """Of the problem along its task, in d dimensions."""
        law: Any = problem.inference
        rows = (problem.n, problem.k, law.n)[: 2 if law.context == "same" else 3]
        random = isinstance(problem.task, GaussianTasks)
        summaries = ((ChiSquare.of(n), ChiSquare.of(d - filled)) for filled, n in enumerate(rows, start=1))
        return cls(ChiSquare.of(d - 1) if random else None, tuple(summaries))


def risk_in_frame(key: Key[Array, ""], scaled: Scaled, weight: Float[Array, 1], arguments: PyTree) -> Float[Array, 1]:
    """The risk after one step in one experiment, the new query integrated out; `scaled` is along the task.

    All random numbers are drawn at once and used one by one, so that the tasks of a block, and not the few numbers of a
    task, are what is vectorised.
    """
    lr, law = arguments
    count = 2 * (law.task is not None) + sum(filled + 2 for filled, _ in enumerate(law.summaries, start=1))
    numbers = iter(jax.random.normal(key, (count,), weight.dtype))
    (w,), (b,) = weight, scaled.task_mean
    if law.task is not None:
        assert scaled.task_root is not None
        (root,) = scaled.task_root
        b = jnp.sqrt((b + root * next(numbers)) ** 2 + root**2 * law.task(next(numbers)))
    context, batch, *inference = (
        (rows(next(numbers)), [*(next(numbers) for _ in range(filled)), jnp.sqrt(rest(next(numbers)))])
        for filled, (rows, rest) in enumerate(law.summaries, start=1)
    )
    u = u_eval = _summary([b], scaled.train, *context)
    v = _summary(_minus([b], u, w), scaled.train, *batch)
    for new in inference:
        u_eval = [scaled.summary_scale * x for x in _summary([b], scaled.inference, *new)]
    error = _minus(_minus([b], u_eval, w), v, 2 * lr * _dot(u, u_eval))
    return scaled.query.root**2 * _dot(error, error) + scaled.query.noise_var


def _summary(predictor: Vector, law: RowLaw, t: Float[Array, ""], z: Vector) -> Vector:
    """X'(X b + xi), from its mixture law; `predictor` is b.

    u = c t b + sqrt(c t) [sqrt(tau) z + (sqrt(s2) - sqrt(tau)) (z'b / b'b) b],    tau = c b'b + s2
    """
    (root,), noise = law.root, jnp.sqrt(law.noise_var)
    square = _dot(predictor, predictor)
    tau = jnp.sqrt(root**2 * square + law.noise_var)
    along = (noise - tau) * _dot(predictor, z) / jnp.where(square > 0, square, 1.0)
    terms = zip_longest(predictor, z, fillvalue=0.0)
    return [root**2 * t * b + root * jnp.sqrt(t) * (tau * g + along * b) for b, g in terms]


def _dot(left: Vector, right: Vector) -> Float[Array, ""]:
    """l'r; what one of them lacks is 0."""
    return reduce(operator.add, (x * y for x, y in zip(left, right, strict=False)))


def _minus(left: Vector, right: Vector, factor: Float[Array, ""]) -> Vector:
    """l - factor r."""
    return [x - factor * y for x, y in zip_longest(left, right, fillvalue=0.0)]
