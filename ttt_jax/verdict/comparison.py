"""Where theory and simulation meet: the risk of one procedure, exactly, to leading order and by simulation."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttt_jax._internal.plural import counted
from ttt_jax._internal.validate import integer_from, level_number, shown, weights_array
from ttt_jax.problem import NotApplicable, Problem
from ttt_jax.procedures import Procedure, as_procedure, has_free_lr, with_lr
from ttt_jax.risk_curve import RiskCurve, RiskPath
from ttt_jax.simulation import Estimate, estimate_risk
from ttt_jax.theory import asymptotic_risk, exact_risk
from ttt_jax.theory.prompt_law import known_law
from ttt_jax.verdict.agreement import finite_or_none

__all__ = ["Comparison", "compare"]

FLOAT32_ROUNDING = 1e-6
"""Relative rounding error of a risk simulated in float32, a floor under its standard error."""

Theory = RiskCurve | RiskPath | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The risk after one procedure, three ways.

    Args:
        procedure: what was done, its step size resolved.
        exact: the exact `RiskCurve` or `RiskPath`, None where it does not apply.
        asymptotic: that to leading order, None where it does not apply.
        reason: why one of them does not apply, else None.
        estimate: the Monte Carlo estimate, None if none was asked for.
        variance: of one prompt's risk, where it is known exactly; else None.
    """

    procedure: Procedure
    exact: Theory
    asymptotic: Theory
    reason: str | None
    estimate: Estimate | None
    variance: float | None = None

    @property
    def lr(self) -> float | None:
        """The step size; None for several steps."""
        return getattr(self.procedure, "lr", None)

    @property
    def z(self) -> float | None:
        """(estimate - exact) / standard error, with the error of the exact value, if it has one, and of rounding.

        After several steps, of the risk after the last.
        """
        return self._z(-1)

    @property
    def stderr_exact(self) -> bool:
        """Whether the standard error comes from the exact variance, not from the sample."""
        return self.variance is not None and self.estimate is not None and math.isfinite(_at(self.estimate.stderr, -1))

    def stderr(self, step: int = -1) -> float:
        """Standard error of the estimate: from the exact variance where it is known, else from the sample; or nan."""
        if self.estimate is None:
            return math.nan
        if self.stderr_exact and self.variance is not None:
            return math.sqrt(max(self.variance, 0.0) / self.estimate.num_tasks)
        return _at(self.estimate.stderr, step)

    def _z(self, step: int) -> float | None:
        if self.estimate is None or self.exact is None:
            return None
        mean, exact = _at(self.estimate.mean, step), self._risk(self.exact, step)
        sampled = self.exact.stderr(self.lr or 0.0) if isinstance(self.exact, RiskCurve) else 0.0
        stderr = math.hypot(self.stderr(step), sampled, FLOAT32_ROUNDING * mean)
        if mean == exact:
            return 0.0
        return (mean - exact) / stderr if stderr else math.inf

    def _risk(self, curve: RiskCurve | RiskPath, step: int) -> float:
        return float(curve.risks[step]) if isinstance(curve, RiskPath) else curve.after(self.procedure)

    def row(self, unit: float = 1.0, step: int = -1) -> dict[str, Any]:
        """One record: what does not exist or is not finite is None, with its reason in `note`.

        Args:
            unit: what risks are divided by.
            step: of several, after which one; the last by default.
        """
        estimate = self.estimate
        after: dict[str, float | None] = {"exact": None, "asymptotic": None}
        for name in after:
            if (curve := getattr(self, name)) is not None:
                after[name] = finite_or_none(self._risk(curve, step) / unit)
        row = {"lr": self.lr, "initial": None if self.exact is None else self.exact.initial / unit, **after}
        notes = [self.reason or ""]
        if estimate is None:
            return row | {"note": "; ".join(filter(None, notes))}
        if estimate.num_nonfinite:
            notes.append(f"the risk of {counted(estimate.num_nonfinite, 'task')} is not finite: no mean")
        elif estimate.stderr_reliable is None:
            notes.append("the reliability of the standard error is not assessed")
        elif not estimate.stderr_reliable:
            doubt = "the mean is far from normal" if self.stderr_exact else "the standard error is doubtful"
            notes.append(f"too few tasks for the tails of the risk: {doubt}")
        return row | {
            "estimate": finite_or_none(_at(estimate.mean, step) / unit),
            "stderr": finite_or_none(self.stderr(step) / unit),
            "stderr_exact": self.stderr_exact,
            "stderr_reliable": estimate.stderr_reliable,
            "z": finite_or_none(self._z(step)),
            "num_tasks": estimate.num_tasks,
            "num_nonfinite": estimate.num_nonfinite,
            "skewness": finite_or_none(estimate.skewness),
            "kurtosis": finite_or_none(estimate.kurtosis),
            "sampler": estimate.sampler,
            "seed": estimate.seed,
            "block_size": estimate.block_size,
            "note": "; ".join(filter(None, notes)),
        }

    def __str__(self) -> str:
        lines = []
        if self.exact is not None:
            lines.append(f"risk before TTT, exact   {self.exact.initial:.6g}")
            lines.append(f"risk after TTT, exact    {self.exact.after(self.procedure):.6g}")
        if self.asymptotic is not None:
            lines.append(f"  asymptotic             {self.asymptotic.after(self.procedure):.6g}")
        if self.reason:
            lines.append(f"  not applicable         {self.reason}")
        if self.estimate is not None:
            mean, stderr = _at(self.estimate.mean, -1), self.stderr()
            error = f" +- {stderr:.2g}" if math.isfinite(stderr) else ""
            value = f"{mean:.6g}{error}" if math.isfinite(mean) else "no value"
            lines.append(f"  Monte Carlo            {value}  ({counted(self.estimate.num_tasks, 'task')})")
            if finite_or_none(self.z) is not None:
                lines.append(f"  z = (Monte Carlo - exact) / stderr = {self.z:.2f}  (chance: |z| < 2.6)")
            if self.estimate.stderr_reliable is None:
                lines.append("  the reliability of the standard error is not assessed")
            elif self.estimate.doubt:
                what = "z" if self.stderr_exact else "the standard error"
                lines.append(f"  {what} is not reliable: {self.estimate.doubt}")
        return "\n".join(lines)


def compare(
    problem: Problem,
    start: Any,
    procedure: Procedure | float | str = "optimal",
    *,
    num_tasks: int = 20_000,
    **options: Any,
) -> Comparison:
    """The exact, asymptotic and Monte Carlo risk of one procedure.

    Args:
        problem: the test-time problem.
        start: W of linear attention, a scalar, (d,) or (d, d); or (model, params), for the estimate alone.
        procedure: what is done at test time; a number is the step size of one gradient step. A step size left
            "optimal" is the exact optimum, or the asymptotic one where there is no exact risk.
        num_tasks: simulated tasks; 0 skips the simulation.
        options: of `estimate_risk`, by keyword.

    Raises:
        ValueError: if an argument is invalid, or a step size is left "optimal" where no theory applies.

    Example:
        >>> c = compare(Problem(n=8, k=16, task=np.ones(4) / 2), 0.0, num_tasks=4096)
        >>> abs(c.z) < 4
        True
    """
    integer_from(0, "num_tasks", num_tasks)
    procedure = as_procedure(procedure)
    exact, asymptotic, reason = theory(problem, start, procedure, options.get("seed", 0))
    procedure = resolved(procedure, exact, asymptotic, reason)
    variance, estimate = exact_variance(problem, start, procedure), None
    if num_tasks:
        target = options.get("target_relative_stderr")
        if target is not None and variance is not None and exact is not None:
            num_tasks = tasks_for(
                level_number("target_relative_stderr", target), exact.after(procedure), variance, num_tasks
            )
            options["target_relative_stderr"] = None
        estimate = estimate_risk(problem, start, procedure, num_tasks=num_tasks, **options)
    return Comparison(procedure, exact, asymptotic, reason, estimate, variance)


def tasks_for(target: float, mean: float, variance: float, most: int) -> int:
    """The number of tasks whose mean has this relative standard error; at least 2, and at most so many.

    Example:
        >>> tasks_for(0.1, 2.0, 1.0, 1000), tasks_for(0.01, 2.0, 1.0, 1000), tasks_for(0.1, 2.0, 0.0, 1000)
        (25, 1000, 2)
    """
    return min(most, max(2, math.ceil(variance / (target * mean) ** 2))) if mean else most


def exact_variance(problem: Problem, start: Any, procedure: Procedure) -> float | None:
    """The variance of one prompt's risk; None where `risk_law` would have to sample it.

    Example:
        >>> from ttt_jax.procedures import Folds, GradientStep
        >>> problem = Problem(n=12, k=18, task=[1.0, 0.0], evaluation="same")
        >>> round(exact_variance(problem, 0.0, GradientStep(0.0)), 3), exact_variance(problem, [0.1, 0.2], Folds(3))
        (0.0, None)
    """
    if isinstance(start, tuple):
        return None
    with contextlib.suppress(NotApplicable):
        variance = known_law(procedure, problem, weights_array(start, problem.d)).var
        return finite_or_none(variance)
    return None


def resolved(procedure: Procedure, exact: Theory, asymptotic: Theory, reason: str | None) -> Procedure:
    """The procedure with the exact optimal step size, or the asymptotic one, where it was left free.

    ValueError where the risk after it overflows.
    """
    if has_free_lr(procedure):
        curve = exact or asymptotic
        if not isinstance(curve, RiskCurve):
            raise ValueError(f"lr must be a number, got 'optimal': {reason}")
        procedure = with_lr(procedure, curve.optimal_lr)
    require_finite(procedure, exact, asymptotic)
    return procedure


def require_finite(procedure: Procedure, *curves: Theory) -> None:
    """ValueError where the risk after the procedure overflows."""
    if not all(math.isfinite(curve.after(procedure)) for curve in curves if curve is not None):
        raise ValueError(f"the risk after {shown(procedure)} overflows float64: lower the step size")


def theory(problem: Any, start: Any, procedure: Any = "optimal", seed: Any = 0) -> tuple[Theory, Theory, str | None]:
    """The exact risk and the leading order, None where one does not apply, and why.

    Example:
        >>> exact, asymptotic, reason = theory(Problem(n=8, k=16, task=[0.0]), 0.0)
        >>> exact.initial, asymptotic, reason
        (0.0, None, "asymptotic_risk needs a task with signal, but b'Sx b = 0")
    """
    found: list[Theory] = []
    reasons = []
    for risk in (exact_risk, asymptotic_risk):
        try:
            found.append(risk(problem, start, procedure, seed=seed))
        except NotApplicable as error:
            found.append(None)
            reasons.append(str(error))
    exact, asymptotic = found
    return exact, asymptotic, "; ".join(reasons) or None


def _at(values: Any, step: int) -> float:
    return float(np.atleast_1d(values)[step])
