"""What the caller says of one problem: functions and sympy expressions, called with what they name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from ttt_jax._internal.validate import called, shown
from ttt_jax.problem import Problem, mean_square

RESERVED = "lr", "noise_var", "task_norm2", "problem", "weights", "procedure"
"""Names that a parameter of the caller's own may not have; n, k and d may, where the problem has these values."""


def claimed_value(
    claim: Any,
    problem: Problem,
    start: Any,
    lr: Any,
    procedure: Any,
    parameters: Mapping[str, Any],
    *,
    truth: bool = False,
) -> float | bool:
    """The claim at one problem: a finite real number or, if so asked, True or False; ValueError for anything else."""
    value = _claimed(claim, problem, start, lr, procedure, parameters)
    if truth:
        if isinstance(value, bool | np.bool_) or (getattr(value, "is_Boolean", False) and not value.free_symbols):
            return bool(value)
        kind = "True or False if relation is iff"
    else:
        if math.isfinite(number := _real_number(value)):
            return number
        kind = "a finite real number"
    place = f"n = {problem.n}, k = {problem.k}, d = {problem.d}"
    raise ValueError(f"claim must give {kind}, got {shown(value, str)} at {place}")


def of_case(field: str, given: Any, problem: Problem, parameters: Mapping[str, Any]) -> Any:
    """The value for this case, where a function of the problem and of parameters by name says it.

    A first argument of another name is the problem. A Flax module and a class are called for other purposes.
    """
    if not callable(given) or isinstance(given, nnx.Module | type):
        return given
    known = {"problem": problem, **parameters}
    required, named = _arguments(given)
    first = [] if not named or named[0] in known else [problem]
    by_name = named[len(first) :]
    _known(field, [name for name in required if name in by_name], known)
    return called(field, given, *first, **{name: known[name] for name in by_name if name in known})


def _arguments(function: Callable) -> tuple[list[str], list[str]]:
    """The names of the arguments that a function needs, and of all that it has."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function without a signature is one of the problem
        return ["problem"], ["problem"]
    named = [p for p in found if p.kind is not p.VAR_KEYWORD]
    return [p.name for p in named if p.default is p.empty and p.kind is not p.VAR_POSITIONAL], [p.name for p in named]


def by_name(field: str, function: Callable, known: Mapping[str, Any]) -> Any:
    """What the caller's function returns for those of these values that it names; ValueError if it needs others."""
    required, named = _arguments(function)
    _known(field, required, known)
    return called(field, function, **{name: known[name] for name in named if name in known})


def _claimed(claim: Any, problem: Problem, start: Any, lr: Any, procedure: Any, parameters: Mapping[str, Any]) -> Any:
    numbers: dict[str, Any] = {
        "n": problem.n,
        "k": problem.k,
        "d": problem.d,
        "noise_var": problem.noise_var,
        "task_norm2": mean_square(problem),
    } | ({} if lr is None else {"lr": lr})
    numbers |= parameters
    if hasattr(claim, "free_symbols"):
        _known("claim", map(str, claim.free_symbols), numbers)
        return claim.subs({symbol: numbers[str(symbol)] for symbol in claim.free_symbols})
    if not callable(claim):
        raise ValueError(f"claim must be a function or a sympy expression, got {shown(claim)}")
    values = numbers | {"problem": problem, "weights": start, "procedure": procedure}
    return by_name("claim", claim, values)


def _real_number(value: Any) -> float:
    """The value as a float; nan if it is not a single number: truth values and digits in quotes are none either."""
    try:
        element = np.asarray(value)[()]
        kind = np.asarray(element).dtype.kind
        if kind not in "iufO" or isinstance(element, bool | str | bytes) or np.ma.is_masked(value):
            return math.nan
        return math.nan if np.ndim(element) else float(element)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _known(field: str, names: Iterable[str], values: Mapping[str, Any]) -> None:
    unknown = sorted(set(names) - set(values))
    if unknown:
        raise ValueError(f"{field} may use {', '.join(values)}, got {', '.join(unknown)}")
