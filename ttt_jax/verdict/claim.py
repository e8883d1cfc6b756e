"""A claim about the risk of TTT, of the user's own making, against the exact risk and against simulation."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from ttt_jax._internal.validate import boolean, choice, finite_number, positive_number, seed_integer
from ttt_jax.problem import NotApplicable, Problem, mean_square
from ttt_jax.procedures import GradientStep, Procedure, as_procedure, has_free_lr, with_lr
from ttt_jax.risk_curve import RiskCurve, RiskPath
from ttt_jax.simulation import estimate_risk
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.comparison import FLOAT32_ROUNDING
from ttt_jax.verdict.infinity import Limit, limit_with_resolution

__all__ = ["Check", "CheckRow", "check"]

QUANTITIES = {"initial": (0,), "risk": (1,), "gain": (0, 1), "optimal_lr": (0, 1, 2)}
"""What can be claimed, and the multiples of the step size at which it has to be simulated."""

ROUNDING = 1e-9
"""Largest relative difference of two float64 evaluations of one number, generously."""

MOST_CONFIDENCE = 1 - 1e-9

NOTICED = 0.05
"""What a constant of a leading order may be wrong by and the claim still agree: less than this."""

FLAT = math.log1p(NOTICED) / 2
"""The largest resolution of log(claimed / exact) at which a claim agrees: 5% more would be beyond it."""

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
        stderr_reliable: False where z is not judged, None where that is not assessed, as in `Estimate`.
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
    stderr_reliable: bool | None
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
            were sampled) if it is exact; if approximate, False if the limit is beyond the resolution, else True if a
            constant wrong by 5% would have been. None if not compared, or not resolved.
        empirical_ok: whether the claim agrees with simulation: every |z| <= critical if it is exact; if approximate,
            whether its error at d = infinity is within critical standard errors and the resolution of the
            extrapolation. Only rows of reliable standard error count; None if there are too few.
        detectable: the smallest relative error, common to all rows (if approximate, at d = infinity), that the
            simulation would have noticed with probability 95%; nan if not simulated.
        rate: the exponent with which claimed / exact approaches its limit, as the last three sizes show it, < 0; nan
            where they do not, and unless approximate.
        limit: claimed / exact - 1 at d = infinity; nan unless approximate.
        resolution: how far off 1 + limit may be, as a share of it; inf where the sizes support no extrapolation, nan
            unless approximate.
        limit_z: z of the simulated relative error at d = infinity; nan unless approximate and simulated.
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

    @property
    def resolved(self) -> bool:
        """False where an approximate claim is neither confirmed nor refused: the sizes are too small to say."""
        return self.exact_ok is not None or math.isnan(self.resolution)

    @property
    def ok(self) -> bool:
        verdicts = self.exact_ok, self.empirical_ok
        return self.resolved and True in verdicts and False not in verdicts

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        table = [("n", "k", "d", "claimed", "exact", "rel. error", "simulated", "z")]
        for row in self.rows:
            exact = simulated = ("-", "-")
            if not math.isnan(row.exact):
                exact = f"{row.exact:.6g}", f"{row.relative_error:.1e}"
            if not math.isnan(row.estimate):
                mark = {True: "", False: "*", None: "?"}[row.stderr_reliable]
                simulated = f"{row.estimate:.5g}({row.stderr:.1g})", f"{row.z:.2f}{mark}"
            table.append((str(row.n), str(row.k), str(row.d), f"{row.claimed:.6g}", *exact, *simulated))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in table]
        words = {True: "agrees", False: "DISAGREES", None: "not compared"}
        verdict = words[self.exact_ok] if self.resolved else "not resolved"
        lines.append(f"exact: {verdict}{self._exact_detail()}")
        lines.append(f"simulation: {words[self.empirical_ok]}{self._empirical_detail()}")
        flags = [row.stderr_reliable for row in self.rows]
        if False in flags:
            lines.append("* not judged: too few tasks for the tails of the risk")
        if None in flags:
            lines.append("? the reliability of the standard error is not assessed")
        return "\n".join(lines)

    def _exact_detail(self) -> str:
        if self.resolution == math.inf:
            return " (the sizes do not show how the error falls; larger d, or a rate if none is given, would tell more)"
        if not math.isnan(self.resolution):
            falls = "is" if math.isnan(self.rate) else f"falls like d^{self.rate:.2f} to"
            hint = "" if self.resolved else f"; larger d, or a rate if none is given, would tell {NOTICED:.0%} from 0"
            limit = f"{_percent(self.limit, '+')} +- {_percent(self.resolution)}"
            return f" (error {falls} {limit} at d = infinity{hint})"
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
    start: Any = "pretrained",
    procedure: Procedure | float | str | Callable[[Problem], Procedure | float] = "optimal",
    quantity: str = "risk",
    approximate: bool = False,
    rate: float | None = None,
    num_tasks: int = 20_000,
    seed: int = 0,
    confidence: float = 0.99,
    exact: Callable[..., Any] | None = exact_risk,
    simulate: Callable[..., Any] = estimate_risk,
) -> Check:
    """Judge a formula for the risk of TTT by the exact risk and by simulation, over a grid of problems.

        exact claim:        |claimed / exact - 1| is rounding;   |estimate - claimed| <= critical stderr, every row
        approximate claim:  claimed / exact tends to 1, and so does simulated / claimed

    Args:
        claim: a function of any of n, k, d, lr, noise_var, task_norm2, problem, weights, by these names; or a sympy
            expression in the first six. Evaluate it in float64; parameters of other names keep their defaults.
        problems: the problems to try; for an approximate claim, a sequence of sizes of one kind of problem, of which
            the three largest d are judged; two, where the rate is given.
        start: where training starts: W as an array, a function of the problem, "zero", or "pretrained": W* for tasks
            b ~ N(0, I) under the n, feature_cov and noise_var of the problem. Its own task does not enter: with
            noise, W* for tasks of another length is another one. Or (model, params), which has no exact risk.
        procedure: what is done at test time, or a function of the problem that says it; a number is the step size of
            one gradient step, "optimal" the exact optimum.
        quantity: what the claim is about: "initial" risk, "risk" after the procedure, "gain" (their difference), or
            "optimal_lr".
        approximate: whether the claim is the leading order of something, right as d grows. log(claimed / exact) of the
            three largest sizes shows an exponent alpha; lines and parabolas in d^-alpha, for all alpha from this
            exponent to `rate` and some more, give a range of limits. Its middle is the limit, its whole width the
            resolution: beyond it the claim is refused, within it it agrees if a constant wrong by 5% would not be.
            Else, or where no exponent from 1/4 to 3/2 `rate` is seen, it is not resolved.
        rate: the exponent alpha of the error ~ d^-alpha of an approximate claim, where theory tells it: 1 if n/d and
            k/d are fixed, 1/2 if n = sqrt(d). None takes 1 in its place, and a wider margin.
        num_tasks: simulated tasks per problem, the same for every step size; 0 leaves simulation out.
        seed: of the simulation; every problem has a seed of its own.
        confidence: probability that a correct claim passes all comparisons with simulation.
        exact: a function of (problem, start, procedure), `exact_risk`; None leaves it out (then a step size must be
            given), and so does a procedure that no exact risk is known for.
        simulate: a replacement of `estimate_risk`, called with one procedure at a time; of its result mean and stderr
            are used, and stderr_reliable if it has one.

    Returns:
        A `Check`, true if something was compared and nothing speaks against the claim; print it for the table.

    Raises:
        ValueError: if an argument is invalid.

    Example:
        >>> problems = [Problem(n, k, np.ones(4) / 2) for n, k in ((40, 8), (60, 4))]
        >>> theorem_4_5 = lambda n, k, d: k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d)
        >>> result = check(theorem_4_5, problems, start="zero", quantity="gain")
        >>> result.ok, result.detectable < 0.1
        (True, True)
        >>> bool(check(lambda n, k, d: k / (k + d), problems, start="zero", quantity="gain"))
        False
    """
    choice("quantity", quantity, tuple(QUANTITIES))
    boolean("approximate", approximate)
    if rate is not None and not (approximate and positive_number("rate", rate)):
        raise ValueError(f"rate must be None unless approximate, got {rate!r}")
    problems = _problems(problems, approximate)
    seed = seed_integer(seed)
    if not 0 < finite_number("confidence", confidence) <= MOST_CONFIDENCE:
        raise ValueError(f"confidence must be between 0 and 1 - 1e-9, got {confidence}")
    if exact is None and not num_tasks:
        raise ValueError("num_tasks must be positive where exact is None, or there is nothing to compare with, got 0")

    rows = []
    for i, problem in enumerate(problems):
        begin = _start(start, problem)
        curve, what = _resolved(procedure, problem, begin, exact)
        step = getattr(what, "lr", None)
        if quantity == "optimal_lr" and step is None:
            name = type(what).__name__
            raise ValueError(f"quantity must not be optimal_lr for {name}, which has no one step size")
        if quantity == "optimal_lr" and num_tasks and not step:
            raise ValueError("lr must not be 0 where the optimal_lr is simulated; num_tasks=0 leaves simulation out")
        claimed = _claimed(claim, problem, begin, step)
        estimate = stderr = math.nan
        reliable: bool | None = True
        if num_tasks:
            mean, covariance, reliable = _simulated(
                problem, begin, _at_multiples(quantity, what), simulate, num_tasks, seed + 3 * i
            )
            estimate, stderr = _of_estimates(quantity, mean, covariance, step, claimed)
        rows.append(
            CheckRow(
                problem.n,
                problem.k,
                problem.d,
                claimed,
                _of_theory(quantity, curve, step) if curve else math.nan,
                estimate,
                stderr,
                reliable,
                *(_errors_of_theory(quantity, curve, step) if curve else (0.0, 0.0)),
            )
        )
        if approximate and not (rows[-1].claimed and rows[-1].exact):
            raise ValueError(f"an approximate claim has a relative error, but its value is 0 at d = {problem.d}")
    has_exact = not any(math.isnan(row.exact) for row in rows)
    if not (has_exact or num_tasks):
        raise ValueError("num_tasks must be positive where no exact risk is known, or there is nothing to compare with")
    return _judge(tuple(rows), approximate, rate, has_exact, bool(num_tasks), confidence)


def _start(start: Any, problem: Problem) -> Any:
    """W as an array, or (model, params)."""
    if isinstance(start, tuple):
        return start
    return starting_weights(start(problem) if callable(start) else start, problem, problem.n)


def _resolved(procedure: Any, problem: Problem, start: Any, exact: Callable | None) -> tuple[Any, Procedure]:
    """The exact curve or path, None where there is none, and the procedure with its step size."""
    what = as_procedure(procedure(problem) if callable(procedure) else procedure)
    curve = None
    if exact is not None:
        with contextlib.suppress(NotApplicable):
            curve = exact(problem, start, what)
    if has_free_lr(what):
        if curve is None:
            raise ValueError("lr must be a number or a function of the problem where there is no exact curve")
        what = with_lr(what, curve.optimal_lr)
    return curve, what


def _at_multiples(quantity: str, procedure: Procedure) -> list[Procedure]:
    """The procedures at the multiples of the step size that the quantity needs; else before and after the procedure."""
    if hasattr(procedure, "lr"):
        return [with_lr(procedure, multiple * procedure.lr) for multiple in QUANTITIES[quantity]]
    return [(GradientStep(0.0), procedure)[multiple] for multiple in QUANTITIES[quantity]]


def _simulated(
    problem: Problem, start: Any, procedures: list[Procedure], simulate: Callable, num_tasks: int, seed: int
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P P"], bool | None]:
    """The means after each procedure, their covariance, and whether it is reliable."""
    if simulate is estimate_risk:
        joint = estimate_risk(problem, start, tuple(procedures), num_tasks=num_tasks, seed=seed)
        found, covariance = list(joint.estimates), joint.covariance
    else:
        found = [simulate(problem, start, one, num_tasks=num_tasks, seed=seed + i) for i, one in enumerate(procedures)]
        covariance = np.diag([float(np.atleast_1d(one.stderr)[-1]) ** 2 for one in found])
    mean = np.array([float(np.atleast_1d(one.mean)[-1]) for one in found])
    flags = [getattr(one, "stderr_reliable", True) for one in found]
    reliable = False if False in flags else None if None in flags else True
    return mean, covariance + np.diag((FLOAT32_ROUNDING * mean) ** 2), reliable


def _percent(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}{'.2g' if abs(share) < 0.995 else '.0f'}}%"


def _judge(
    rows: tuple[CheckRow, ...],
    approximate: bool,
    rate: float | None,
    has_exact: bool,
    simulated: bool,
    confidence: float,
) -> Check:
    judged = [row for row in rows if simulated and row.stderr_reliable is not False and 0 < row.stderr < math.inf]
    critical = critical_z(confidence, 1 if approximate else max(len(judged), 1))
    if approximate:
        return _judge_leading_order(rows, judged, critical, rate, has_exact)
    exact_ok = empirical_ok = None
    detectable = math.nan
    if has_exact:
        exact_ok = all(abs(r.claimed - r.exact) <= r.exact_rounding + critical * r.exact_stderr for r in rows)
    if judged:
        empirical_ok = all(abs(row.z) <= critical for row in judged)
        detectable = (critical + POWER) * min(row.stderr / abs(row.estimate or math.nan) for row in judged)
    return Check(rows, critical, exact_ok, empirical_ok, detectable)


def _judge_leading_order(
    rows: tuple[CheckRow, ...], judged: list[CheckRow], critical: float, rate: float | None, has_exact: bool
) -> Check:
    exact_ok = empirical_ok = None
    detectable = exponent = limit = resolution = limit_z = math.nan
    if has_exact:
        found, sign = _limit(rows, critical, rate, has_exact)
        exponent, limit, resolution = found.exponent, sign * math.exp(found.value) - 1, found.resolution
        if resolution < math.inf and (sign < 0 or abs(found.value) > resolution):
            exact_ok = False
        elif resolution <= FLAT:
            exact_ok = True
    if len(judged) >= 2:
        found, sign = _limit(judged, critical, rate, has_exact)
        if found.resolution < math.inf:
            reference = np.array([row.exact if has_exact else row.estimate for row in judged[-3:]])
            claimed, estimate, stderr = np.array([(r.claimed, r.estimate, r.stderr) for r in judged[-3:]]).T
            errors = found.weights @ (np.log(abs(reference / claimed)) + estimate / reference - 1)
            error = float(errors.min() + errors.max()) / 2
            noise = float(np.linalg.norm(found.weights * (stderr / reference), axis=1).max())
            bound = found.resolution + (critical * noise if has_exact else 0.0)  # else it is in the resolution
            empirical_ok = sign > 0 and abs(error) <= bound
            limit_z, detectable = error / noise, bound + POWER * noise
    return Check(
        rows, critical, exact_ok, empirical_ok, detectable, -exponent, limit, float(np.expm1(resolution)), limit_z
    )


def _limit(rows: Sequence[CheckRow], critical: float, rate: float | None, has_exact: bool) -> tuple[Limit, float]:
    """log |claimed / exact|, or / estimate, at d = infinity by the last three rows, and the sign of the ratio."""
    rows = rows[-3:]
    values, stderrs = np.array([(r.exact, r.exact_stderr) if has_exact else (r.estimate, r.stderr) for r in rows]).T
    ratios = np.array([row.claimed for row in rows]) / values
    logs = np.log(abs(ratios))
    bounds = abs(logs) * _off_power_law(rows) + critical * stderrs / abs(values) + ROUNDING
    found = limit_with_resolution([row.d for row in rows], logs, bounds, rate=rate, flat=FLAT)
    if len({*np.sign(ratios)}) > 1:
        found = found._replace(resolution=math.inf)
    return found, float(np.sign(ratios[-1]))


def _off_power_law(rows: Sequence[CheckRow]) -> float:
    """How far n or k of the middle of three rows is from a power of d through the others, as a share: its rounding."""
    if len(rows) < 3:
        return 0.0
    d, *nk = np.log([(row.d, row.n, row.k) for row in rows]).T
    return max(abs(size[1] - np.interp(d[1], d[::2], size[::2])) for size in nk)


def _of_theory(quantity: str, curve: RiskCurve | RiskPath, lr: Any) -> float:
    if isinstance(curve, RiskPath):
        return {"initial": curve.initial, "risk": curve.final, "gain": curve.initial - curve.final}[quantity]
    return {
        "initial": curve.initial,
        "risk": curve.at(lr),
        "gain": curve.c1 * lr - curve.c2 * lr**2,
        "optimal_lr": curve.optimal_lr,
    }[quantity]


def _errors_of_theory(quantity: str, curve: RiskCurve | RiskPath, lr: Any) -> tuple[float, float]:
    """The standard error of `_of_theory`, and its rounding error; a gain is rounded like the risk it is part of."""
    exact = _of_theory(quantity, curve, lr)
    rounding = ROUNDING * max(abs(exact), 1e-4 * curve.initial if quantity == "gain" else 0.0)
    if isinstance(curve, RiskPath) or not curve.covariance.any():
        return 0.0, rounding
    c2 = curve.c2 or math.nan
    gradient = {
        "initial": (1.0, 0.0, 0.0),
        "risk": (1.0, -lr, lr**2),
        "gain": (0.0, lr, -(lr**2)),
        "optimal_lr": (0.0, 1 / (2 * c2), -curve.c1 / (2 * c2**2)),
    }[quantity]
    return math.sqrt(max(float(np.array(gradient) @ curve.covariance @ gradient), 0.0)), rounding


def _of_estimates(
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


def _claimed(claim: Any, problem: Problem, start: Any, lr: Any) -> float:
    numbers = {
        "n": problem.n,
        "k": problem.k,
        "d": problem.d,
        "noise_var": problem.noise_var,
        "task_norm2": mean_square(problem),
    } | ({} if lr is None else {"lr": lr})
    if hasattr(claim, "free_symbols"):
        _known(map(str, claim.free_symbols), numbers)
        value = claim.subs({symbol: numbers[str(symbol)] for symbol in claim.free_symbols})
    elif callable(claim):
        values = numbers | {"problem": problem, "weights": start}
        parameters = inspect.signature(claim).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        _known([p.name for p in named if p.default is p.empty], values)
        value = claim(**{p.name: values[p.name] for p in named if p.name in values})
    else:
        raise ValueError(f"claim must be a function or a sympy expression, got {claim!r}")
    number = _real_number(value)
    if not math.isfinite(number):
        at = f"n = {problem.n}, k = {problem.k}, d = {problem.d}"
        raise ValueError(f"claim must give a finite real number, got {_in_one_line(value)} at {at}")
    return number


def _real_number(value: Any) -> float:
    """The value as a float; nan if it is no single number: truth values and digits in quotes are none either."""
    try:
        element = np.asarray(value)[()]
        kind = np.asarray(element).dtype.kind
        if kind not in "iufO" or isinstance(element, bool | str | bytes) or np.ma.is_masked(value):
            return math.nan
        return math.nan if np.ndim(element) else float(element)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _in_one_line(value: Any) -> str:
    """The value as an error message shows it."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _problems(problems: Any, approximate: bool) -> tuple[Problem, ...]:
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
