"""What a claim says of one problem: a function or a sympy expression, evaluated to a number."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ttt_jax._internal.validate import shown
from ttt_jax.problem import Problem, mean_square


def claimed_value(claim: Any, problem: Problem, start: Any, lr: Any) -> float:
    """The claim at one problem; ValueError unless it is a finite real number of arguments that it may use."""
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
        raise ValueError(f"claim must be a function or a sympy expression, got {shown(claim)}")
    number = _real_number(value)
    if not math.isfinite(number):
        at = f"n = {problem.n}, k = {problem.k}, d = {problem.d}"
        raise ValueError(f"claim must give a finite real number, got {shown(value, str)} at {at}")
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


def _known(names: Iterable[str], values: dict) -> None:
    unknown = sorted(set(names) - set(values))
    if unknown:
        raise ValueError(f"claim may use {', '.join(values)}, got {', '.join(unknown)}")
