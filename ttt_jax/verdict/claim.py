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

from ttt_jax._internal.validate import boolean, choice, finite_number, seed_integer
from ttt_jax.problem import EVALUATIONS, Problem, mean_square
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation import Estimate, estimate_risk
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.comparison import FLOAT32_ROUNDING
from ttt_jax.verdict.infinity import limit_with_resolution, looks_asymptotic, value_at_infinity

__all__ = ["Check", "CheckRow", "check"]

QUANTITIES = {"initial": (0,), "risk": (1,), "gain": (0, 1), "optimal_lr": (0, 1, 2)}
"""What can be claimed, and the multiples of the step size at which it has to be simulated."""

ROUNDING = 1e-9
"""Largest relative difference of two float64 evaluations of one number, generously."""

MOST_CONFIDENCE = 1 - 1e-9

COARSE = 0.1
"""An error, or an uncertainty of its limit, that is too large for a verdict on the leading order to mean much."""

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
        stderr_reliable: False where z is not judged, as in `Estimate`.
        exact_stderr: standard error of the exact value, where `exact_risk` had to sample tasks; else 0.
        exact_rounding: rounding error of the exact value.
    """

    n: int
    k: int
    d: int
    claimed: float
    exact: float
    estimate: float
    stderr: float
    stderr_reliable: bool
    exact_stderr: float
    exact_rounding: float

    @property
    def relative_error(self) -> float:
        if abs(self.claimed - self.exact) <= self.exact_rounding:
            return 0.0
        return abs(self.claimed / self.exact - 1) if self.exact else math.inf

    @property
    def z(self) -> float:
        return (self.estimate - self.claimed) / self.stderr if self.stderr else math.nan


@dataclass(frozen=True)
class Check:
    """The verdict on a claim; true in a condition if it was compared with something and nothing speaks against it.

    Args:
        rows: one `CheckRow` per problem.
        critical: the |z| beyond which a row contradicts the claim, from the confidence of the whole family (Sidak).
        exact_ok: whether the claim agrees with the exact risk: to rounding (and critical standard errors, where tasks
            were sampled) if it is exact; if approximate, whether |limit| <= resolution. None if not compared, or not
            resolved.
        empirical_ok: whether the claim agrees with simulation: every |z| <= critical if it is exact; if approximate,
            whether its error at d = infinity is within critical standard errors and the resolution of the
            extrapolation. Only rows of reliable standard error count; None if there are too few.
        detectable: the smallest relative error, common to all rows (if approximate, at d = infinity), that the
            simulation would have noticed with probability 95%; nan if not simulated.
        rate: the exponent of the error in d between the two largest sizes; nan unless approximate.
        limit: claimed / exact - 1, extrapolated to d = infinity; nan unless approximate.
        resolution: how uncertain this extrapolation is; nan unless approximate.
        limit_z: z of the simulated relative error at d = infinity; nan unless approximate and simulated.
        resolved: False where an approximate claim exceeds the resolution, but the sizes are too small to say so: the
            error does not yet fall like 1/d. It is then neither confirmed nor refused.
    """

    rows: tuple[CheckRow, ...]
    critical: float
    exact_ok: bool | None
    empirical_ok: bool | None
    detectable: float
    rate: float = math.nan
    limit: float = math.nan
    resolution: float = math.nan
    limit_z: float = math.nan
    resolved: bool = True

    @property
    def ok(self) -> bool:
        verdicts = self.exact_ok, self.empirical_ok
        return True in verdicts and False not in verdicts

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{'n':>7}{'k':>7}{'d':>7}{'claimed':>13}{'exact':>13}{'rel. error':>12}{'simulated':>22}{'z':>7}"]
        for row in self.rows:
            exact = "-", "-"
            if not math.isnan(row.exact):
                exact = f"{row.exact:.6g}", f"{row.relative_error:.1e}"
            simulated = "-", "-"
            if not math.isnan(row.estimate):
                mark = "" if row.stderr_reliable else "*"
                simulated = f"{row.estimate:.5g}({row.stderr:.1g})", f"{row.z:.2f}{mark}"
            lines.append(
                f"{row.n:7}{row.k:7}{row.d:7}{row.claimed:13.6g}{exact[0]:>13}{exact[1]:>12}"
                f"{simulated[0]:>22}{simulated[1]:>7}"
            )
        words = {True: "agrees", False: "DISAGREES", None: "not compared"}
        verdict = words[self.exact_ok] if self.resolved else "not resolved"
        lines.append(f"exact: {verdict}{self._exact_detail()}")
        lines.append(f"simulation: {words[self.empirical_ok]}{self._empirical_detail()}")
        if not all(row.stderr_reliable for row in self.rows):
            lines.append("* not judged: too few tasks for the tails of the risk")
        return "\n".join(lines)

    def _exact_detail(self) -> str:
        if not math.isnan(self.limit):
            limit = f"{100 * self.limit:+.2g}% +- {100 * self.resolution:.2g}%"
            is_coarse = not self.resolved or max(self.resolution, self.rows[-1].relative_error) > COARSE
            hint = "; larger d would tell more" if is_coarse else ""
            return f" (error ~ d^{self.rate:.2f}, at d = infinity {limit}{hint})"
        if self.exact_ok is False and max(row.relative_error for row in self.rows) < FLOAT32_ROUNDING:
            return " (by no more than the rounding of float32: is the claim evaluated in float64?)"
        return ""

    def _empirical_detail(self) -> str:
        if self.empirical_ok is None:
            return ""
        limit = "" if math.isnan(self.limit_z) else f", z at d = infinity {self.limit_z:.2f}"
        return f" (critical |z| {self.critical:.2f}{limit}, would notice a relative error of {self.detectable:.1%})"


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
        approximate claim:  both errors, extrapolated to d = infinity by polynomials in 1/d, are 0

    Args:
        claim: a function of any of n, k, d, lr, noise_var, task_norm2, problem, weights, by these names; or a sympy
            expression in the first six. Evaluate it in float64; parameters of other names keep their defaults.
        problems: the problems to try; for an approximate claim, a sequence of sizes of one kind of problem, at least
            two, of different d; three remove 1/d^2 as well as 1/d from the error.
        weights: W before the step, as an array, a function of the problem, "zero", or "pretrained": W* for tasks
            b ~ N(0, I) under the n, feature_cov and noise_var of the problem. Its own task does not enter: with
            noise, W* for tasks of another length is another one.
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
            its result mean and stderr are used, and stderr_reliable if it has one.

    Returns:
        A `Check`, true if something was compared and nothing speaks against the claim; print it for the table.

    Raises:
        ValueError: naming the argument whose value has no meaning.

    Example:
        >>> problems = [Problem(n, k, np.ones(4) / 2) for n, k in ((40, 8), (60, 4))]
        >>> theorem_4_5 = lambda n, k, d: k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d)
        >>> result = check(theorem_4_5, problems, weights="zero", quantity="gain")
        >>> result.ok, result.detectable < 0.1
        (True, True)
        >>> bool(check(lambda n, k, d: k / (k + d), problems, weights="zero", quantity="gain"))
        False
    """
    choice("quantity", quantity, tuple(QUANTITIES))
    choice("evaluation", evaluation, EVALUATIONS)
    boolean("approximate", approximate)
    problems = _problems(problems, approximate)
    seed = seed_integer(seed)
    if not 0 < finite_number("confidence", confidence) <= MOST_CONFIDENCE:
        raise ValueError(f"confidence must be between 0 and 1 - 1e-9, got {confidence}")
    if exact is None and not num_tasks:
        raise ValueError("num_tasks must be positive where exact is None, or there is nothing to compare with, got 0")

    rows = []
    for i, problem in enumerate(problems):
        w = starting_weights(weights(problem) if callable(weights) else weights, problem, problem.n)
        curve = exact(problem, w, evaluation) if exact else None
        step = _step_size(lr, problem, curve)
        if quantity == "optimal_lr" and num_tasks and not step:
            raise ValueError("lr must not be 0 where the optimal_lr is simulated; num_tasks=0 leaves simulation out")
        risks = [
            simulate(
                problem, w, multiple * step, num_tasks=num_tasks, seed=seed + 3 * i + multiple, evaluation=evaluation
            )
            for multiple in QUANTITIES[quantity]
            if num_tasks
        ]
        claimed = _claimed(claim, problem, w, step)
        rows.append(
            CheckRow(
                problem.n,
                problem.k,
                problem.d,
                claimed,
                _of_curve(quantity, curve, step) if curve else math.nan,
                *(_of_estimates(quantity, risks, step, claimed) if risks else (math.nan, math.nan)),
                all(getattr(risk, "stderr_reliable", True) for risk in risks),
                *(_errors_of_curve(quantity, curve, step) if curve else (0.0, 0.0)),
            )
        )
        if approximate and not (rows[-1].claimed and rows[-1].exact):
            raise ValueError(f"an approximate claim has a relative error, but its value is 0 at d = {problem.d}")
    return _judge(tuple(rows), approximate, bool(exact), bool(num_tasks), confidence)


def _judge(rows: tuple[CheckRow, ...], approximate: bool, has_exact: bool, simulated: bool, confidence: float) -> Check:
    judged = [row for row in rows if simulated and row.stderr_reliable and 0 < row.stderr < math.inf]
    family = 1 if approximate else max(len(judged), 1)
    critical = critical_z(confidence, family)
    exact_ok = empirical_ok = None
    detectable = rate = limit = resolution = limit_z = math.nan
    resolved = True
    if has_exact and approximate:
        sizes, errors = [row.d for row in rows], [row.claimed / row.exact - 1 for row in rows]
        before, last = (max(row.relative_error, ROUNDING) for row in rows[-2:])
        rate = math.log(last / before) / math.log(sizes[-1] / sizes[-2])
        limit, resolution = limit_with_resolution(sizes, errors)
        shares = [limit_with_resolution(sizes, unit)[0] for unit in np.eye(len(rows)).tolist()]
        noise = math.hypot(*(c * row.exact_stderr / row.exact for c, row in zip(shares, rows, strict=True)))
        resolution = max(resolution, ROUNDING) + critical * noise
        exact_ok = abs(limit) <= resolution
        resolved = exact_ok or looks_asymptotic(sizes, errors)
    elif has_exact:
        exact_ok = all(abs(r.claimed - r.exact) <= r.exact_rounding + critical * r.exact_stderr for r in rows)
    if approximate and len(judged) >= 2:
        largest = judged[-3:]
        sizes, errors = [row.d for row in largest], [row.estimate / row.claimed - 1 for row in largest]
        error, stderr = value_at_infinity(sizes, errors, [row.stderr / abs(row.claimed) for row in largest])
        without_noise = [row.claimed / row.exact - 1 for row in largest] if has_exact else errors
        truncation = limit_with_resolution(sizes, without_noise)[1]
        limit_z = error / stderr
        empirical_ok = abs(error) <= critical * stderr + truncation
        detectable = (critical + POWER) * stderr + truncation
    elif judged and not approximate:
        empirical_ok = all(abs(row.z) <= critical for row in judged)
        detectable = (critical + POWER) * min(row.stderr / abs(row.estimate or math.nan) for row in judged)
    if not resolved:  # nor is the simulated error then ready to be extrapolated
        exact_ok = empirical_ok = None
    return Check(rows, critical, exact_ok, empirical_ok, detectable, rate, limit, resolution, limit_z, resolved)


def _of_curve(quantity: str, curve: RiskCurve, lr: float) -> float:
    return {
        "initial": curve.initial,
        "risk": curve.at(lr),
        "gain": curve.c1 * lr - curve.c2 * lr**2,
        "optimal_lr": curve.optimal_lr,
    }[quantity]


def _errors_of_curve(quantity: str, curve: RiskCurve, lr: float) -> tuple[float, float]:
    """The standard error of `_of_curve`, and its rounding error; a gain is rounded like the risk it is part of."""
    exact = _of_curve(quantity, curve, lr)
    rounding = ROUNDING * max(abs(exact), 1e-4 * curve.initial if quantity == "gain" else 0.0)
    if not curve.covariance.any():
        return 0.0, rounding
    c2 = curve.c2 or math.nan
    gradient = {
        "initial": (1.0, 0.0, 0.0),
        "risk": (1.0, -lr, lr**2),
        "gain": (0.0, lr, -(lr**2)),
        "optimal_lr": (0.0, 1 / (2 * c2), -curve.c1 / (2 * c2**2)),
    }[quantity]
    return math.sqrt(max(float(np.array(gradient) @ curve.covariance @ gradient), 0.0)), rounding


def _of_estimates(quantity: str, risks: Sequence[Estimate], lr: float, claimed: float) -> tuple[float, float]:
    """The quantity and its standard error from independent simulations at the multiples 0, 1, 2 of lr that it needs.

    The standard error of a ratio is that under the claim (Fieller), so that z is judged like that of c1 - 2 claimed c2:
    an lr far below the optimum hardly determines c2, and the ratio is not Gaussian.
    """
    mean = np.array([risk.mean for risk in risks])
    stderr = np.hypot([risk.stderr for risk in risks], FLOAT32_ROUNDING * mean)
    if quantity == "gain":
        return float(mean[0] - mean[1]), float(np.hypot(*stderr))
    if quantity != "optimal_lr":
        return float(mean[0]), float(stderr[0])
    slope, curvature = np.array([3, -4, 1]) / (2 * lr), np.array([1, -2, 1]) / (2 * lr**2)  # c1, c2 of the parabola
    c1, c2 = slope @ mean, curvature @ mean
    return float(c1 / (2 * c2)), float(np.linalg.norm((slope / 2 - claimed * curvature) / c2 * stderr))


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
        _known(map(str, claim.free_symbols), numbers)
        value = claim.subs({symbol: numbers[str(symbol)] for symbol in claim.free_symbols})
    elif callable(claim):
        values = numbers | {"problem": problem, "weights": weights}
        parameters = inspect.signature(claim).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        _known([p.name for p in named if p.default is p.empty], values)
        value = claim(**{p.name: values[p.name] for p in named if p.name in values})
    else:
        raise ValueError(f"claim must be a function or a sympy expression, got {claim!r}")
    try:
        number = math.nan if np.iscomplexobj(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        at = f"n = {problem.n}, k = {problem.k}, d = {problem.d}"
        raise ValueError(f"claim must give a finite real number, got {value} at {at}")
    return number


def _problems(problems: Iterable[Problem], approximate: bool) -> tuple[Problem, ...]:
    if isinstance(problems, Problem):
        raise ValueError("problems must be a sequence of Problem, got one Problem: put it in a list")
    problems = tuple(problems)
    if not problems:
        raise ValueError("problems must not be empty")
    for problem in problems:
        if not isinstance(problem, Problem):
            raise ValueError(f"problems must be of type Problem, got {problem!r}")
    if approximate:
        problems = tuple(sorted(problems, key=lambda problem: problem.d))
        sizes = [problem.d for problem in problems]
        if len(sizes) < 2 or len(set(sizes)) < len(sizes):
            raise ValueError(f"problems must have at least two sizes d, all different, if approximate, got {sizes}")
    return problems


def _known(names: Iterable[str], values: dict) -> None:
    unknown = sorted(set(names) - set(values))
    if unknown:
        raise ValueError(f"claim may use {', '.join(values)}, got {', '.join(unknown)}")


def _step_size(lr: Any, problem: Problem, curve: RiskCurve | None) -> float:
    if callable(lr):
        lr = lr(problem)
    if isinstance(lr, str):
        choice("lr", lr, ("optimal",))
        if curve is None:
            raise ValueError("lr must be a number or a function of the problem where there is no exact curve")
        return curve.optimal_lr
    return finite_number("lr", lr)
