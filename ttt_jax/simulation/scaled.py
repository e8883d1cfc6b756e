"""One Monte Carlo cell as arrays, in units in which float32 neither overflows nor underflows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax.problem import Problem, SingleIndex, mean_square, require_linear, task_parts
from ttt_jax.training.prompts import sample_task

__all__ = ["RowLaw", "Scaled", "Units", "as_rows", "draw_task", "feature_unit", "safe_units", "scale_problem"]

SMALLEST_UNIT = 1e-60
"""Of the variance of the labels; 1 over it is the largest."""


class RowLaw(NamedTuple):
    """Rows x = root z with labels y = f(x'b) + xi: the root of the feature covariance, and the variance of xi."""

    root: Float[Array, ...]
    noise_var: Float[Array, ""]
    link: Partial | None = None  # f, None where labels are linear

    def labels(self, x: Float[Array, "rows d"], task: Float[Array, " d"]) -> Float[Array, " rows"]:
        """f(x'b)."""
        return x @ task if self.link is None else self.link(x @ task)


class Scaled(NamedTuple):
    """A problem as arrays. Matrices are diagonals (d,) or dense (d, d); roots are symmetric square roots.

    Every field is traced, so that one compilation serves every cell of the same shapes.
    """

    n: Int[Array, ""]
    k: Int[Array, ""]
    train: RowLaw
    task_mean: Float[Array, " d"]
    task_root: Float[Array, ...] | None  # None: the task is task_mean in every experiment
    nonzero: Int[Array, ""] | None  # None: all coordinates of the task are kept
    features: Partial  # (key, shape, dtype) -> independent entries of mean 0 and variance 1
    same: Bool[Array, ""]  # whether the context of TTT is the context at inference
    n_inference: Int[Array, ""]
    inference: RowLaw
    query: RowLaw
    summary_scale: Float[Array, ""]  # of the summary at inference


class Units(NamedTuple):
    """With x = sqrt(m) x' and y = sqrt(risk) y' the same experiment has W' = m W and lr' = m^2 risk lr.

    lr' is for a step along the gradient; a step whose length does not depend on it, as along its sign, has m lr.
    """

    m: float
    risk: float

    def lr(self, lr: ArrayLike) -> np.ndarray | np.float64:
        """lr' of step sizes lr."""
        return np.asarray(lr) * self.m**2 * self.risk


def draw_task(key: Key[Array, ""], scaled: Scaled) -> Float[Array, " d"]:
    """The task vector of one experiment."""
    if scaled.task_root is None:
        return scaled.task_mean
    return sample_task(key, scaled.task_mean, scaled.task_root, scaled.nonzero)


def feature_unit(problem: Problem) -> float:
    """The mean variance of the features, tr(Sx)/d; 1 if it is 0."""
    return float(np.mean(problem.feature_cov if problem.feature_cov.ndim < 2 else np.diag(problem.feature_cov))) or 1.0


def safe_units(problem: Problem) -> Units:
    """Units such that tr(Sx) = d and labels have a variance of order one."""
    require_linear(problem, "a change of units")  # a link need not be homogeneous
    m = feature_unit(problem)
    with np.errstate(over="ignore"):
        risk = m * mean_square(problem) + problem.noise_var or 1.0
    if not SMALLEST_UNIT <= risk <= 1 / SMALLEST_UNIT:
        direction = "up" if risk < 1 else "down"
        raise ValueError(
            f"labels of variance {risk:.3g} cannot be simulated, since the fourth power of a risk must fit float64: "
            f"scale task, noise_var or feature_cov {direction}"
        )
    return Units(m, risk)


def scale_problem(problem: Problem, units: Units, dtype) -> Scaled:
    """The problem as NumPy arrays of the given precision, in the given units."""
    m, risk = units
    d, unit = problem.d, math.sqrt(m / risk)

    def array(value: Any, kind: Any = dtype) -> Any:
        return np.asarray(value, kind)

    mean, cov, nonzero = task_parts(problem.task)
    link = Partial(problem.task.function) if isinstance(problem.task, SingleIndex) else None
    law: Any = problem.inference
    covs = [problem.feature_cov, problem.feature_cov if law.context == "same" else law.feature_cov]
    roots = [as_rows(linalg.sqrt(cov), d) / math.sqrt(m) for cov in (*covs, law.query_feature_cov)]
    if any(root.ndim == 2 for root in roots[:2]):
        roots[:2] = [linalg.dense(root, d) for root in roots[:2]]
    noises = [problem.noise_var, problem.noise_var if law.context == "same" else law.noise_var, law.query_noise_var]
    train, inference, query = (
        RowLaw(array(root), array(noise / risk), link) for root, noise in zip(roots, noises, strict=True)
    )
    n_inference = law.n if law.context == "fresh" else problem.n
    return Scaled(
        n=array(problem.n, np.int32),
        k=array(problem.k, np.int32),
        train=train,
        task_mean=array(unit * mean),
        task_root=None if cov is None else array(unit * as_rows(linalg.sqrt(cov), d)),
        nonzero=None if nonzero is None else array(nonzero, np.int32),
        features=_features(problem, dtype),
        same=array(law.context == "same", bool),
        n_inference=array(n_inference, np.int32),
        inference=inference,
        query=query,
        summary_scale=array(problem.n / n_inference if law.rescale else 1.0),
    )


def as_rows(matrix: np.ndarray, d: int) -> np.ndarray:
    """The matrix as (d,) if it is diagonal, else (d, d)."""
    matrix = linalg.simplest(matrix)
    return matrix if matrix.ndim == 2 else np.broadcast_to(matrix, (d,))


def _features(problem: Problem, dtype) -> Partial:
    if problem.feature_law == "student_t":
        return Partial(_student_t, np.asarray(problem.dof, dtype))
    return Partial({"gaussian": jax.random.normal, "rademacher": jax.random.rademacher}[problem.feature_law])


def _student_t(dof: Float[Array, ""], key: Key[Array, ""], shape: tuple[int, ...], dtype) -> Float[Array, ...]:
    return jnp.sqrt((dof - 2) / dof) * jax.random.t(key, dof, shape, dtype)
