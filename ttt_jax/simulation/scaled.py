"""One Monte Carlo cell as arrays, in units in which float32 neither overflows nor underflows."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax.problem import GaussianTasks, Problem, mean_square


class Setting(NamedTuple):
    """One Monte Carlo cell as arrays: a problem, the initial weights and the step size.

    Matrices are diagonals (d,) or dense (d, d); roots are symmetric square roots of covariances. Every field is traced,
    so that one compilation serves every cell of the same shapes.
    """

    n: Int[Array, ""]
    k: Int[Array, ""]
    lr: Float[Array, ...]  # one step size, or one for every step
    noise_var: Float[Array, ""]
    feature_root: Float[Array, ...]
    weights: Float[Array, ...]
    task_mean: Float[Array, " d"]
    task_root: Float[Array, ...] | None  # None: the task is task_mean in every experiment
    features: Partial  # (key, shape, dtype) -> independent entries of mean 0 and variance 1
    same: Bool[Array, ""]  # whether the context of TTT is the context at evaluation


def draw_task(key: Key[Array, ""], setting: Setting) -> Float[Array, " d"]:
    """The task vector of one experiment."""
    if setting.task_root is None:
        return setting.task_mean
    normals = jax.random.normal(key, setting.task_mean.shape, setting.task_mean.dtype)
    return setting.task_mean + linalg.apply(setting.task_root, normals)


def feature_unit(problem: Problem) -> float:
    """The mean variance of the features, tr(Sx)/d; 1 if it is 0."""
    return float(np.mean(problem.feature_cov if problem.feature_cov.ndim < 2 else np.diag(problem.feature_cov))) or 1.0


def make_setting(
    problem: Problem, weights: np.ndarray, lr: ArrayLike, sampler: str, evaluation: str, dtype
) -> tuple[Setting, float]:
    """The cell as arrays of the given precision, and the unit of the risk.

    The units are such that tr(Sx) = d and labels have a variance of order one. With x = sqrt(m) x' and
    y = sqrt(scale) y' the same experiment has b' = sqrt(m / scale) b, W' = m W and lr' = m^2 scale lr.
    """
    if sampler == "law" and problem.feature_law != "gaussian":
        raise ValueError(f"sampler must be 'data' for the feature_law {problem.feature_law!r}, got 'law'")
    m, d = feature_unit(problem), problem.d
    scale = m * mean_square(problem) + problem.noise_var or 1.0
    unit = math.sqrt(m / scale)
    task, task_root = problem.task, None
    if isinstance(task, GaussianTasks):
        task_root = jnp.asarray(unit * _array(linalg.sqrt(task.cov), d), dtype)
        task = task.mean
    weights = linalg.dense(weights, d) if sampler == "data" else _array(weights, d)
    setting = Setting(
        n=jnp.int32(problem.n),
        k=jnp.int32(problem.k),
        lr=jnp.asarray(np.asarray(lr) * m**2 * scale, dtype),
        noise_var=jnp.asarray(problem.noise_var / scale, dtype),
        feature_root=jnp.asarray(_array(linalg.sqrt(problem.feature_cov), d) / math.sqrt(m), dtype),
        weights=jnp.asarray(m * weights, dtype),
        task_mean=jnp.asarray(unit * task, dtype),
        task_root=task_root,
        features=_features(problem, dtype),
        same=jnp.asarray(evaluation == "same"),
    )
    return setting, scale


def _features(problem: Problem, dtype) -> Partial:
    if problem.feature_law == "student_t":
        return Partial(_student_t, jnp.asarray(problem.dof, dtype))
    return Partial({"gaussian": jax.random.normal, "rademacher": jax.random.rademacher}[problem.feature_law])


def _student_t(dof: Float[Array, ""], key: Key[Array, ""], shape: tuple[int, ...], dtype) -> Float[Array, ...]:
    return jnp.sqrt((dof - 2) / dof) * jax.random.t(key, dof, shape, dtype)


def _array(matrix: np.ndarray, d: int) -> np.ndarray:
    """The matrix as (d,) if it is diagonal, else (d, d)."""
    matrix = linalg.simplest(matrix)
    return matrix if matrix.ndim == 2 else np.broadcast_to(matrix, (d,))
