"""A claim on trial: the arguments of a check, valid, what is claimed of every problem, and how one row comes about."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ttt_jax._internal.validate import (
    boolean,
    choice,
    finite_number,
    integer_from,
    level_number,
    positive_number,
    seed_integer,
    shown,
)
from ttt_jax.problem import NotApplicable
from ttt_jax.procedures import GradientStep
from ttt_jax.simulation import estimate_risk
from ttt_jax.verdict.cases import Case, at_size, make_cases
from ttt_jax.verdict.crossing import beside, exact_switch, simulated_switch
from ttt_jax.verdict.judgement import judge_rows
from ttt_jax.verdict.law_quantities import LAW_QUANTITIES
from ttt_jax.verdict.measured import Question, exact_value, simulated_value
from ttt_jax.verdict.outcome import SIDES, Check, CheckRow
from ttt_jax.verdict.quantities import QUANTITIES

MOST_CONFIDENCE = 1 - 1e-9
OF_TWO_ARMS = "initial", "risk", "gain", "switch"
RELATIONS = *SIDES, "iff"
SIZES = "n", "k", "noise_var"


@dataclass(frozen=True, eq=False)
class Trial:
    """A check whose arguments are valid and whose claim has been asked, before anything is simulated."""

    cases: tuple[Case, ...]
    question: Question
    relation: str
    approximate: bool
    rate: float | None
    confidence: float

    def row(self, case: Case) -> CheckRow:
        """One problem, by theory and by simulation."""
        if self.question.quantity == "switch":
            exact, simulated = exact_switch(case, self.question), simulated_switch(case, self.question)
        else:
            exact, simulated = exact_value(case.arms, self.question), simulated_value(case, self.question)
        n, k, d = case.problem.n, case.problem.k, case.problem.d
        claimed, side = float(case.claimed), SIDES.get(self.relation, 0)
        if self.relation == "iff":
            claimed, side = 0.0, (-1 if case.claimed else 1)
        return CheckRow(n, k, d, claimed, exact.value, *simulated, *exact[1:], side, case.parameters)

    def judge(self, rows: Iterable[CheckRow]) -> Check:
        """The verdict on all rows."""
        options: dict[str, Any] = {"approximate": self.approximate, "rate": self.rate, "confidence": self.confidence}
        quantity, along = self.question.quantity, self.question.along
        return judge_rows(tuple(rows), relation=self.relation, quantity=quantity, along=along, **options)


def make_trial(
    claim: Any,
    problems: Any,
    *,
    relation: Any,
    start: Any,
    procedure: Any,
    against: Any,
    quantity: Any,
    level: Any,
    along: Any,
    parameters: Any,
    approximate: Any,
    rate: Any,
    num_tasks: Any,
    seed: Any,
    confidence: Any,
    exact: Any,
    simulate: Any,
) -> Trial:
    """The arguments of `check`, all of them checked."""
    if not (exact is None or callable(exact)):
        raise ValueError(f"exact must be a function or None, got {shown(exact)}")
    if not callable(simulate):
        raise ValueError(f"simulate must be a function, got {shown(simulate)}")
    choice("relation", relation, RELATIONS)
    choice("quantity", quantity, (*QUANTITIES, *LAW_QUANTITIES))
    if (quantity == "quantile") != (level is not None):
        raise ValueError(f"level must be given for the quantity 'quantile' and no other, got {shown(level)}")
    if level is not None:
        level_number("level", level)
    if (quantity == "switch") != (along is not None):
        raise ValueError(f"along must be given for the quantity 'switch' and no other, got {shown(along)}")
    if along is not None:
        choice("along", along, SIZES)
    arms = ((start, procedure), *_second(against, start, procedure))
    _require_arms(relation, quantity, len(arms), simulate)
    if quantity in LAW_QUANTITIES and (num_tasks == 1 or simulate is not estimate_risk):
        got = "1" if num_tasks == 1 else "a replacement of estimate_risk"
        raise ValueError(f"num_tasks must be 0, or >= 2 by estimate_risk, for the quantity {quantity}, got {got}")
    if boolean("approximate", approximate) and relation != "==":
        raise ValueError(f"relation must be == if approximate, got {relation!r}")
    if rate is not None and not (approximate and positive_number("rate", rate)):
        raise ValueError(f"rate must be None unless approximate, got {shown(rate)}")
    seed, num_tasks = seed_integer(seed), integer_from(0, "num_tasks", num_tasks)
    if not 0 < finite_number("confidence", confidence) <= MOST_CONFIDENCE:
        raise ValueError(f"confidence must be between 0 and 1 - 1e-9, got {confidence}")
    if exact is None and not num_tasks:
        raise ValueError("num_tasks must be positive where exact is None, or there is nothing to compare with, got 0")
    cases = make_cases(claim, problems, parameters, arms, exact, truth=relation == "iff", seed=seed)
    if approximate:
        cases = _by_size(cases)
    question = Question(quantity, level, along, num_tasks, exact is not None, simulate)
    for case in cases:
        _require_quantity(case, quantity, num_tasks)
        _require_value(case, question, approximate)
    return Trial(cases, question, relation, approximate, rate, confidence)


def _second(against: Any, start: Any, procedure: Any) -> list[tuple[Any, Any]]:
    """The second arm, if there is one."""
    if against is None:
        return []
    if not isinstance(against, Mapping) or not against or against.keys() - {"start", "procedure"}:
        raise ValueError(f"against must be a dictionary of start, procedure or both, got {shown(against)}")
    return [(against.get("start", start), against.get("procedure", procedure))]


def _require_arms(relation: str, quantity: str, count: int, simulate: Callable) -> None:
    """ValueError unless the claim is about as many arms as there are."""
    if count == 1 and (relation == "iff" or quantity == "switch"):
        what = "relation 'iff'" if relation == "iff" else "quantity 'switch'"
        raise ValueError(f"against must give the other start or procedure for the {what}, got None")
    if relation == "iff" and quantity != "risk":
        raise ValueError(f"quantity must be risk if relation is iff, got {quantity!r}")
    if count == 2 and quantity not in OF_TWO_ARMS:
        raise ValueError(f"quantity must be one of {', '.join(OF_TWO_ARMS)} with against, got {quantity!r}")
    if count == 2 and simulate is not estimate_risk:
        raise ValueError("simulate must be estimate_risk with against, where both are tried on the same tasks")


def _require_quantity(case: Case, quantity: str, num_tasks: int) -> None:
    """ValueError unless the quantity exists for the procedure, and the claim can be it."""
    (arm, *_), claimed = case.arms, case.claimed
    if quantity in LAW_QUANTITIES and isinstance(arm.start, tuple):
        raise ValueError(f"start must be W for the quantity {quantity}, got (model, params)")
    if quantity in LAW_QUANTITIES and not isinstance(arm.procedure, GradientStep):
        name = type(arm.procedure).__name__
        raise NotApplicable(f"procedure must be a GradientStep for the quantity {quantity}, got {name}")
    if quantity == "optimal_lr" and arm.lr is None:
        name = type(arm.procedure).__name__
        raise ValueError(f"quantity must not be optimal_lr for {name}, which has no one step size")
    if quantity == "optimal_lr" and num_tasks and not arm.lr:
        raise ValueError("lr must not be 0 where the optimal_lr is simulated; num_tasks=0 leaves simulation out")
    if quantity == "switch" and claimed <= 0:
        raise ValueError(f"claim must give a positive number for a switch, got {claimed:g}")


def _require_value(case: Case, question: Question, approximate: bool) -> None:
    """ValueError where there would be nothing to compare with, or a relative error of 0, or a switch has no arms."""
    if question.quantity == "switch":
        for size in beside(float(case.claimed), question.along):
            at_size(case, question.along, size)
    known_without_work = question.quantity not in LAW_QUANTITIES or not question.num_tasks or approximate
    value = exact_value(case.arms, question).value if known_without_work else math.nan
    where = f"n = {case.problem.n}, k = {case.problem.k}, d = {case.problem.d}"
    if math.isnan(value) and not question.num_tasks:
        raise ValueError(f"num_tasks must be positive where there is no exact value to compare with, got 0 at {where}")
    if approximate and not (case.claimed and (value or question.quantity == "switch")):
        raise ValueError(f"claim must not be 0, nor the exact value, if approximate, got {case.claimed:g} at {where}")


def _by_size(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """The cases of an approximate claim, in the order of d; seeds stay with their places."""
    ordered = sorted(cases, key=lambda case: case.problem.d)
    sizes = [case.problem.d for case in ordered]
    if len(sizes) < 2 or len(set(sizes)) < len(sizes):
        raise ValueError(f"problems must have at least two sizes d, all different, if approximate, got {sizes}")
    return tuple(ordered)
