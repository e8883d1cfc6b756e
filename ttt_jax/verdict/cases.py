"""What a claim is tried on: every problem with its arms, and what is claimed there."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ttt_jax._internal.validate import called, shown
from ttt_jax.problem import NotApplicable, Problem
from ttt_jax.procedures import Procedure, as_procedure, has_free_lr, with_lr
from ttt_jax.risk_curve import RiskCurve, RiskPath
from ttt_jax.simulation.prompts import require_model
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.verdict.claimed import RESERVED, by_name, claimed_value, of_case
from ttt_jax.verdict.comparison import require_finite

STRIDE = 3
"""Between the seeds of two cases: as many simulations as a replacement of `estimate_risk` is asked for in one."""


@dataclass(frozen=True, eq=False)
class Arm:
    """A start and a procedure on a problem, as values.

    Args:
        problem: the test-time problem.
        start: W as an array, or (model, params).
        procedure: with its step size.
        curve: the exact curve or path; None where there is none.
    """

    problem: Problem
    start: Any
    procedure: Procedure
    curve: RiskCurve | RiskPath | None

    @property
    def lr(self) -> Any:
        """The step size; None for a procedure without one."""
        return getattr(self.procedure, "lr", None)


@dataclass(frozen=True, eq=False)
class Case:
    """One problem of a check.

    Args:
        problem: the problem.
        parameters: the caller's own, by name.
        arms: what is tried there; a second one where the claim compares two.
        claimed: the value, or for a claim about signs whether the first arm is better.
        seed: of its simulation.
        arms_at: the arms on another problem.
    """

    problem: Problem
    parameters: Mapping[str, Any]
    arms: tuple[Arm, ...]
    claimed: float | bool
    seed: int
    arms_at: Callable[[Problem], tuple[Arm, ...]]


def make_cases(
    claim: Any,
    problems: Any,
    parameters: Any,
    arms: tuple[tuple[Any, Any], ...],
    exact: Callable | None,
    *,
    truth: bool,
    seed: int,
) -> tuple[Case, ...]:
    """Every case of a check, all that the caller says evaluated.

    Args:
        claim, problems, parameters, exact: as `check` takes them.
        arms: pairs of a start and a procedure, as `check` takes them.
        truth: whether the claim is True or False.
        seed: of the first case.
    """
    found = []
    for i, (problem, own) in enumerate(_grid(problems, _checked_parameters(parameters))):
        arms_at = partial(_arms, given=arms, parameters=own, exact=exact)
        tried = arms_at(problem)
        first = tried[0]
        claimed = claimed_value(claim, problem, first.start, first.lr, first.procedure, own, truth=truth)
        found.append(Case(problem, own, tried, claimed, seed + STRIDE * i, arms_at))
    return tuple(found)


def _arms(
    problem: Problem, given: tuple[tuple[Any, Any], ...], parameters: Mapping[str, Any], exact: Callable | None
) -> tuple[Arm, ...]:
    return tuple(_arm(problem, start, procedure, parameters, exact) for start, procedure in given)


def _arm(problem: Problem, start: Any, procedure: Any, parameters: Mapping[str, Any], exact: Callable | None) -> Arm:
    """The arm; the exact optimum in place of a step size that was left free."""
    start = of_case("start", start, problem, parameters)
    if isinstance(start, tuple):
        require_model(start, problem)
    else:
        start = starting_weights(start, problem, problem.n)
    what = as_procedure(of_case("procedure", procedure, problem, parameters))
    curve = None
    if exact is not None:
        with contextlib.suppress(NotApplicable):
            curve = exact(problem, start, what)
    if has_free_lr(what):
        if curve is None:
            raise ValueError(
                "lr must be a number or a function of the problem where there is no exact curve, got 'optimal'"
            )
        what = with_lr(what, curve.optimal_lr)
    if isinstance(curve, RiskCurve | RiskPath):
        require_finite(what, curve)
    return Arm(problem, start, what, curve)


def _checked_parameters(parameters: Any) -> dict[str, tuple[Any, ...]]:
    """The values of every parameter of the caller's own."""
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"parameters must be a dictionary of names and values, got {shown(parameters)}")
    found = {}
    for name, given in parameters.items():
        if not (isinstance(name, str) and name.isidentifier()) or name in RESERVED:
            raise ValueError(f"parameters must have names of their own, not {', '.join(RESERVED)}, got {shown(name)}")
        values = () if isinstance(given, str) or not isinstance(given, Iterable) else called("parameters", tuple, given)
        if not values:
            raise ValueError(f"parameters must give a sequence of values of {name}, got {shown(given)}")
        found[name] = values
    return found


def _grid(problems: Any, parameters: dict[str, tuple[Any, ...]]) -> list[tuple[Problem, dict[str, Any]]]:
    """Every problem with every combination of parameters; a function of them says which problem it is."""
    combinations = [dict(zip(parameters, row, strict=True)) for row in itertools.product(*parameters.values())]
    if callable(problems) and not isinstance(problems, type):
        if not parameters:
            raise ValueError("parameters must be given where problems is a function of them, got None")
        grid = [(by_name("problems", problems, own), own) for own in combinations]
    else:
        grid = [(problem, own) for problem in _sequence(problems) for own in combinations]
    for problem, own in grid:
        if not isinstance(problem, Problem):
            raise ValueError(f"problems must be of type Problem, got {shown(problem)}")
        for name in ("n", "k", "d"):
            size = getattr(problem, name)
            if name in own and not np.array_equal(own[name], size):
                raise ValueError(f"parameters must agree with the problem, {name} = {size}, got {shown(own[name])}")
    return grid


def _sequence(problems: Any) -> tuple[Any, ...]:
    if isinstance(problems, Problem):
        raise ValueError("problems must be a sequence of Problem, got one Problem: put it in a list")
    if not isinstance(problems, Iterable):
        raise ValueError(f"problems must be a sequence of Problem, got {shown(problems)}")
    problems = called("problems", tuple, problems)
    if not problems:
        raise ValueError("problems must not be empty")
    return problems


def at_size(case: Case, along: str | None, value: float) -> tuple[Arm, ...]:
    """The arms of a case where one size of its problem has another value."""
    change: Any = {along: value}
    return case.arms_at(replace(case.problem, **change))
