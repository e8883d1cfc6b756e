"""The exact risk of K-fold test-time training at finite n, k, d, by expectations of words in Wishart matrices.

Of N = n + k pairs a fold has m = N/K. With S_i = X_i'X_i of the rows of fold i and T_i the sum of the others,

    W_TT = W + 2 lr sum_i v_i u_i',    u_i = T_i b,    v_i = S_i (b - W u_i),

where noise is one more coordinate: x has an entry xi/s after the last, b has s there, W and the metrics have zeros. For
a context at inference with u_e and r_e = b - W u_e,

    c1 = 4 sum_i E[(r_e'Sq v_i)(u_i'u_e)],    c2 = 4 sum_ij E[(v_i'Sq v_j)(u_i'u_e)(u_j'u_e)].

Folds are exchangeable, so there are few different terms. A new context replaces u_e u_e' and u_e r_e' by their means;
then the terms of one fold are those of one step with n = N - m and k = m, and those of two have order 6 in three
colours. With all N pairs as the context at inference they have order 8, with that of the first fold in four colours.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import choice, weights_array
from ttt_jax.problem import GaussianTasks, Inference, NotApplicable, Problem, require_gaussian
from ttt_jax.procedures import Folds, GradientStep, procedure_for
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.theory.exact import one_step
from ttt_jax.theory.inference import at_inference
from ttt_jax.theory.risk import exact
from ttt_jax.theory.task_average import Quadrature, find_quadrature
from ttt_jax.theory.wishart_words import Words, expectation, matrix, vector, wishart

__all__ = ["CONTEXTS", "folds_curve"]

CONTEXTS = "new", "first", "all"
"""The context at inference: a new one, that of the first fold, all pairs."""


@exact.register
def exact_folds(procedure: Folds, problem: Problem, weights: np.ndarray, num_tasks: int, seed: int) -> RiskCurve:
    """The exact parabola of K folds; see `folds_curve`."""
    context = "first" if problem.inference.context == "same" else "new"
    return folds_curve(problem, weights, procedure.folds, context=context, num_tasks=num_tasks)


def folds_curve(
    problem: Problem, weights: Any, folds: int, *, context: str = "new", num_tasks: int = 10_000
) -> RiskCurve:
    """The exact risk c0 - c1 lr + c2 lr^2 of one step on K folds, each a query with the others as its context.

    Args:
        problem: with N = n + k pairs, N a multiple of K; its law at inference for a new context, whose length is
            N - N/K unless it is given, and always for the query.
        weights: W before the step, (), (d,) or (d, d), symmetric or not.
        folds: K.
        context: at inference, "new", that of the "first" fold, or "all" N pairs.
        num_tasks: for `GaussianTasks`, how many tasks an exact average may take.

    Returns:
        The curve. The first call of its kind compiles the expectations in a few seconds, for all sizes. After that the
        cost is thousands of products of a matrix and a vector: O(d) each for diagonals. The sums alternate where W is
        near its optimum, and the relative error is about 1e-15 N/d.

    Raises:
        NotApplicable: for features that are not Gaussian, and for random tasks unless every matrix is a multiple of the
            identity, or 4^rank(task covariance) <= num_tasks.

    Example:
        >>> problem = Problem(n=20, k=40, task=np.ones(20) / np.sqrt(20))
        >>> curves = [folds_curve(problem, 1 / (81 - 60 // folds), folds) for folds in (2, 5, 10, 60)]
        >>> [round(curve.optimal, 4) for curve in curves]
        [0.3393, 0.2788, 0.2616, 0.2483]

    Reference: this project; the question is left open by Gozeten et al. (ICML 2025).
    """
    choice("context", context, CONTEXTS)
    procedure_for(problem, Folds(folds))
    require_gaussian(problem, "the exact risk of K folds")
    weights, total = weights_array(weights, problem.d), problem.n + problem.k
    if not isinstance(problem.task, np.ndarray):
        tasks, chances = _tasks(problem, weights, num_tasks)
        curves = [folds_curve(replace(problem, task=task), weights, folds, context=context) for task in tasks]
        c0, c1, c2 = chances @ np.array([[curve.c0, curve.c1, curve.c2] for curve in curves])
        return RiskCurve(float(c0), float(c1), float(c2))
    m = total // folds
    split = replace(problem, n=total - m, k=m)
    law: Any
    if context != "new":
        law = problem.inference
        split = replace(
            split,
            evaluation=Inference("same", query_feature_cov=law.query_feature_cov, query_noise_var=law.query_noise_var),
        )
    one = one_step(GradientStep(), split, weights, 2, 0)
    values = _values(problem, weights) | {"S1": m, "S2": m, "S3": m, "R": (folds - 2) * m}
    if context == "new":
        law = at_inference(split)
        b, e = problem.task, law.feature_cov
        p = linalg.apply(e, b)
        along, across = law.n * (law.n + 1), law.n * (float(b @ p) + law.noise_var)  # of E u_e u_e' on pp' and Se
        values |= {"p": np.append(p, 0.0), "E": _padded(e, problem.d, 0.0)}
        pairs = sum(c * term.at(values) for c, term in zip((along, across), _new_context(), strict=True))
        c2 = folds * one.c2 + 4 * folds * (folds - 1) * law.scale**2 * pairs
        return RiskCurve(one.c0, folds * one.c1, float(c2))
    if context == "all":
        scale = split.n / total if law.rescale else 1.0
        slope, less, square, cross = (float(term.at(values)) for term in _all_pairs())
        c0 = one_step(GradientStep(), replace(split, n=total), scale * weights, 2, 0).c0
        c1, c2 = slope - scale * less, square + (folds - 1) * cross
        return RiskCurve(c0, 4 * folds * scale * c1, 4 * folds * scale**2 * c2)
    others = folds - 1
    slope, first, square = (float(term.at(values)) for term in _first_fold())
    c1, c2 = one.c1 + 4 * others * slope, one.c2 + 4 * others * (2 * first + square)
    if folds > 2:
        c2 += 4 * others * (folds - 2) * float(_first_of_three().at(values | {"R": (folds - 3) * m}))
    return RiskCurve(one.c0, c1, c2)


def _tasks(problem: Problem, weights: np.ndarray, num_tasks: int) -> Quadrature:
    """Tasks whose average is exact for polynomials of degree 6 in the task."""
    law = at_inference(problem)
    matrices = weights, problem.feature_cov, law.feature_cov, law.query_feature_cov
    quadrature = find_quadrature(
        problem.task, isotropic=all(linalg.simplest(np.asarray(a)).ndim == 0 for a in matrices), num_tasks=num_tasks
    )
    if quadrature is None:
        nodes = "4^rank(task covariance)" if isinstance(problem.task, GaussianTasks) else "(d over s) 4^s"
        raise NotApplicable(f"the exact risk of K folds needs num_tasks >= {nodes}, got {num_tasks}")
    return quadrature


def _values(problem: Problem, weights: np.ndarray) -> dict[str, Any]:
    """The fixed matrices, with a last coordinate for the noise."""
    d, query = problem.d, at_inference(problem).query_feature_cov
    matrices = {"V": (problem.feature_cov, 1.0), "W": (weights, 0.0), "Q": (query, 0.0), "P": (1.0, 0.0)}
    padded = {name: _padded(np.asarray(given), d, last) for name, (given, last) in matrices.items()}
    return padded | {"b": np.append(problem.task, math.sqrt(problem.noise_var))}


def _padded(given: np.ndarray, d: int, last: float) -> np.ndarray:
    """A diagonal (d + 1,) or dense (d + 1, d + 1) matrix."""
    given = linalg.simplest(given)
    if given.ndim < 2:
        return np.append(np.broadcast_to(given, d), last)
    padded = np.zeros((d + 1, d + 1))
    padded[:d, :d], padded[d, d] = given, last
    return padded


V, Q, P, E = (matrix(name, symmetric=True) for name in ("V", "Q", "P", "E"))
W, B, p = matrix("W"), vector("b"), vector("p")
S1, S2, S3, R = (wishart(name, V) for name in ("S1", "S2", "S3", "R"))


def _statistic(fold: Words, others: Words) -> tuple[Words, Words]:
    """u and v of a fold."""
    u = others @ B
    return u, fold @ (B - W @ u)


@cache
def _new_context() -> tuple[Words, Words]:
    """E[(v1'Sq v2)(u2'C u1)] for C = pp' and C = E, as the metrics have a zero in the last coordinate."""
    (u1, v1), (u2, v2) = _statistic(S1, S2 + R), _statistic(S2, S1 + R)
    change = v1.T @ Q @ v2
    return expectation(change * (u2.T @ p) * (p.T @ u1)), expectation(change * (u2.T @ E @ u1))


@cache
def _all_pairs() -> tuple[Words, Words, Words, Words]:
    """E[(b'Sq v1)(u1'u)], E[(u'W'Sq v1)(u1'u)], E[(v1'Sq v1)(u1'u)^2], E[(v1'Sq v2)(u1'u)(u2'u)], u of all pairs."""
    (u1, v1), (u2, v2) = _statistic(S1, R + S2), _statistic(S2, S1 + R)
    u = (S1 + S2 + R) @ B
    one, two = u1.T @ P @ u, u2.T @ P @ u
    return (
        expectation((B.T @ Q @ v1) * one),
        expectation(((W @ u).T @ Q @ v1) * one),
        expectation((v1.T @ Q @ v1) * one * one),
        expectation((v1.T @ Q @ v2) * one * two),
    )


@cache
def _first_fold() -> tuple[Words, Words, Words]:
    """E[(r'Sq v2)(u2'u)], E[(v1'Sq v2)(u'u)(u2'u)] and E[(v2'Sq v2)(u2'u)^2], u that of the first fold."""
    (u, v1), (u2, v2) = _statistic(S1, S2 + R), _statistic(S2, S1 + R)
    overlap, residual = u2.T @ P @ u, B - W @ u
    return (
        expectation((residual.T @ Q @ v2) * overlap),
        expectation((v1.T @ Q @ v2) * (u.T @ P @ u) * overlap),
        expectation((v2.T @ Q @ v2) * overlap * overlap),
    )


@cache
def _first_of_three() -> Words:
    """E[(v2'Sq v3)(u2'u)(u3'u)], u that of the first fold, R all rows but those of three."""
    u = (S2 + S3 + R) @ B
    (u2, v2), (u3, v3) = _statistic(S2, S1 + S3 + R), _statistic(S3, S1 + S2 + R)
    return expectation((v2.T @ Q @ v3) * (u2.T @ P @ u) * (u3.T @ P @ u))
