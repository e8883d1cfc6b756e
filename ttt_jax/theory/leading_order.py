"""Leading-order risk for large n, k, d growing together. Every risk here includes the label noise."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.linalg import inner, operator, trace
from ttt_jax._internal.validate import choice
from ttt_jax.problem import EVALUATIONS, GaussianTasks, NotApplicable, Problem
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.theory.task_average import average_over_tasks

__all__ = ["asymptotic_coefficients", "asymptotic_risk"]


def asymptotic_risk(
    problem: Problem, weights: ArrayLike, evaluation: str = "fresh", *, num_tasks: int = 10_000, seed: int = 0
) -> RiskCurve:
    """The risk after one TTT step to leading order in n, k, d growing together, for any Sx, W and noise.

    With e = R (b - n W p), V = R W R, R = Sx^(1/2), A_j = e'Sx^j e, B_j = n tau tr(Sx^j V V'), R_j = A_j + B_j,
    D = k R_2 + tr(Sx^2) (R_0 + s2) and U = n^2 |p|^2 + n tau tr Sx:

        initial = R_0 + s2;     fresh: gain k A_1^2 / D at lr = A_1 / (2 n^2 |p|^2 D);
                                same:  gain k R_1^2 / D at lr = R_1 / (2 U D).

    The error of the risk is O(1/d) as long as no few directions of Sx or W dominate tr(Sx^2) and tr(Sx^j V V').

    Args:
        problem: the test-time problem.
        weights: W before the step, a scalar, (d,) or (d, d).
        evaluation: "fresh" or "same" context at evaluation.
        num_tasks: for `GaussianTasks`, how many tasks to average over.
        seed: for `GaussianTasks`, the seed of these tasks.

    Raises:
        NotApplicable: for a task without signal (Sx b = 0), where the leading order is 0/0.

    Example:
        >>> problem = Problem(n=500, k=2000, task=np.ones(1000) / np.sqrt(1000))
        >>> curve = asymptotic_risk(problem, 1 / 1501)      # 1/(1+a) - g/(1+g)/(1+a)^3 at a = 1/2, g = 2
        >>> abs(curve.optimal - (1 / 1.5 - 2 / 3 / 1.5**3)) < 1e-3
        True

    Reference: this project's correction of Theorem C.4, of which Theorems 4.2 and 5.3 are the isotropic cases.
    """
    choice("evaluation", evaluation, EVALUATIONS)
    task, sx = problem.task, problem.feature_cov
    means = [task.mean, *linalg.sqrt(linalg.dense(task.cov, task.d))] if isinstance(task, GaussianTasks) else [task]
    if not any(np.any(linalg.apply(sx, b)) for b in means):
        raise NotApplicable("asymptotic_risk needs a task with signal, but b'Sx b = 0")
    return average_over_tasks(asymptotic_coefficients, problem, weights, evaluation, num_tasks, seed)


def asymptotic_coefficients(
    task: Float[Array, " d"],
    feature_cov: Float[Array, ...],
    noise_var: Float[Array, ""],
    weights: Float[Array, ...],
    n: Float[Array, ""],
    k: Float[Array, ""],
    *,
    evaluation: str = "fresh",
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """The parabola (c0, c1, c2) of `asymptotic_risk`, a pure function of arrays like `exact.risk_coefficients`.

    Example:
        >>> import jax.numpy as jnp
        >>> c0, c1, c2 = asymptotic_coefficients(jnp.ones(4) / 2, jnp.ones(()), 0.0, jnp.zeros(()), 8.0, 2.0)
        >>> float(c0 - c1**2 / (4 * c2))     # cold start: 1 - g/(1+g)
        0.6666666269302368
    """
    d = len(task)
    is_dense = jnp.ndim(feature_cov) == 2 or jnp.ndim(weights) == 2
    sx, w = (operator(jnp.asarray(a), d, dense=is_dense) for a in (feature_cov, weights))
    sx2 = sx @ sx
    p = sx @ task
    tau = task @ p + noise_var
    e = task - n * (w @ p)
    wsx = w @ sx
    a0, a1, a2 = e @ (sx @ e), e @ (sx2 @ e), e @ (sx2 @ (sx @ e))
    r0, r1, r2 = (a + n * tau * inner(wsx.T, w.T @ matrix) for a, matrix in ((a0, sx), (a1, sx2), (a2, sx2 @ sx)))
    curvature = k * r2 + trace(sx2) * (r0 + noise_var)
    if evaluation == "fresh":
        slope, size = a1, n**2 * (p @ p)
    else:
        slope, size = r1, n**2 * (p @ p) + n * tau * trace(sx)
    return r0 + noise_var, 4 * k * size * slope, 4 * k * size**2 * curvature
