"""The quantity of a claim on one case, by theory and by simulation, each with its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ttt_jax._internal.validate import weights_array
from ttt_jax.problem import SparseTasks
from ttt_jax.procedures import GradientStep, Procedure, with_lr
from ttt_jax.simulation import estimate_risk
from ttt_jax.simulation.estimate import MAX_UNSEEN_VARIANCE
from ttt_jax.simulation.prompt_risks import prompt_risks
from ttt_jax.simulation.reliability import tails_are_seen
from ttt_jax.simulation.together import estimate_together
from ttt_jax.theory.prompt_law import known_law
from ttt_jax.verdict.cases import Arm, Case
from ttt_jax.verdict.comparison import FLOAT32_ROUNDING, exact_variance
from ttt_jax.verdict.law_quantities import LAW_QUANTITIES, of_known_law, of_prompts
from ttt_jax.verdict.quantities import QUANTITIES, errors_of_theory, of_estimates, of_theory

HEAVIEST = 0.05
"""Kurtosis per task beyond which the variance of the sample is off, by its own fourth moment, by over a fifth."""


@dataclass(frozen=True)
class Question:
    """What is asked of every case.

    Args:
        quantity, level, along: what the claim is about, as `check` takes it.
        num_tasks: simulated tasks, 0 for none.
        exactly: whether closed forms of the law of the risk are asked for.
        simulate: `estimate_risk` or a replacement.
    """

    quantity: str
    level: float | None
    along: str | None
    num_tasks: int
    exactly: bool
    simulate: Callable[..., Any]


class Exact(NamedTuple):
    """A value by theory, its standard error and its rounding error; nan where there is none."""

    value: float = math.nan
    stderr: float = 0.0
    rounding: float = 0.0


class Simulated(NamedTuple):
    """A value by simulation, its standard error and whether that is reliable; nan where there is none."""

    value: float = math.nan
    stderr: float = math.nan
    reliable: bool | None = True


def exact_value(arms: Sequence[Arm], question: Question) -> Exact:
    """The quantity by theory; of two arms, that of the first minus that of the second."""
    quantity = question.quantity
    if quantity in LAW_QUANTITIES:
        (arm,) = arms
        known = known_law(arm.procedure, arm.problem, weights_array(arm.start, arm.problem.d))
        value, rounding = of_known_law(quantity, known, question.level) if question.exactly else (math.nan, 0.0)
        return Exact(value, 0.0, rounding)
    if any(arm.curve is None for arm in arms):
        return Exact()
    values = [of_theory(quantity, arm.curve, arm.lr) for arm in arms if arm.curve]
    errors = [errors_of_theory(quantity, arm.curve, arm.lr) for arm in arms if arm.curve]
    stderr, rounding = math.hypot(*(one for one, _ in errors)), sum(one for _, one in errors)
    return Exact(values[0] - sum(values[1:]), stderr, rounding)


def simulated_value(case: Case, question: Question) -> Simulated:
    """The quantity by simulation; all that it needs is simulated on the same tasks."""
    quantity = question.quantity
    if not question.num_tasks:
        return Simulated()
    if quantity in LAW_QUANTITIES:
        (arm,) = case.arms
        return _of_prompts(arm, case, question)
    means, covariance, reliable = means_on_same_tasks(case.arms, question, case.seed)
    if len(case.arms) == 1:
        value, stderr = of_estimates(quantity, means, covariance, case.arms[0].lr, float(case.claimed))
        return Simulated(value, stderr, reliable)
    direction = np.kron([1.0, -1.0], [1.0, -1.0] if quantity == "gain" else [1.0])
    return Simulated(float(direction @ means), stderr_along(direction, covariance), reliable)


def means_on_same_tasks(
    arms: Sequence[Arm], question: Question, seed: int
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P P"], bool | None]:
    """The mean risks that the quantity needs, arm by arm, their covariance, and whether it is reliable.

    The variance of a single mean is exact where it is known.
    """
    asked = [(arm, one) for arm in arms for one in _procedures(question.quantity, arm)]
    num_tasks, simulate = question.num_tasks, question.simulate
    found: Sequence[Any]
    if simulate is not estimate_risk:
        found = [
            simulate(arm.problem, arm.start, one, num_tasks=num_tasks, seed=seed + i)
            for i, (arm, one) in enumerate(asked)
        ]
        covariance = np.diag([float(np.atleast_1d(one.stderr)[-1]) ** 2 for one in found])
    else:
        joint = estimate_together([(arm.problem, arm.start, one) for arm, one in asked], num_tasks=num_tasks, seed=seed)
        found, covariance = joint.estimates, joint.covariance
        if len(asked) == 1:
            ((arm, procedure),) = asked
            variance = exact_variance(arm.problem, arm.start, procedure)
            covariance = covariance if variance is None else np.array([[variance / found[0].num_tasks]])
    mean = np.array([float(np.atleast_1d(one.mean)[-1]) for one in found])
    flags = [_is_reliable(one) for one in found]
    reliable = False if False in flags else None if None in flags else True
    return mean, covariance + np.diag((FLOAT32_ROUNDING * mean) ** 2), reliable


def _is_reliable(estimate: Any) -> bool | None:
    """Whether a standard error is reliable; of one that nobody assessed, False where its own sample has heavy tails.

    A sample without them proves nothing, hence None and not True.
    """
    reliable = getattr(estimate, "stderr_reliable", True)
    if reliable is None and getattr(estimate, "kurtosis", 0.0) > HEAVIEST * getattr(estimate, "num_tasks", math.inf):
        return False
    return reliable


def stderr_along(direction: Float[np.ndarray, " P"], covariance: Float[np.ndarray, "P P"]) -> float:
    """The standard error of a combination of means."""
    return math.sqrt(max(float(direction @ covariance @ direction), 0.0))


def _procedures(quantity: str, arm: Arm) -> list[Procedure]:
    """The procedures at the multiples of the step size that the quantity needs; else before and after the procedure."""
    multiples = QUANTITIES[quantity]
    if arm.lr is not None:
        return [with_lr(arm.procedure, multiple * arm.lr) for multiple in multiples]
    return [(GradientStep(0.0), arm.procedure)[multiple] for multiple in multiples]


def _of_prompts(arm: Arm, case: Case, question: Question) -> Simulated:
    """A quantity of the law of the risk, from sampled prompts."""
    quantity, num_tasks = question.quantity, question.num_tasks
    weights = weights_array(arm.start, arm.problem.d)
    prompts = prompt_risks(arm.problem, weights, arm.procedure, num_tasks=num_tasks, seed=case.seed, sampler="data")
    estimate, stderr, reliable = of_prompts(quantity, prompts, float(case.claimed), question.level)
    if quantity == "variance" and not isinstance(arm.problem.task, SparseTasks):
        assert isinstance(arm.procedure, GradientStep)
        seen = tails_are_seen(arm.problem, weights, arm.procedure, num_tasks, MAX_UNSEEN_VARIANCE)
        reliable = None if seen else False
    return Simulated(estimate, stderr, reliable)
