"""A claim about the risk of TTT, of the user's own making, against the exact risk and against simulation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ttt_jax.curve import RiskCurve
from ttt_jax.estimate import Estimate, estimate_risk
from ttt_jax.exact import EVALUATIONS, exact_risk
from ttt_jax.pretrain import pretrained_weights
from ttt_jax.problem import Pretraining, Problem, choice, mean_square, weights_array

__all__ = ["Check", "CheckRow", "check"]

QUANTITIES = {"initial": (0,), "risk": (1,), "gain": (0, 1), "optimal_lr": (0, 1, 2)}
"""What can be claimed, and the multiples of the step size at which it has to be simulated."""

ROUNDING = 1e-9
"""Largest relative difference of two float64 evaluations of one number, generously."""

FLOAT32_ROUNDING = 1e-6
"""Relative rounding error of a risk simulated in float32, a floor under its standard error."""

POWER = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True)
class CheckRow:
    """One problem of a check. What was not asked for (exact value, simulation) is nan.

    Args:
        n, k, d: the sizes.
        claimed: the value of the claim.
        exact: the exact value.
        relative_error: |claimed / exact - 1|.
        estimate: the simulated value.
        stderr: its standard error.
        z: (estimate - claimed) / stderr.
    """

    n: int
    k: int
    d: int
    claimed: float
    exact: float
    estimate: float
    stderr: float

    @property
    def relative_error(self) -> float:
        return abs(self.claimed / self.exact - 1) if self.exact else abs(self.claimed)

    @property
    def z(self) -> float:
        return (self.estimate - self.claimed) / self.stderr


@dataclass(frozen=True)
class Check:
    """The verdict on a claim; true in a condition if nothing speaks against it.

    Args:
        rows: one `CheckRow` per problem.
        critical: the |z| beyond which a row contradicts the claim, from the confidence of the whole family (Sidak).
        exact_ok: whether the claim agrees with the exact risk: to rounding if it is exact; if approximate, whether
            the error of the two largest sizes falls at least like d^(-1/2), where 1/d is right and d^0 is wrong. None
            if not compared.
        empirical_ok: whether the claim agrees with simulation: every |z| <= critical if it is exact; if approximate,
            whether |z| <= critical for the error extrapolated to d = infinity. None if not simulated.
        detectable: the smallest relative error of the claim (at d = infinity if approximate) that the simulation
            would have noticed with probability 95%; nan if not simulated.
        rate: the exponent of the error in d between the two largest sizes; nan unless approximate.
        limit_z: z of the simulated relative error at d = infinity; nan unless approximate and simulated.
    """

    rows: tuple[CheckRow, ...]
    critical: float
    exact_ok: bool | None
    empirical_ok: bool | None
    detectable: float
    rate: float = math.nan
    limit_z: float = math.nan

    @property
    def ok(self) -> bool:
        return self.exact_ok is not False and self.empirical_ok is not False

    __bool__ = ok.fget  # type: ignore[attr-defined]

    def __str__(self) -> str:
        lines = [f"{'n':>7}{'k':>7}{'d':>7}{'claimed':>13}{'exact':>13}{'rel. error':>12}{'simulated':>22}{'z':>7}"]
        for row in self.rows:
            simulated = f"{row.estimate:.5g}({row.stderr:.1g})"
            lines.append(
                f"{row.n:7}{row.k:7}{row.d:7}{row.claimed:13.6g}{row.exact:13.6g}{row.relative_error:12.1e}"
                f"{simulated:>22}{row.z:7.2f}"
            )
        words = {True: "agrees", False: "DISAGREES", None: "not compared"}
        rate = "" if math.isnan(self.rate) else f" (error ~ d^{self.rate:.2f})"
        lines.append(f"exact: {words[self.exact_ok]}{rate}")
        limit = "" if math.isnan(self.limit_z) else f", z at d = infinity {self.limit_z:.2f}"
        lines.append(
            f"simulation: {words[self.empirical_ok]} (critical |z| {self.critical:.2f}{limit}, "
            f"would notice a relative error of {self.detectable:.1%})"
        )
        return "\n".join(lines)


def check(
    claim: Any,
    problems: Iterable[Problem],
    *,
    weights: ArrayLike | Callable[[Problem], ArrayLike] | str = "pretrained",
    quantity: str = "risk",
    lr: float | Callable[[Problem], float] | str = "optimal",
    evaluation: str = "fresh",
    approximate: bool = False,
    num_tasks: int = 20_000,
    seed: int = 0,
    confidence: float = 0.99,
    exact: Callable[..., RiskCurve] | None = exact_risk,
    simulate: Callable[..., Any] = estimate_risk,
) -> Check:
    """Judge a formula for the risk of TTT by the exact risk and by simulation, over a grid of problems.

        exact claim:        |claimed / exact - 1| is rounding;   |estimate - claimed| <= critical stderr, every row
        approximate claim:  its error falls like 1/d;            error extrapolated to d = infinity is 0

    Args:
        claim: a function of any of n, k, d, lr, noise_var, task_norm2, problem, weights, by these names; or a sympy
            expression in the first six.
        problems: the problems to try; for an approximate claim, a sequence of sizes of one kind of problem, at least
            two with different d; simulation needs three to remove 1/d^2 as well as 1/d from the error.
        weights: W before the step, as an array, a function of the problem, "pretrained" (for isotropic tasks under
            the law of the problem) or "zero".
        quantity: what the claim is about: "initial" risk, "risk" at lr, "gain" (initial minus risk at lr), or
            "optimal_lr".
        lr: step size, a number, a function of the problem, or "optimal" for the exact optimum.
        evaluation: "fresh" or "same" context at evaluation.
        approximate: whether the claim is the leading order of something, with a relative error of order 1/d.
        num_tasks: simulated tasks per problem and step size; 0 leaves simulation out.
        seed: of the simulation; every problem and step size has a seed of its own.
        confidence: probability that a correct claim passes all comparisons with simulation.
        exact: the exact curve as a function of (problem, weights, evaluation), `exact_risk`; None leaves it out (then
            lr must be given).
        simulate: a replacement of `estimate_risk`, of the same signature, for another procedure; of
            its result only mean and stderr are used.

    Returns:
        A `Check`, true if nothing speaks against the claim; print it for the table.

    Raises:
        ValueError: naming the argument whose value has no meaning.

    Example:
        >>> problems = [Problem(n, k, np.ones(4) / 2) for n, k in ((4, 8), (10, 5))]
        >>> theorem_4_5 = lambda n, k, d: k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d)
        >>> result = check(theorem_4_5, problems, weights="zero", quantity="gain")
        >>> result.ok, result.detectable < 0.1
        (True, True)
        >>> bool(check(lambda n, k, d: k / (k + d), problems, weights="zero", quantity="gain"))
        False
    """
    choice("quantity", quantity, tuple(QUANTITIES))
    choice("evaluation", evaluation, EVALUATIONS)
    problems = tuple(problems)
    if not problems:
        raise ValueError("problems must not be empty")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if approximate:
        problems = tuple(sorted(problems, key=lambda problem: problem.d))
        if len(problems) < 2 or problems[-1].d == problems[-2].d:
            raise ValueError("problems must have at least two sizes d for an approximate claim")

    rows = []
    for i, problem in enumerate(problems):
        w = _weights(weights, problem)
        curve = exact(problem, w, evaluation) if exact else None
        step = _step_size(lr, problem, curve)
        risks = [
            simulate(
                problem, w, multiple * step, num_tasks=num_tasks, seed=seed + 3 * i + multiple, evaluation=evaluation
            )
            for multiple in QUANTITIES[quantity]
            if num_tasks
        ]
        rows.append(
            CheckRow(
                problem.n,
                problem.k,
                problem.d,
                _claimed(claim, problem, w, step),
                _of_curve(quantity, curve, step) if curve else math.nan,
                *(_of_estimates(quantity, risks, step) if risks else (math.nan, math.nan)),
            )
        )
    return _judge(tuple(rows), approximate, bool(exact), bool(num_tasks), confidence)


def _judge(rows: tuple[CheckRow, ...], approximate: bool, has_exact: bool, simulated: bool, confidence: float) -> Check:
    family = 1 if approximate else len(rows)
    critical = NormalDist().inv_cdf((1 + confidence ** (1 / family)) / 2)
    exact_ok = empirical_ok = None
    detectable = rate = limit_z = math.nan
    if not approximate:
        if has_exact:
            exact_ok = all(row.relative_error <= ROUNDING for row in rows)
        if simulated:
            empirical_ok = all(abs(row.z) <= critical for row in rows)
            detectable = (critical + POWER) * min(row.stderr / abs(row.estimate) for row in rows)
    else:
        before, last = rows[-2:]
        if has_exact:
            rate = math.log(max(last.relative_error, ROUNDING) / max(before.relative_error, ROUNDING))
            rate /= math.log(last.d / before.d)
            exact_ok = rate <= -0.5 or last.relative_error <= ROUNDING
        if simulated:
            errors = [row.estimate / row.claimed - 1 for row in rows]
            stderrs = [row.stderr / abs(row.claimed) for row in rows]
            limit, stderr = value_at_infinity([row.d for row in rows], errors, stderrs)
            limit_z = limit / stderr
            empirical_ok = abs(limit_z) <= critical
            detectable = (critical + POWER) * stderr
    return Check(rows, critical, exact_ok, empirical_ok, detectable, rate, limit_z)


def value_at_infinity(sizes: Sequence[int], values: Sequence[float], stderrs: Sequence[float]) -> tuple[float, float]:
    """The intercept c of values = c + c'/d + c''/d^2 and its standard error, by weighted least squares.

    With two sizes only, the term 1/d^2 is left out.
    """
    weight = 1 / np.asarray(stderrs)
    powers = range(min(3, len(sizes)))
    design = weight[:, None] * np.array([[float(d) ** -power for power in powers] for d in sizes])
    covariance = np.linalg.inv(design.T @ design)
    return float((covariance @ design.T @ (weight * np.asarray(values)))[0]), math.sqrt(covariance[0, 0])


def _of_curve(quantity: str, curve: RiskCurve, lr: float) -> float:
    return {
        "initial": curve.initial,
        "risk": curve.at(lr),
        "gain": curve.c1 * lr - curve.c2 * lr**2,
        "optimal_lr": curve.optimal_lr,
    }[quantity]


def _of_estimates(quantity: str, risks: Sequence[Estimate], lr: float) -> tuple[float, float]:
    """The quantity and its standard error from independent simulations at the multiples 0, 1, 2 of lr that it needs."""
    mean = np.array([risk.mean for risk in risks])
    stderr = np.hypot([risk.stderr for risk in risks], FLOAT32_ROUNDING * mean)
    if quantity == "gain":
        return float(mean[0] - mean[1]), float(np.hypot(*stderr))
    if quantity != "optimal_lr":
        return float(mean[0]), float(stderr[0])
    slope, curvature = np.array([3, -4, 1]) / (2 * lr), np.array([1, -2, 1]) / (2 * lr**2)  # c1, c2 of the parabola
    c1, c2 = slope @ mean, curvature @ mean
    gradient = slope / (2 * c2) - c1 * curvature / (2 * c2**2)
    return float(c1 / (2 * c2)), float(np.linalg.norm(gradient * stderr))


def _claimed(claim: Any, problem: Problem, weights: np.ndarray, lr: float) -> float:
    numbers = {
        "n": problem.n,
        "k": problem.k,
        "d": problem.d,
        "lr": lr,
        "noise_var": problem.noise_var,
        "task_norm2": mean_square(problem),
    }
    if hasattr(claim, "free_symbols"):
        names = {str(symbol): symbol for symbol in claim.free_symbols}
        _known(names, numbers)
        return float(claim.subs({symbol: numbers[name] for name, symbol in names.items()}))
    parameters = inspect.signature(claim).parameters
    values = numbers | {"problem": problem, "weights": weights}
    _known(parameters, values)
    return float(claim(**{name: values[name] for name in parameters}))


def _known(names: Iterable[str], values: dict) -> None:
    unknown = sorted(set(names) - set(values))
    if unknown:
        raise ValueError(f"claim may use {', '.join(values)}, got {', '.join(unknown)}")


def _weights(weights: Any, problem: Problem) -> np.ndarray:
    if callable(weights):
        weights = weights(problem)
    if isinstance(weights, str):
        choice("weights", weights, ("pretrained", "zero"))
        if weights == "zero":
            return np.zeros(())
        law = Pretraining(problem.n, problem.feature_cov, noise_var=problem.noise_var, d=problem.d)
        return pretrained_weights(law, dense=False)
    return weights_array(weights, problem.d)


def _step_size(lr: Any, problem: Problem, curve: RiskCurve | None) -> float:
    if callable(lr):
        return float(lr(problem))
    if isinstance(lr, str):
        choice("lr", lr, ("optimal",))
        if curve is None:
            raise ValueError("lr must be a number or a function of the problem where there is no exact curve")
        return curve.optimal_lr
    return float(lr)
