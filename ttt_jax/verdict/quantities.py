"""What a claim may be about, read off the theory and off simulations, with their errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from ttt_jax.risk_curve import RiskCurve, RiskPath

QUANTITIES = {"initial": (0,), "risk": (1,), "gain": (0, 1), "optimal_lr": (0, 1, 2), "switch": (1,)}
"""What can be claimed, and the multiples of the step size at which it has to be simulated."""

ROUNDING = 1e-9
"""Largest relative difference of two float64 evaluations of one number, generously."""


def of_theory(quantity: str, curve: RiskCurve | RiskPath, lr: Any) -> float:
    """The value by theory; of a switch, of the risks that it compares."""
    if isinstance(curve, RiskPath):
        risk = curve.final
        return {"initial": curve.initial, "risk": risk, "switch": risk, "gain": curve.initial - risk}[quantity]
    return {
        "initial": curve.initial,
        "risk": curve.at(lr),
        "switch": curve.at(lr),
        "gain": curve.c1 * lr - curve.c2 * lr**2,
        "optimal_lr": curve.optimal_lr,
    }[quantity]


def errors_of_theory(quantity: str, curve: RiskCurve | RiskPath, lr: Any) -> tuple[float, float]:
    """The standard error of `of_theory`, and its rounding error; a gain is rounded like the risk it is part of."""
    exact = of_theory(quantity, curve, lr)
    rounding = ROUNDING * max(abs(exact), 1e-4 * curve.initial if quantity == "gain" else 0.0)
    if isinstance(curve, RiskPath) or not curve.covariance.any():
        return 0.0, rounding
    c2 = curve.c2 or math.nan
    gradient = {
        "initial": (1.0, 0.0, 0.0),
        "risk": (1.0, -lr, lr**2),
        "switch": (1.0, -lr, lr**2),
        "gain": (0.0, lr, -(lr**2)),
        "optimal_lr": (0.0, 1 / (2 * c2), -curve.c1 / (2 * c2**2)),
    }[quantity]
    return math.sqrt(max(float(np.array(gradient) @ curve.covariance @ gradient), 0.0)), rounding


def of_estimates(
    quantity: str, mean: Float[np.ndarray, " P"], covariance: Float[np.ndarray, "P P"], lr: Any, claimed: float
) -> tuple[float, float]:
    """The quantity and its standard error from simulations at the multiples of lr that it needs.

    The standard error of a ratio is that under the claim (Fieller), so that z is judged like that of c1 - 2 claimed c2:
    an lr far below the optimum hardly determines c2, and the ratio is not Gaussian.
    """
    if quantity == "optimal_lr":
        slope, curvature = np.array([3, -4, 1]) / (2 * lr), np.array([1, -2, 1]) / (2 * lr**2)  # c1, c2 of the parabola
        c1, c2 = slope @ mean, curvature @ mean
        if c2 == 0:
            raise ValueError(f"quantity must not be optimal_lr where the simulated risk is flat, got {mean.tolist()}")
        value, direction = c1 / (2 * c2), (slope / 2 - claimed * curvature) / c2
    else:
        direction = np.array([1.0, -1.0] if quantity == "gain" else [1.0])
        value = direction @ mean
    return float(value), math.sqrt(max(float(direction @ covariance @ direction), 0.0))
