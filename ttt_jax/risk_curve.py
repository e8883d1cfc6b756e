"""What theory answers: the risk as a function of one step size, or after each of several steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from ttt_jax._internal.validate import finite_number, real_array, shown
from ttt_jax.procedures import Procedure, as_procedure

__all__ = ["RiskCurve", "RiskPath"]


@dataclass(frozen=True, eq=False)
class RiskCurve:
    """The parabola risk(lr) = c0 - c1 lr + c2 lr^2 of one gradient step of size lr.

    Args:
        c0: risk before the step.
        c1: minus the slope at lr = 0; negative where any step hurts.
        c2: curvature, never negative.
        covariance: (3, 3) covariance of the errors of (c0, c1, c2) where tasks were sampled, else zero.

    Example:
        >>> curve = RiskCurve(1.0, 4.0, 8.0)
        >>> curve.optimal_lr, curve.optimal, curve.at(0.5), curve.largest_improving_lr
        (0.25, 0.5, 1.0, 0.5)
    """

    c0: float
    c1: float
    c2: float
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))

    @property
    def initial(self) -> float:
        """Risk before the step."""
        return self.c0

    def at(self, lr):
        """Risk after a step of size lr (a number or an array); inf or nan where it overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            lr = real_array("lr", lr)
            risk = self.c0 - self.c1 * lr + self.c2 * lr**2
        return risk if lr.ndim else float(risk)

    @property
    def optimal_lr(self) -> float:
        """The step size of smallest risk, c1 / (2 c2); 0 where no step helps."""
        return self.largest_improving_lr / 2

    @property
    def optimal(self) -> float:
        """The smallest risk, c0 - c1^2 / (4 c2)."""
        return self.at(self.optimal_lr)

    @property
    def largest_improving_lr(self) -> float:
        """Every step size between 0 and c1 / c2 lowers the risk; 0 where no step helps."""
        return self.c1 / self.c2 if self.c1 > 0 and self.c2 > 0 else 0.0

    def after(self, procedure: Procedure | float | str) -> float:
        """Risk after the procedure, at its step size or, if that is free, at the optimal one.

        Raises:
            ValueError: if the procedure is not of one step size.
        """
        step: Any = as_procedure(procedure)
        if not hasattr(step, "lr"):
            raise ValueError(f"procedure must have one step size, got {shown(step)}")
        lr = step.lr
        return self.optimal if lr == "optimal" else self.at(lr)

    def stderr(self, lr: float) -> float:
        """Standard error of at(lr), from the sampling of random tasks; 0 for a fixed task."""
        lr = finite_number("lr", lr)
        if not self.covariance.any():
            return 0.0
        direction = np.array([1.0, -lr, lr**2])
        return math.sqrt(max(float(direction @ self.covariance @ direction), 0.0))


@dataclass(frozen=True, eq=False)
class RiskPath:
    """The risk after 0, 1, ..., T steps of given sizes.

    Args:
        risks: (T + 1,), label noise included.

    Example:
        >>> RiskPath(np.array([1.0, 0.5, 0.4])).final
        0.4
    """

    risks: Float[np.ndarray, " steps_plus_1"]

    @property
    def initial(self) -> float:
        """Risk before the first step."""
        return float(self.risks[0])

    @property
    def final(self) -> float:
        """Risk after the last step."""
        return float(self.risks[-1])

    def after(self, procedure: Procedure | None = None) -> float:
        """Risk after the procedure that this path is of."""
        return self.final
