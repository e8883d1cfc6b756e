"""A claim about the risk of TTT, of the user's own making, against the exact risk and against simulation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float

from ttt_jax._internal.validate import (
    boolean,
    choice,
    finite_number,
    integer_from,
    level_number,
    positive_number,
    seed_integer,
    shown,
    weights_array,
)
from ttt_jax.problem import NotApplicable, Problem, SparseTasks
from ttt_jax.procedures import GradientStep, Procedure, as_procedure, has_free_lr, with_lr
from ttt_jax.risk_curve import RiskCurve, RiskPath
from ttt_jax.simulation import estimate_risk
from ttt_jax.simulation.estimate import MAX_UNSEEN_VARIANCE
from ttt_jax.simulation.prompt_risks import prompt_risks
from ttt_jax.simulation.reliability import tails_are_seen
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.theory.prompt_law import known_law
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.claimed import claimed_value
from ttt_jax.verdict.comparison import FLOAT32_ROUNDING, require_finite
from ttt_jax.verdict.judgement import judge_rows
from ttt_jax.verdict.law_quantities import LAW_QUANTITIES, of_known_law, of_prompts
from ttt_jax.verdict.outcome import Check, CheckRow
from ttt_jax.verdict.quantities import QUANTITIES, errors_of_theory, of_estimates, of_theory

__all__ = ["check"]

MOST_CONFIDENCE = 1 - 1e-9


def check(
    claim: Any,
    problems: Iterable[Problem],
    *,
    start: Any = "pretrained",
    procedure: Procedure | float | str | Callable[[Problem], Procedure | float] = "optimal",
    quantity: str = "risk",
    level: float | None = None,
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
        quantity: what the claim is about: "initial" risk, "risk" after the procedure, "gain" (their difference),
            "optimal_lr"; or, of the law of one prompt's risk after a gradient step (see `risk_law`), its "variance",
            a "quantile" of it, or the probability "prob_hurt" that the step makes it larger.
        level: of a quantile, between 0 and 1.
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
            given), and so does a procedure that no exact risk is known for. Closed forms of `risk_law` come with it.
        simulate: a replacement of `estimate_risk`, called with one procedure at a time; of its result mean and stderr
            are used, and stderr_reliable if it has one; not for quantities of the law.

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
    choice("quantity", quantity, (*QUANTITIES, *LAW_QUANTITIES))
    if (quantity == "quantile") != (level is not None):
        raise ValueError(f"level must be given for the quantity 'quantile' and no other, got {shown(level)}")
    if level is not None:
        level_number("level", level)
    of_a_law = quantity in LAW_QUANTITIES
    if of_a_law and (num_tasks == 1 or simulate is not estimate_risk):
        raise ValueError(f"quantity {quantity} needs at least two simulated tasks, by estimate_risk, or num_tasks=0")
    boolean("approximate", approximate)
    if rate is not None and not (approximate and positive_number("rate", rate)):
        raise ValueError(f"rate must be None unless approximate, got {shown(rate)}")
    problems = _problems(problems, approximate)
    seed, num_tasks = seed_integer(seed), integer_from(0, "num_tasks", num_tasks)
    if not 0 < finite_number("confidence", confidence) <= MOST_CONFIDENCE:
        raise ValueError(f"confidence must be between 0 and 1 - 1e-9, got {confidence}")
    if exact is None and not num_tasks:
        raise ValueError("num_tasks must be positive where exact is None, or there is nothing to compare with, got 0")

    rows = []
    for i, problem in enumerate(problems):
        own_seed = seed + 3 * i
        begin = _start(start, problem)
        curve, what = _resolved(procedure, problem, begin, exact)
        step = getattr(what, "lr", None)
        if quantity == "optimal_lr" and step is None:
            name = type(what).__name__
            raise ValueError(f"quantity must not be optimal_lr for {name}, which has no one step size")
        if quantity == "optimal_lr" and num_tasks and not step:
            raise ValueError("lr must not be 0 where the optimal_lr is simulated; num_tasks=0 leaves simulation out")
        claimed = claimed_value(claim, problem, begin, step)
        value, errors, estimate, stderr = math.nan, (0.0, 0.0), math.nan, math.nan
        reliable: bool | None = True
        if of_a_law:
            value, rounding, estimate, stderr, reliable = _of_law(
                quantity, problem, begin, what, claimed, level, exact is not None, num_tasks, own_seed
            )
            errors = 0.0, rounding
        else:
            if curve:
                value, errors = of_theory(quantity, curve, step), errors_of_theory(quantity, curve, step)
            if num_tasks:
                mean, covariance, reliable = _simulated(
                    problem, begin, _at_multiples(quantity, what), simulate, num_tasks, own_seed
                )
                estimate, stderr = of_estimates(quantity, mean, covariance, step, claimed)
        sizes = problem.n, problem.k, problem.d
        rows.append(CheckRow(*sizes, claimed, value, estimate, stderr, reliable, *errors))
        if approximate and not (rows[-1].claimed and rows[-1].exact):
            raise ValueError(f"an approximate claim has a relative error, but its value is 0 at d = {problem.d}")
    has_exact = not any(math.isnan(row.exact) for row in rows)
    if not (has_exact or num_tasks):
        raise ValueError("num_tasks must be positive where no exact risk is known, or there is nothing to compare with")
    return judge_rows(tuple(rows), approximate, rate, has_exact, bool(num_tasks), confidence)


def _start(start: Any, problem: Problem) -> Any:
    """W as an array, or (model, params)."""
    if isinstance(start, tuple):
        return start
    return starting_weights(_at(problem, start), problem, problem.n)


def _at(problem: Problem, given: Any) -> Any:
    """The value for this problem, where a function says it; a Flax module and a class are called for other purposes."""
    return given(problem) if callable(given) and not isinstance(given, nnx.Module | type) else given


def _resolved(procedure: Any, problem: Problem, start: Any, exact: Callable | None) -> tuple[Any, Procedure]:
    """The exact curve or path, None where there is none, and the procedure with its step size."""
    what = as_procedure(_at(problem, procedure))
    curve = None
    if exact is not None:
        with contextlib.suppress(NotApplicable):
            curve = exact(problem, start, what)
    if has_free_lr(what):
        if curve is None:
            raise ValueError("lr must be a number or a function of the problem where there is no exact curve")
        what = with_lr(what, curve.optimal_lr)
    if isinstance(curve, RiskCurve | RiskPath):
        require_finite(what, curve)
    return curve, what


def _of_law(
    quantity: str, problem: Problem, start: Any, procedure: Procedure, claimed: float, level: float | None,
    exactly: bool, num_tasks: int, seed: int,
) -> tuple[float, float, float, float, bool | None]:  # fmt: skip
    """A quantity of the law of the risk in closed form, its rounding error; simulated, its standard error, its flag."""
    if isinstance(start, tuple):
        raise ValueError(f"start must be W for the quantity {quantity}, got (model, params)")
    weights = weights_array(start, problem.d)
    value, rounding = (
        of_known_law(quantity, known_law(procedure, problem, weights), level) if exactly else (math.nan, 0.0)
    )
    if not num_tasks:
        return value, rounding, math.nan, math.nan, True
    prompts = prompt_risks(problem, weights, procedure, num_tasks=num_tasks, seed=seed, sampler="data")
    estimate, stderr, reliable = of_prompts(quantity, prompts, claimed, level)
    if quantity == "variance" and not isinstance(problem.task, SparseTasks):
        assert isinstance(procedure, GradientStep)
        reliable = None if tails_are_seen(problem, weights, procedure, num_tasks, MAX_UNSEEN_VARIANCE) else False
    return value, rounding, estimate, stderr, reliable


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


def _problems(problems: Any, approximate: bool) -> tuple[Problem, ...]:
    if isinstance(problems, Problem):
        raise ValueError("problems must be a sequence of Problem, got one Problem: put it in a list")
    if not isinstance(problems, Iterable):
        raise ValueError(f"problems must be a sequence of Problem, got {shown(problems)}")
    problems = tuple(problems)
    if not problems:
        raise ValueError("problems must not be empty")
    for problem in problems:
        if not isinstance(problem, Problem):
            raise ValueError(f"problems must be of type Problem, got {shown(problem)}")
    if approximate:
        problems = tuple(sorted(problems, key=lambda problem: problem.d))
        sizes = [problem.d for problem in problems]
        if len(sizes) < 2 or len(set(sizes)) < len(sizes):
            raise ValueError(f"problems must have at least two sizes d, all different, if approximate, got {sizes}")
    return problems
