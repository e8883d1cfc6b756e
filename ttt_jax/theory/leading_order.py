"""Leading-order risk for large n, k, d growing together. Every risk here includes the label noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ttt_jax._internal import linalg
from ttt_jax._internal.linalg import Scalar, inner, namespace, operator, trace
from ttt_jax.problem import NotApplicable, Problem, second_moment
from ttt_jax.procedures import GradientStep
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.theory.inference import AtInference, at_inference
from ttt_jax.theory.risk import leading_order
from ttt_jax.theory.task_average import average_over_tasks

__all__ = ["asymptotic_coefficients"]


@leading_order.register
def one_step(procedure: GradientStep, problem: Problem, weights: np.ndarray, num_tasks: int, seed: int) -> RiskCurve:
    """The leading order of one gradient step, averaged over random tasks; see `asymptotic_risk`."""
    task, sx = problem.task, problem.feature_cov
    means = [task]
    if not isinstance(task, np.ndarray):
        mean, cov = second_moment(task)
        means = [mean, *linalg.sqrt(linalg.dense(cov, task.d))]
    signals = [linalg.apply(sx, b) for b in means]
    if not any(np.any(p) for p in signals):
        raise NotApplicable("asymptotic_risk needs a task with signal, but b'Sx b = 0")
    if problem.inference.context == "fresh":
        right = np.ones(()) if procedure.right is None else procedure.right
        law = at_inference(problem)
        overlap = [
            p @ linalg.apply(right, linalg.apply(law.feature_cov, b)) for p, b in zip(signals, means, strict=True)
        ]
        if not any(overlap):
            raise NotApplicable("asymptotic_risk needs contexts that share a direction, but p'R p_e = 0")
    return average_over_tasks(asymptotic_coefficients, problem, weights, procedure, num_tasks, seed)


def asymptotic_coefficients(
    task: Float[Any, " d"],
    feature_cov: Float[Any, ...],
    noise_var: Scalar,
    weights: Float[Any, ...],
    n: Scalar,
    k: Scalar,
    *,
    evaluation: str = "fresh",
    inference: AtInference | None = None,
    left: Float[Any, ...] | None = None,
    right: Float[Any, ...] | None = None,
) -> tuple[Scalar, Scalar, Scalar]:
    """The parabola (c0, c1, c2) of `asymptotic_risk`, a pure function of arrays like `exact.risk_coefficients`.

    Example:
        >>> import jax.numpy as jnp
        >>> c0, c1, c2 = asymptotic_coefficients(jnp.ones(4) / 2, jnp.ones(()), 0.0, jnp.zeros(()), 8.0, 2.0)
        >>> float(c0 - c1**2 / (4 * c2))     # cold start: 1 - g/(1+g)
        0.6666666269302368
    """
    if inference is None:
        inference = AtInference(n, feature_cov, noise_var, feature_cov, noise_var, 1.0)
    d = len(task)
    matrices = feature_cov, inference.feature_cov, inference.query_feature_cov, weights, left, right
    xp = namespace(task, noise_var, n, k, inference, matrices)
    is_dense = any(np.ndim(matrix) == 2 for matrix in matrices if matrix is not None)
    sx, se, sq, w, l, r = (
        operator(xp.asarray(1.0 if a is None else a, task.dtype), d, dense=is_dense) for a in matrices
    )
    p = sx @ task
    tau = task @ p + noise_var
    e = task - n * (w @ p)
    wsx = w @ sx

    def misfit(matrix):  # E r'matrix r of the training context
        return e @ (matrix @ e) + n * tau * inner(wsx.T, w.T @ matrix)

    sq_l = sq if left is None else sq @ l
    sx_a = sx @ (sq if left is None else l.T @ sq_l)
    curvature = k * misfit(sx_a @ sx) + trace(sx_a) * (misfit(sx) + noise_var)
    if evaluation == "fresh":
        n_e, w_e = inference.n, inference.scale * w
        p_e = se @ task
        e_e, wse = task - n_e * (w_e @ p_e), w_e @ se
        spread = n_e * (task @ p_e + inference.noise_var) * inner(wse.T, w_e.T @ sq)
        initial = e_e @ (sq @ e_e) + spread
        slope, size = e @ (sx @ (sq_l.T @ e_e)), inference.scale * n * n_e * (p @ (r @ p_e))
    else:
        initial = misfit(sq)
        slope, size = misfit(sx @ sq_l.T), n**2 * (p @ (r @ p)) + n * tau * trace(r @ sx)
    return initial + inference.query_noise_var, 4 * k * size * slope, 4 * k * size**2 * curvature
