"""The exact expected risk of one TTT step at finite n, k, d: a parabola in the step size.

Notation: p = Sx b, tau = b'Sx b + s2, u = X'y, r = b - W u. With t ~ chi2(n),

    u | t  ~  N(t p, t G),     G = tau Sx - p p',                                     (mixture law)

because a row x regressed on its own label y is p y/tau plus an independent N(0, G/tau). Likewise v = Xt'(yt - Xt W u)
given r, with k for n and r for b, so that E[v v' | r] is a known quadratic in r. What remains are moments of the kind
E[f(u) r'Q r] with f(u) = u'F u or |u|^4; Stein's lemma gives them given t, and moments of chi2(n) then average over t.
Deviations are taken about n p and n, so no digits are lost to cancellation when n is large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ttt_jax._internal.linalg import Operator, Scalar, inner, namespace, operator, outer, trace
from ttt_jax.problem import Problem, require_gaussian, second_moment
from ttt_jax.procedures import GradientStep
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.theory.inference import AtInference, at_inference
from ttt_jax.theory.risk import exact
from ttt_jax.theory.task_average import average_over_tasks

__all__ = ["risk_coefficients"]

Polynomial = dict[int, Any]
"""Coefficients of powers of t: numbers or scalar arrays."""


@exact.register
def one_step(procedure: GradientStep, problem: Problem, weights: np.ndarray, num_tasks: int, seed: int) -> RiskCurve:
    """The exact risk of one gradient step, averaged over random tasks; see `exact_risk`."""
    require_gaussian(problem, "exact_risk")
    curve = average_over_tasks(risk_coefficients, problem, weights, procedure, num_tasks, seed)
    if isinstance(problem.evaluation, str) and procedure.left is None and procedure.right is None:
        curve = replace(curve, c1=max(curve.c1, 0.0))  # a sum of squares: rounding may leave -1e-17
    if not curve.covariance.any():
        return curve
    covariance = curve.covariance.copy()
    covariance[0] = covariance[:, 0] = 0.0
    return RiskCurve(_mean_initial_risk(problem, weights), curve.c1, curve.c2, covariance)


def _mean_initial_risk(problem: Problem, weights: np.ndarray) -> float:
    """E c0 over random tasks: c0 is b'A b + const, and E b'A b = m'A m + tr(A C) for E bb' = mm' + C."""
    (task_mean, task_cov), d = second_moment(problem.task), problem.d
    law: Any = at_inference(problem)
    matrices = law.feature_cov, law.query_feature_cov, weights, task_cov
    is_dense = max(np.ndim(a) for a in matrices) == 2
    se, sq, w, cov = (operator(np.asarray(a), d, dense=is_dense) for a in matrices)
    n, w = float(law.n), float(law.scale) * w
    wse = w @ se
    spread = n * inner(wse, sq @ w)  # n tr(W'Sq W Se)
    keep = operator(np.ones(()), d, dense=is_dense) + (-n) * wse
    quadratic = keep.T @ (sq @ keep) + n * (wse.T @ (sq @ wse)) + spread * se
    quadratic_mean = task_mean @ (quadratic @ task_mean) + inner(quadratic, cov)
    return float(quadratic_mean + law.noise_var * spread + law.query_noise_var)


def risk_coefficients(
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
    """The coefficients (c0, c1, c2) of risk(lr) = c0 - c1 lr + c2 lr^2, a pure function of arrays.

    Given JAX arrays it can be jitted, vmapped and differentiated in every argument but `evaluation`; given NumPy arrays
    it compiles nothing. n and k may be any positive reals.
    The cost is O(d) if every matrix is a scalar or a diagonal, else O(d^3); the precision is that of the arguments.
    The step is W - lr L grad R. With u, r of the context of training, u_e, r_e = b - W u_e of that at inference,
    M = E u r', M_e = E u_e r_e', C_e = E u_e u_e' and A = L'Sq L:

        c0 = sq2 + E r_e'Sq r_e
        c1 = 4 k tr(Sx L'Sq M_e'R'M)                (fresh)     4 k E[(u'R u) r'Sx L'Sq r]            (same)
        c2 = 4 E[u'R C_e R'u (r'Q r + q)]           (fresh)     4 E[(u'R u)^2 (r'Q r + q)]            (same)
        Q  = k (k+1) Sx A Sx + k tr(Sx A) Sx,   q = s2 k tr(Sx A)

    Args:
        task: the task vector b, (d,).
        feature_cov: Sx, (), (d,) or (d, d).
        noise_var: s2, the variance of the label noise.
        weights: W, (), (d,) or (d, d).
        n: number of context pairs.
        k: number of training queries.
        evaluation: "fresh" or "same" context at inference.
        inference: the law at inference; None for that of training. With "same" only its query counts.
        left, right: L and R, (), (d,) or (d, d); None for the identity.

    Example:
        >>> import jax.numpy as jnp
        >>> c0, c1, c2 = risk_coefficients(jnp.ones(4) / 2, jnp.ones(()), 0.0, jnp.zeros(()), 8.0, 2.0)
        >>> float(c0), float(c1), float(c2)   # c1/(2 c2) is Theorem 4.5's 1/[2 (k+d+1) (n^2+4n+3+d)]
        (1.0, 512.0, 369152.0)
    """
    if inference is None:
        inference = AtInference(n, feature_cov, noise_var, feature_cov, noise_var, 1.0)
    matrices = feature_cov, inference.feature_cov, inference.query_feature_cov, weights, left, right
    xp = namespace(task, noise_var, n, k, inference, matrices)
    # The coefficients have degree 2, 4 and 6 in (b, s): unit scale keeps them inside the range of float32.
    square = task @ task + noise_var
    scale = xp.where(square > 0, square, 1.0)
    b, s2 = task / xp.sqrt(scale), noise_var / scale
    d = len(task)
    is_dense = any(np.ndim(matrix) == 2 for matrix in matrices if matrix is not None)
    sx, se, sq, w, l, r = (operator(xp.asarray(1.0 if a is None else a, b.dtype), d, dense=is_dense) for a in matrices)

    p = sx @ b
    tau = b @ p + s2
    g = tau * sx + (-1.0) * outer(p, p, like=sx)
    u_cov = n * (g + (2.0 * outer(p, p, like=sx)))  # Var(t) p p' + E[t] G
    e = b - n * (w @ p)  # E r
    sq_l = sq if left is None else sq @ l
    a = sq if left is None else l.T @ sq_l
    sx_a = sx @ a
    q_matrix = k * (k + 1) * (sx_a @ sx) + (k * trace(sx_a)) * sx
    q_noise = s2 * k * trace(sx_a)

    if evaluation == "fresh":
        n_e, w_e = inference.n, inference.scale * w
        p_e = se @ b
        pp_e = outer(p_e, p_e, like=sx)
        u_cov_e = n_e * ((b @ p_e + inference.noise_var / scale) * se + pp_e)
        e_e = b - n_e * (w_e @ p_e)
        c0 = e_e @ (sq @ e_e) + inner(w_e @ u_cov_e, sq @ w_e)
        train = (n * outer(p, sx @ e, like=sx)) + (-1.0) * (u_cov @ (w.T @ sx))  # E[u r'] Sx
        infer = (n_e * outer(p_e, sq_l.T @ e_e, like=sx)) + (-1.0) * (u_cov_e @ (w_e.T @ sq_l))  # E[u_e r_e'] Sq L
        second_e = u_cov_e + (n_e * n_e * pp_e)
        if right is not None:
            infer, second_e = r @ infer, r @ (second_e @ r.T)
        c1 = 4 * k * inference.scale * inner(infer, train)
        f = _quadratic(inference.scale**2 * second_e, p, g)
    else:
        c0 = e @ (sq @ e) + inner(w @ u_cov, sq @ w)
        r = 0.5 * (r + r.T)
        pull = sx @ sq_l.T
        c1 = 4 * k * _expected_product(_quadratic(r, p, g), n, p, g, e, w, 0.5 * (pull + pull.T))
        f = _squared_quadratic(r, p, g)
    c0 = inference.query_noise_var / scale + c0
    c2 = 4 * (_expected_product(f, n, p, g, e, w, q_matrix) + q_noise * _chi2_mean(f.value, n))
    return c0 * scale, c1 * scale**2, c2 * scale**3


class _Factor(NamedTuple):
    """A factor f(u) with, given t and u ~ N(t p, t G), its mean and the two other terms of Stein's lemma."""

    value: Polynomial  # E f
    slope: list[tuple[int, Any, Float[Any, " d"]]]  # t G E[grad f] = sum of c t^a vector
    curvature: Callable[[Operator], Polynomial]  # K G -> polynomial tr(K t G E[hess f] t G)


def _quadratic(f: Operator, p: Float[Any, " d"], g: Operator) -> _Factor:
    """f(u) = u'F u for symmetric F."""
    fg = f @ g
    return _Factor(
        value={2: p @ (f @ p), 1: trace(fg)},
        slope=[(2, 2.0, g @ (f @ p))],
        curvature=lambda kg: {2: 2 * inner(kg.T, fg)},
    )


def _squared_quadratic(f: Operator, p: Float[Any, " d"], g: Operator) -> _Factor:
    """f(u) = (u'F u)^2 for symmetric F."""
    fp, fg = f @ p, f @ g
    gfp = g @ fp
    pfp, tr1, tr2 = p @ fp, trace(fg), inner(fg.T, fg)

    def curvature(kg):
        kgfg = kg @ fg
        tr_kgfg = trace(kgfg)
        return {4: 4 * pfp * tr_kgfg + 8 * (fp @ (g @ (kg @ fp))), 3: 4 * tr1 * tr_kgfg + 8 * inner(kgfg.T, fg)}

    return _Factor(
        value={4: pfp**2, 3: 2 * pfp * tr1 + 4 * (fp @ gfp), 2: tr1**2 + 2 * tr2},
        slope=[(4, 4 * pfp, gfp), (3, 4 * tr1, gfp), (3, 8.0, g @ (f @ gfp))],
        curvature=curvature,
    )


def _expected_product(f: _Factor, n, p, g, e, w, q: Operator) -> Scalar:
    """E[f(u) r'Q r] for r = e - W (u - n p).

    Given t, r = e - (t - n) W p - W z with z ~ N(0, t G), and Stein's lemma says E[f z] = t G E[grad f] and
    E[f z z'] = t G E[f] + t G E[hess f] t G.
    """
    k_matrix = w.T @ (q @ w)
    kg = k_matrix @ g
    wp = w @ p
    shifted = [(0, e @ (q @ e)), (1, -2 * (e @ (q @ wp))), (2, wp @ (q @ wp))]  # (e - s W p)'Q(e - s W p), s = t - n
    total = sum(coefficient * _chi2_mean(f.value, n, shift) for shift, coefficient in shifted)
    for power, coefficient, vector in f.slope:
        qwv = q @ (w @ vector)
        for shift, other in ((0, e), (1, -wp)):
            total -= 2 * coefficient * (other @ qwv) * _chi2_mean({power: 1.0}, n, shift)
    total += trace(kg) * _chi2_mean({power + 1: c for power, c in f.value.items()}, n)
    return total + _chi2_mean(f.curvature(kg), n)


def _chi2_mean(polynomial: Polynomial, n: Scalar, shift: int = 0) -> Scalar:
    """E[poly(t) (t - n)^shift] for t ~ chi2(n) and shift 0, 1 or 2.

    E[t^a h(t)] = n (n+2) ... (n+2a-2) E[h(t')] with t' ~ chi2(n + 2a).
    """
    total: Any = 0.0
    for a, coefficient in polynomial.items():
        moment = reduce(lambda m, j: m * (n + 2 * j), range(a), 1.0)
        total += coefficient * moment * (1.0, 2.0 * a, 2 * n + 4 * a + 4 * a**2)[shift]
    return total
