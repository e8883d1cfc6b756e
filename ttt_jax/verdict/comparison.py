"""Where theory and simulation meet: one problem, its exact, asymptotic and simulated risk, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from numpy.typing import ArrayLike

from ttt_jax._internal.validate import finite_number
from ttt_jax.problem import NotApplicable, Problem
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation.driver import Estimate, estimate_risk
from ttt_jax.theory.exact import exact_risk
from ttt_jax.theory.leading_order import asymptotic_risk

__all__ = ["Comparison", "agreement_table", "compare", "critical_z", "family_verdict", "theory"]

FLOAT32_ROUNDING = 1e-6
"""Relative rounding error of a risk simulated in float32, a floor under its standard error."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The risk after one TTT step of size lr, three ways.

    Args:
        lr: the step size.
        exact: the exact curve, None where it does not apply.
        asymptotic: the leading-order curve, None where it does not apply.
        reason: why one of them does not apply, else None.
        estimate: the Monte Carlo estimate, None if none was asked for.
    """

    lr: float
    exact: RiskCurve | None
    asymptotic: RiskCurve | None
    reason: str | None
    estimate: Estimate | None

    @property
    def z(self) -> float | None:
        """(estimate - exact) / standard error, with the error of the exact value, if it has one, and of rounding."""
        if self.estimate is None or self.exact is None:
            return None
        mean, exact = self.estimate.mean, self.exact.at(self.lr)
        stderr = math.hypot(self.estimate.stderr, self.exact.stderr(self.lr), FLOAT32_ROUNDING * mean)
        if mean == exact:
            return 0.0
        return (mean - exact) / stderr if stderr else math.inf

    def __str__(self) -> str:
        lines = []
        if self.exact is not None:
            lines.append(f"risk before TTT, exact   {self.exact.initial:.6g}")
            lines.append(f"risk after TTT, exact    {self.exact.at(self.lr):.6g}")
        if self.asymptotic is not None:
            lines.append(f"  asymptotic             {self.asymptotic.at(self.lr):.6g}")
        else:
            lines.append(f"  asymptotic             none: {self.reason}")
        if self.estimate is not None:
            mean, stderr, tasks = self.estimate.mean, self.estimate.stderr, self.estimate.num_tasks
            lines.append(f"  Monte Carlo            {mean:.6g} +- {stderr:.2g}  ({tasks} tasks)")
            if self.z is not None:
                lines.append(f"  z = (Monte Carlo - exact) / stderr = {self.z:.2f}")
            if self.estimate.doubt:
                lines.append(f"  the standard error is not reliable: {self.estimate.doubt}")
        return "\n".join(lines)


def compare(
    problem: Problem,
    weights: ArrayLike,
    lr: float | None = None,
    *,
    evaluation: str = "fresh",
    num_tasks: int = 20_000,
    seed: int = 0,
    sampler: str = "data",
    x64: bool = False,
    progress: bool = False,
) -> Comparison:
    """The exact, asymptotic and Monte Carlo risk of one TTT step.

    Args:
        problem: the test-time problem.
        weights: W before the step, a scalar, (d,) or (d, d).
        lr: step size; None takes the exact optimum, or the asymptotic one where there is no exact risk.
        evaluation: "fresh" or "same" context at evaluation.
        num_tasks: simulated tasks; 0 skips the simulation.
        seed, sampler, x64, progress: as in `estimate_risk`.

    Raises:
        ValueError: naming the argument whose value has no meaning.

    Example:
        >>> import numpy as np
        >>> c = compare(Problem(n=8, k=16, task=np.ones(4) / 2), 0.0, num_tasks=4096)
        >>> abs(c.z) < 4
        True
    """
    exact, asymptotic, reason = theory(problem, weights, evaluation, seed)
    if lr is None:
        lr = best_curve(exact, asymptotic).optimal_lr
    lr = finite_number("lr", lr)
    estimate = None
    if num_tasks:
        estimate = estimate_risk(
            problem,
            weights,
            lr,
            num_tasks=num_tasks,
            seed=seed,
            evaluation=evaluation,
            sampler=sampler,
            x64=x64,
            progress=progress,
        )
    return Comparison(lr, exact, asymptotic, reason, estimate)


def best_curve(exact: RiskCurve | None, asymptotic: RiskCurve | None) -> RiskCurve:
    """The exact curve if there is one, else the asymptotic one."""
    curve = exact or asymptotic
    if curve is None:
        raise ValueError("lr must be a number for this problem, which no theory applies to, got None")
    return curve


def theory(
    problem: Problem, weights: ArrayLike, evaluation: str, seed: int = 0
) -> tuple[RiskCurve | None, RiskCurve | None, str | None]:
    """The exact and the asymptotic curve, None where one does not apply, and why.

    Example:
        >>> exact, asymptotic, reason = theory(Problem(n=8, k=16, task=[0.0]), 0.0, "fresh")
        >>> exact.initial, asymptotic, reason
        (0.0, None, "asymptotic_risk needs a task with signal, but b'Sx b = 0")
    """
    curves: list[RiskCurve | None] = []
    reasons = []
    for risk in (exact_risk, asymptotic_risk):
        try:
            curves.append(risk(problem, weights, evaluation, seed=seed))
        except NotApplicable as error:
            curves.append(None)
            reasons.append(str(error))
    exact, asymptotic = curves
    return exact, asymptotic, "; ".join(reasons) or None


def critical_z(confidence: float, count: int = 1) -> float:
    """The bound that |z| of `count` independent scores keeps, all of them, with this probability if their claims hold.

    Example:
        >>> round(critical_z(0.95), 2), round(critical_z(0.99, count=3), 2)
        (1.96, 2.93)
    """
    return NormalDist().inv_cdf((1 + confidence ** (1 / count)) / 2)


def finite_or_none(value: float | None) -> float | None:
    """The value, or None where it is not finite: JSON has no other word for it."""
    return value if value is not None and math.isfinite(value) else None


def family_verdict(zs: Sequence[float], *, level: float = 0.01) -> tuple[bool, float]:
    """Whether all z-scores of a family are compatible with their claims, and the bound on |z| that decides it.

    The bound is the Sidak-corrected quantile of the normal law: were every claim true, at least one of len(zs)
    independent scores would exceed it with probability `level`.

    Example:
        >>> agree, bound = family_verdict([0.3, -2.9, 1.0])
        >>> agree, round(bound, 2)
        (True, 2.93)
    """
    bound = critical_z(1 - level, max(len(zs), 1))
    return all(abs(z) <= bound for z in zs), bound


def agreement_table(rows: Sequence[dict[str, object]], zs: Sequence[float], unreliable: int = 0) -> str:
    """Rows of named values as aligned text columns, and below them the family-wise verdict on the z-scores.

    Example:
        >>> print(agreement_table([{"n/d": 0.5, "exact": 0.51234, "z": 0.4}], [0.4]))
        n/d   exact    z
        0.5  0.5123  0.4
        agree: all 1 cells have |z| <= 2.58 (family-wise level 1%)
    """
    header = list(rows[0])
    cells = [header] + [[_short(row[name]) for name in header] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    if not zs:
        lines.append("no verdict: no cell has a standard error that can be trusted")
        return "\n".join(lines)
    agree, bound = family_verdict(zs)
    outside = sum(not abs(z) <= bound for z in zs)
    verdict = f"agree: all {len(zs)} cells have" if agree else f"DISAGREE: {outside} of {len(zs)} cells do not have"
    lines.append(f"{verdict} |z| <= {bound:.2f} (family-wise level 1%)")
    if unreliable:
        lines.append(
            f"{unreliable} further cells are not judged: the tails of the risk make their standard error doubtful"
        )
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
