"""What the labelled pairs give without a transformer: the exact risk of least squares and of ridge regression.

With "same" a TTT step has seen n + k labelled pairs when it answers, with "fresh" those of the new context too. Risks
include the noise of the query, as `exact_risk` does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import non_negative, positive_integer
from ttt_jax.problem import NotApplicable, Problem, mean_square, require_gaussian, require_linear, require_problem
from ttt_jax.theory.wishart_density import eigenvalue_sum

__all__ = ["labelled_pairs", "least_squares_risk", "ridge_penalty", "ridge_risk"]


MOST_WORK = 4e6
"""Of the density of eigenvalues: several seconds."""
SMALLEST_POLE = 1e-300
"""Of the penalty over the variance of the features."""


def labelled_pairs(problem: Problem) -> int:
    """The labelled pairs that a TTT step has seen when it answers: n + k, and those of a new context.

    Example:
        >>> problem = Problem(n=20, k=80, task=[0.6, 0.8])
        >>> labelled_pairs(problem), labelled_pairs(Problem(20, 80, [0.6, 0.8], evaluation="same"))
        (120, 100)
    """
    require_problem(problem)
    law = problem.inference
    return problem.n + problem.k + (law.n or 0 if law.context == "fresh" else 0)


def least_squares_risk(problem: Problem, pairs: int | None = None) -> float:
    """The exact risk of least squares, of minimum norm where it is not unique, on N labelled pairs.

        N > d + 1:              sq2 + s2 tr(Sq Sx^-1) / (N - d - 1)
        d > N + 1, Sx = f I:    sq2 + q |b|^2 (1 - N/d) + s2 (q/f) N / (d - N - 1),     Sq = q I

    With noise it is infinite for |N - d| <= 1; without, it is sq2 from N = d on.

    Args:
        problem: the test-time problem; |b|^2 is its mean for random tasks.
        pairs: N, drawn from the law of training; None for `labelled_pairs`.

    Raises:
        NotApplicable: for features that are not Gaussian or have a singular covariance, for a new context of another
            law, and for N < d unless Sx and Sq are multiples of the identity.

    Example:
        >>> problem = Problem(n=20, k=80, task=np.ones(40) / 40**0.5, noise_var=0.5, evaluation="same")
        >>> round(least_squares_risk(problem), 4), round(least_squares_risk(problem, pairs=20), 4)
        (0.839, 1.5263)

    Reference: the mean of an inverse Wishart matrix; Hastie, Montanari, Rosset, Tibshirani (2022) have the limits.
    """
    n, sx, sq = _checked(problem, pairs, "least squares")
    d, s2, sq2 = problem.d, problem.noise_var, float(problem.inference.query_noise_var or 0.0)
    if s2 and abs(n - d) <= 1:
        return math.inf
    if n < d and (sx.ndim or sq.ndim):
        raise NotApplicable(f"feature_cov must be a multiple of the identity for least squares on {n} < d pairs")
    ratio = _trace_ratio(sq, sx, d)
    if n >= d:
        return sq2 + (s2 * ratio / (n - d - 1) if s2 else 0.0)
    spread = s2 * ratio / d * n / (d - n - 1) if s2 else 0.0
    return sq2 + float(sq) * mean_square(problem) * (1 - n / d) + spread


def ridge_penalty(problem: Problem) -> float:
    """The penalty s2 d / |b|^2, that of the posterior mean for b ~ N(0, |b|^2/d I): the best for isotropic features.

    Example:
        >>> ridge_penalty(Problem(n=2, k=2, task=[0.6, 0.8], noise_var=0.5))
        1.0
    """
    require_linear(problem, "the penalty of ridge regression")
    norm2 = mean_square(problem)
    return problem.noise_var * problem.d / norm2 if norm2 else math.inf


def ridge_risk(problem: Problem, penalty: float | None = None, pairs: int | None = None) -> float:
    """The exact risk of ridge regression, the minimiser of |y - X b|^2 + penalty |b|^2, for isotropic features.

        sq2 + q E sum_i (B l^2/d + s2 s_i) / (s_i + l)^2,     s_i the eigenvalues of X'X for Sx = I, l = penalty

    the mean over the density of the eigenvalues; `least_squares_risk` for a penalty of 0.

    Args:
        problem: the test-time problem; |b|^2 is its mean for random tasks.
        penalty: None for `ridge_penalty`; noise_var / v makes it the Bayes predictor of tasks b ~ N(0, v I).
        pairs: N, drawn from the law of training; None for `labelled_pairs`.

    Raises:
        NotApplicable: for features that are not Gaussian, covariances that are not multiples of the identity, a new
            context of another law, and more than about 2,000 features and pairs.

    Example:
        >>> problem = Problem(n=20, k=80, task=np.ones(40) / 40**0.5, noise_var=0.5, evaluation="same")
        >>> round(ridge_risk(problem), 4)
        0.7264
    """
    penalty = ridge_penalty(problem) if penalty is None else non_negative("penalty", penalty)
    if not penalty:
        return least_squares_risk(problem, pairs)
    n, sx, sq = _checked(problem, pairs, "ridge regression")
    if sx.ndim or sq.ndim:
        raise NotApplicable("feature_cov must be a multiple of the identity for the exact risk of ridge regression")
    d, s2, norm2 = problem.d, problem.noise_var, mean_square(problem)
    if (work := math.sqrt(n * d) * min(n, d)) > MOST_WORK:
        raise NotApplicable(f"sqrt(N d) min(N, d) must be at most {MOST_WORK:g} for the exact ridge, got {work:.3g}")
    sq2, missed = float(problem.inference.query_noise_var or 0.0), float(sq) * norm2 / d
    if math.isinf(penalty):
        return sq2 + missed * d
    if (pole := penalty / float(sx)) < SMALLEST_POLE:
        raise NotApplicable(f"penalty must be 0 or above {SMALLEST_POLE:g} for the exact ridge, got {penalty:.3g}")
    spread = s2 * float(sq / sx) / pole  # with s / pole, so that no square overflows
    live = eigenvalue_sum(lambda s: (missed + spread * (s / pole)) / (1 + s / pole) ** 2, rows=n, d=d, pole=pole)
    return sq2 + missed * max(d - n, 0) + live


def _checked(problem: Any, pairs: int | None, formula: str) -> tuple[int, np.ndarray, np.ndarray]:
    """N, Sx and Sq."""
    require_gaussian(problem, f"the exact risk of {formula}")
    law: Any = problem.inference
    sx, sq = (linalg.simplest(cov) for cov in (problem.feature_cov, law.query_feature_cov))
    smallest = np.linalg.eigvalsh(sx)[0] if sx.ndim == 2 else sx.min()
    if smallest <= problem.d * np.finfo(float).eps * np.abs(sx).max():
        raise NotApplicable(f"feature_cov must be nonsingular for the exact risk of {formula}")
    if pairs is not None:
        return positive_integer("pairs", pairs), sx, sq
    if law.context == "fresh" and (law.noise_var != problem.noise_var or np.any(_difference(law.feature_cov, problem))):
        raise NotApplicable(f"the exact risk of {formula} needs a new context of the training law")
    return labelled_pairs(problem), sx, sq


def _difference(feature_cov: np.ndarray, problem: Problem) -> np.ndarray:
    return linalg.dense(feature_cov, problem.d) - linalg.dense(problem.feature_cov, problem.d)


def _trace_ratio(sq: np.ndarray, sx: np.ndarray, d: int) -> float:
    """tr(Sq Sx^-1)."""
    if max(sq.ndim, sx.ndim) < 2:
        return float(np.sum(np.broadcast_to(sq / sx, d)))
    return float(np.trace(np.linalg.solve(linalg.dense(sx, d), linalg.dense(sq, d))))
