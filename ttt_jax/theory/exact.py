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

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ttt_jax._internal.linalg import Operator, inner, operator, outer, trace
from ttt_jax._internal.validate import choice, weights_array
from ttt_jax.problem import EVALUATIONS, Problem, require_gaussian
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.theory.task_average import average_over_tasks

__all__ = ["exact_risk", "risk_coefficients"]

Polynomial = dict[int, Any]
"""Coefficients of powers of t: numbers or scalar arrays."""


def exact_risk(
    problem: Problem, weights: ArrayLike, evaluation: str = "fresh", *, num_tasks: int = 10_000, seed: int = 0
) -> RiskCurve:
    """The exact expected risk after one TTT step from W, for every step size at once.

        risk(lr) = E (y - x' W_TT u)^2 = c0 - c1 lr + c2 lr^2,     W_TT = W - lr grad L_train(W)

    Args:
        problem: the test-time problem; the risk includes its label noise and is not normalised by |b|^2.
        weights: the weights W before the step, a scalar (times the identity), (d,) or (d, d), symmetric or not.
        evaluation: "fresh" draws a new context for the new query, as the paper does; "same" reuses the TTT context.
        num_tasks: for `GaussianTasks`, how many tasks to average c1 and c2 over where they have no closed form.
        seed: for `GaussianTasks`, the seed of these tasks.

    Returns:
        A `RiskCurve`. For `GaussianTasks` it is the averaged parabola, whose optimum is the best one step size for all
        tasks: E c1 / (2 E c2), not the average of the tasks' optima. c0 is always exact; c1 and c2 are if feature_cov
        and W are multiples of the identity, or if 4^rank(task covariance) <= num_tasks. Else they are averages over
        sampled tasks, and `RiskCurve.stderr` says how precise.

    Raises:
        ValueError: if W does not fit the problem or the evaluation is unknown.

    Example:
        >>> import numpy as np
        >>> problem = Problem(n=20, k=40, task=np.ones(20) / np.sqrt(20))
        >>> curve = exact_risk(problem, 1 / 41)
        >>> round(curve.initial, 4), round(curve.optimal, 4)
        (0.5122, 0.4559)

    Reference: Lemma B.2 and Theorem 4.5 of Gozeten et al. (ICML 2025) are the special cases lr = 0 and W = 0; the
    general formula is this project's.
    """
    choice("evaluation", evaluation, EVALUATIONS)
    require_gaussian(problem, "exact_risk")
    curve = average_over_tasks(risk_coefficients, problem, weights, evaluation, num_tasks, seed)
    if not curve.covariance.any():
        return replace(curve, c1=max(curve.c1, 0.0))  # rounding may leave -1e-17 where no step helps
    covariance = curve.covariance.copy()
    covariance[0] = covariance[:, 0] = 0.0
    return RiskCurve(_mean_initial_risk(problem, weights_array(weights, problem.d)), curve.c1, curve.c2, covariance)


def _mean_initial_risk(problem: Problem, weights: np.ndarray) -> float:
    """E c0 over b ~ N(mean, cov): c0 is b'A b + const, and E b'A b = mean'A mean + tr(A cov)."""
    tasks, d, n, s2 = problem.task, problem.d, problem.n, problem.noise_var
    is_dense = max(np.ndim(a) for a in (problem.feature_cov, weights, tasks.cov)) == 2
    with jax.enable_x64(True):
        sx, w, cov = (operator(jnp.asarray(a), d, dense=is_dense) for a in (problem.feature_cov, weights, tasks.cov))
        wsx = w @ sx
        spread = n * inner(wsx, sx @ w)  # n tr(W'Sx W Sx)
        keep = operator(jnp.ones(()), d, dense=is_dense) + (-float(n)) * wsx
        quadratic = keep.T @ (sx @ keep) + float(n) * (wsx.T @ (sx @ wsx)) + spread * sx
        mean = jnp.asarray(tasks.mean)
        return float(mean @ (quadratic @ mean) + inner(quadratic, cov) + s2 * spread + s2)


def risk_coefficients(
    task: Float[Array, " d"],
    feature_cov: Float[Array, ...],
    noise_var: Float[Array, ""],
    weights: Float[Array, ...],
    n: Float[Array, ""],
    k: Float[Array, ""],
    *,
    evaluation: str = "fresh",
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """The coefficients (c0, c1, c2) of risk(lr) = c0 - c1 lr + c2 lr^2, a pure function of arrays.

    It can be jitted, vmapped and differentiated in every argument but `evaluation`; n and k may be any positive reals.
    The cost is O(d) if feature_cov and weights are scalars or diagonals, else O(d^3); the precision is that of the
    arguments.

        c0 = s2 + E r'Sx r
        c1 = 4 k |E[u r'] Sx|_F^2                        (fresh)     4 k E[|u|^2 r'Sx^2 r]            (same)
        c2 = 4 E[u'C u (r'Q r + q)],  C = E uu'          (fresh)     4 E[|u|^4 (r'Q r + q)]           (same)
        Q  = k (k+1) Sx^3 + k tr(Sx^2) Sx,   q = s2 k tr(Sx^2)

    Args:
        task: the task vector b, (d,).
        feature_cov: Sx, (), (d,) or (d, d).
        noise_var: s2, the variance of the label noise.
        weights: W, (), (d,) or (d, d).
        n: number of context pairs.
        k: number of training queries.
        evaluation: "fresh" or "same" context at evaluation.

    Example:
        >>> import jax.numpy as jnp
        >>> c0, c1, c2 = risk_coefficients(jnp.ones(4) / 2, jnp.ones(()), 0.0, jnp.zeros(()), 8.0, 2.0)
        >>> float(c0), float(c1), float(c2)   # c1/(2 c2) is Theorem 4.5's 1/[2 (k+d+1) (n^2+4n+3+d)]
        (1.0, 512.0, 369152.0)
    """
    # The coefficients have degree 2, 4 and 6 in (b, s): unit scale keeps them inside the range of float32.
    square = task @ task + noise_var
    scale = jnp.where(square > 0, square, 1.0)
    b, s2 = task / jnp.sqrt(scale), noise_var / scale
    d = len(task)
    is_dense = jnp.ndim(feature_cov) == 2 or jnp.ndim(weights) == 2
    sx, w = (operator(jnp.asarray(a), d, dense=is_dense) for a in (feature_cov, weights))

    p = sx @ b
    tau = b @ p + s2
    g = tau * sx + (-1.0) * outer(p, p, like=sx)
    u_cov = n * (g + (2.0 * outer(p, p, like=sx)))  # Var(t) p p' + E[t] G
    e = b - n * (w @ p)  # E r
    sx2 = sx @ sx
    q_matrix = k * (k + 1) * (sx2 @ sx) + (k * trace(sx2)) * sx
    q_noise = s2 * k * trace(sx2)

    c0 = s2 + e @ (sx @ e) + inner(w @ u_cov, sx @ w)
    if evaluation == "fresh":
        gradient = (n * outer(p, sx @ e, like=sx)) + (-1.0) * (u_cov @ (w.T @ sx))  # E[u r'] Sx
        c1 = 4 * k * inner(gradient, gradient)
        f = _quadratic(u_cov + (n * n * outer(p, p, like=sx)), p, g)
    else:
        identity = operator(jnp.ones_like(tau), d, dense=is_dense)
        c1 = 4 * k * _expected_product(_quadratic(identity, p, g), n, p, g, e, w, sx2)
        f = _fourth_power(p, g)
    c2 = 4 * (_expected_product(f, n, p, g, e, w, q_matrix) + q_noise * _chi2_mean(f.value, n))
    return c0 * scale, c1 * scale**2, c2 * scale**3


class _Factor(NamedTuple):
    """A factor f(u) with, given t and u ~ N(t p, t G), its mean and the two other terms of Stein's lemma."""

    value: Polynomial  # E f
    slope: list[tuple[int, Any, Float[Array, " d"]]]  # t G E[grad f] = sum of c t^a vector
    curvature: Callable[[Operator], Polynomial]  # K G -> polynomial tr(K t G E[hess f] t G)


def _quadratic(f: Operator, p: Float[Array, " d"], g: Operator) -> _Factor:
    """f(u) = u'F u for symmetric F."""
    fg = f @ g
    return _Factor(
        value={2: p @ (f @ p), 1: trace(fg)},
        slope=[(2, 2.0, g @ (f @ p))],
        curvature=lambda kg: {2: 2 * inner(kg.T, fg)},
    )


def _fourth_power(p: Float[Array, " d"], g: Operator) -> _Factor:
    """f(u) = |u|^4."""
    gp = g @ p
    ggp = g @ gp
    pp, tr1, tr2 = p @ p, trace(g), inner(g, g)

    def curvature(kg):
        kgg = kg @ g
        tr_kgg = trace(kgg)
        return {4: 4 * pp * tr_kgg + 8 * (p @ (g @ (kg @ p))), 3: 4 * tr1 * tr_kgg + 8 * inner(kgg.T, g)}

    return _Factor(
        value={4: pp**2, 3: 2 * pp * tr1 + 4 * (p @ gp), 2: tr1**2 + 2 * tr2},
        slope=[(4, 4 * pp, gp), (3, 4 * tr1, gp), (3, 8.0, ggp)],
        curvature=curvature,
    )


def _expected_product(f: _Factor, n, p, g, e, w, q: Operator) -> Float[Array, ""]:
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


def _chi2_mean(polynomial: Polynomial, n: Float[Array, ""], shift: int = 0) -> Float[Array, ""]:
    """E[poly(t) (t - n)^shift] for t ~ chi2(n) and shift 0, 1 or 2.

    E[t^a h(t)] = n (n+2) ... (n+2a-2) E[h(t')] with t' ~ chi2(n + 2a).
    """
    total = jnp.zeros_like(n)
    for a, coefficient in polynomial.items():
        moment = reduce(lambda m, j: m * (n + 2 * j), range(a), jnp.ones_like(n))
        total += coefficient * moment * (1.0, 2.0 * a, 2 * n + 4 * a + 4 * a**2)[shift]
    return total
