"""TTT from weights that were trained on finitely many prompts, to leading order.

N = theta d^2 prompts of one query each, fitted by ridge regression in the d^2 entries of W (`trained_weights`). The
risk of a step depends on W by |b - n W b|^2 and |W|_F^2 alone, and so on the first two moments of a trained W. As n, k,
d and sqrt(N) grow together these are those of a regression on independent Gaussian features with independent noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ttt_jax._internal.validate import non_negative, positive_integer, positive_number
from ttt_jax.problem import (
    NotApplicable,
    Problem,
    mean_square,
    require_gaussian,
    require_identity,
    require_training_law,
)
from ttt_jax.risk_curve import RiskCurve

__all__ = ["finite_pretraining_risk", "finite_pretraining_switch"]


class _Fit(NamedTuple):
    """What a trained W leaves: the risk without TTT, label noise included, and A = E |b - n W b|^2."""

    risk: float
    misfit: float


def _fit(n_over_d: float, theta: float, norm2: float, noise_var: float, ridge: float) -> _Fit:
    """The two by the formulas of `finite_pretraining_risk`; ridge is l there."""
    if theta == 1 and not ridge:
        raise NotApplicable("num_prompts must differ from d^2 without ridge: the risk is infinite there")
    q = n_over_d * norm2 / (n_over_d * norm2 + norm2 + noise_var)
    left = norm2 + noise_var - q * norm2
    half = (1 + theta + ridge) / 2
    learned = theta / (half + math.sqrt(half**2 - theta))
    bias = (1 - learned) ** 2 * q * norm2
    risk = (bias + left) / (1 - learned**2 / theta)
    return _Fit(risk, norm2 * (1 - learned * q) ** 2 + q * (risk - left - bias))


def finite_pretraining_risk(problem: Problem, num_prompts: int, *, ridge: float = 0.0) -> RiskCurve:
    """One TTT step from the weights that fit num_prompts pretraining prompts best, isotropic, to leading order.

        theta = num_prompts/d^2,   l = ridge/[n d (n B + d tau)],   tau = B + s2
        q = a B/(a B + tau),   s = tau - q B,   rho = the smaller root of rho^2 - (1 + theta + l) rho + theta

        initial: R = [(1 - rho)^2 q B + s] / (1 - rho^2/theta)
                 A = B (1 - rho q)^2 + q [R - s - (1 - rho)^2 q B],   D = k (R - s2) + d R
        fresh:   gain k A^2/D         at lr = A/(2 n^2 B D)
        same:    gain k (R - s2)^2/D  at lr = (R - s2)/[2 (n^2 B + n d tau) D]

    rho is the share of W* that is learned, min(1, theta) without ridge. There and without noise, for B = 1,
    R = theta/[(theta-1)(1+a)] above the peak at theta = 1, and [1/(1-theta) + (1-theta) a]/(1+a) below it. The relative
    error is of order 1/d, with a constant that grows toward the peak.

    Args:
        problem: the test-time problem, Sx = I, one task; pretraining has its n and noise, and new tasks
            b ~ N(0, (B/d) I) in every prompt.
        num_prompts: number of pretraining prompts, N.
        ridge: the penalty of `trained_weights`.

    Returns:
        The risk as a function of the step size.

    Raises:
        ValueError: if num_prompts or ridge is invalid.
        NotApplicable: for other features, another law at inference, random tasks or a task of 0; at the peak.

    Example:
        >>> problem = Problem(n=500, k=2000, task=[1.0] + [0.0] * 999)
        >>> curve = finite_pretraining_risk(problem, 3 * 1000**2)        # theta = 3, a = 1/2, g = 2
        >>> round(curve.initial, 4), round(curve.optimal, 4)
        (1.0, 0.7942)

    Reference: Lu et al. (arXiv 2405.11751) for R; A, and with it the risk after TTT, are this project's.
    """
    positive_integer("num_prompts", num_prompts)
    non_negative("ridge", ridge)
    formula = "the risk after finite pretraining"
    require_gaussian(problem, formula)
    require_identity(problem, formula)
    require_training_law(problem, formula)
    if not isinstance(problem.task, np.ndarray) or not mean_square(problem):
        raise NotApplicable(f"task must be one vector other than 0 for {formula}")
    n, k, d, s2, norm2 = problem.n, problem.k, problem.d, problem.noise_var, mean_square(problem)
    length = n * (n * norm2 + d * (norm2 + s2))  # E |u|^2
    risk, misfit = _fit(n / d, num_prompts / d**2, norm2, s2, ridge / (d * length))
    if problem.inference.context == "fresh":
        slope, size = misfit, n**2 * norm2
    else:
        slope, size = risk - s2, length
    curvature = k * (risk - s2) + d * risk
    return RiskCurve(risk, 4 * k * size * slope, 4 * k * size**2 * curvature)


def finite_pretraining_switch(n_over_d: float, prompts_over_d2: float) -> float:
    """The ratio g* = k/d below which trained weights beat W = 0 after one step, a new context, to leading order.

        g* = R (1 - R)/(R^2 - A^2),   0 where R >= 1,   for B = 1, without noise and ridge

    R < 1 iff |theta - 1| > 1/a. With the same context at inference trained weights win at every k, or, where R > 1, at
    none.

    Args:
        n_over_d: a = n/d.
        prompts_over_d2: theta = num_prompts/d^2.

    Raises:
        ValueError: unless both are positive.

    Example:
        >>> finite_pretraining_switch(0.5, 3.0)
        0.0
        >>> round(finite_pretraining_switch(0.5, 1e9), 6)        # Corollary 4.6
        0.9

    Reference: Corollary 5.4 of Gozeten et al. (ICML 2025), with the R and A of trained weights.
    """
    a, theta = positive_number("n_over_d", n_over_d), positive_number("prompts_over_d2", prompts_over_d2)
    if a * abs(theta - 1) <= 1:
        return 0.0
    risk, misfit = _fit(a, theta, 1.0, 0.0, 0.0)
    return risk * (1 - risk) / (risk**2 - misfit**2)
