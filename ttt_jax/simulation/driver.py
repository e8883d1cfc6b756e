"""Monte Carlo estimates of the expected risk after one TTT step.

Blocks of tasks arrive in a fixed order (see `ttt_jax.simulation.blocks`) and are added one by one, in float64, to a tally. So an
estimate depends on the seed and the block size alone, and a run can go on where another stopped.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ttt_jax._internal.progress import Progress
from ttt_jax._internal.validate import boolean, choice, finite_number, positive_integer, seed_integer, weights_array
from ttt_jax.problem import EVALUATIONS, Problem
from ttt_jax.simulation.blocks import ROW_BLOCK, checked_block_size, require_countable, simulate_blocks
from ttt_jax.simulation.reliability import unseen_variance
from ttt_jax.simulation.rows import data_risk
from ttt_jax.simulation.scaled import make_setting
from ttt_jax.simulation.summaries import law_risk
from ttt_jax.simulation.tally import Tally

__all__ = ["Estimate", "estimate_risk"]

SAMPLERS = {"data": data_risk, "law": law_risk}
ROWS_AT_ONCE = {"data": ROW_BLOCK, "law": 1}
MAX_UNSEEN_VARIANCE = 0.1  # calibrated by benchmarks/coverage.py


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo estimate of an expected risk.

    Args:
        mean: the mean risk per task, not normalised.
        stderr: its standard error.
        num_tasks: number of independent tasks.
        stderr_reliable: False where the tails of the per-task risk make the standard error untrustworthy: where more
            than a tenth of its variance comes from events rarer than one in num_tasks, see `ttt_jax.simulation.reliability`.
        skewness: third standardised moment of the per-task risk.
        kurtosis: fourth standardised moment of the per-task risk, 3 for a Gaussian.
        num_nonfinite: tasks whose risk overflowed; the mean is nan if there are any.
        sampler: "data" or "law".
        evaluation: "fresh" or "same".
        seed: of the random key.
        block_size: tasks per block; part of what fixes the random numbers.
        history: (number of tasks, mean, standard error) so far, at log-spaced numbers of tasks: a convergence curve.
    """

    mean: float
    stderr: float
    num_tasks: int
    stderr_reliable: bool
    skewness: float
    kurtosis: float
    num_nonfinite: int
    sampler: str
    evaluation: str
    seed: int
    block_size: int
    history: tuple[tuple[int, float, float], ...] = field(repr=False)

    @property
    def doubt(self) -> str | None:
        """Why the standard error cannot be trusted; None if it can."""
        if self.stderr_reliable:
            return None
        if self.num_nonfinite:
            return f"the risk of {self.num_nonfinite} tasks overflowed"
        if self.num_tasks == 1:
            return "one task has no standard error"
        return "too few tasks for the tails of the per-task risk"


@dataclass(frozen=True)
class Plan:
    """What fixes a run besides its problem; see `make_plan`."""

    num_tasks: int
    seed: int
    evaluation: str
    sampler: str
    x64: bool
    block_size: int
    target_relative_stderr: float | None

    def fulfilled(self, tally: Tally) -> bool:
        """Whether a run may stop here."""
        target = self.target_relative_stderr
        return tally.num_tasks >= self.num_tasks or (target is not None and tally.reached(target))


def make_plan(
    d: int,
    num_tasks: int,
    seed: int = 0,
    evaluation: str = "fresh",
    sampler: str = "data",
    x64: bool = False,
    block_size: int | None = None,
    target_relative_stderr: float | None = None,
) -> Plan:
    """The plan of a run with d features, from the arguments of `estimate_risk` of these names, checked."""
    positive_integer("num_tasks", num_tasks)
    choice("evaluation", evaluation, EVALUATIONS)
    choice("sampler", sampler, tuple(SAMPLERS))
    target = target_relative_stderr
    if target is not None and not 0 < finite_number("target_relative_stderr", target) < 1:
        raise ValueError(f"target_relative_stderr must be between 0 and 1, got {target}")
    boolean("x64", x64)
    block_size = checked_block_size(block_size, d, num_tasks, ROWS_AT_ONCE[sampler])
    return Plan(num_tasks, seed_integer(seed), evaluation, sampler, x64, block_size, target)


def estimate_risk(
    problem: Problem,
    weights: ArrayLike,
    lr: float,
    *,
    num_tasks: int = 20_000,
    seed: int = 0,
    evaluation: str = "fresh",
    sampler: str = "data",
    x64: bool = False,
    target_relative_stderr: float | None = None,
    block_size: int | None = None,
    progress: bool = False,
) -> Estimate:
    """Simulate TTT on many independent tasks and average the risk, the new query integrated out.

    Args:
        problem: the test-time problem.
        weights: W before the step, a scalar (times the identity), (d,) or (d, d).
        lr: step size of the one gradient step.
        num_tasks: number of independent experiments; the most, if there is a target.
        seed: an integer in [0, 2^32).
        evaluation: "fresh" evaluates with a new context, as the paper does; "same" with the context of TTT.
        sampler: "data" samples every row and takes a jax.grad step of the Flax model; "law" draws u and v from their
            law, see `ttt_jax.simulation.summaries`.
        x64: simulate in float64 in place of float32.
        target_relative_stderr: stop once the standard error is at most this times the mean; asked at four numbers of
            blocks per octave, the same in every run.
        block_size: tasks per block; by default what fits the cache. Results are reproducible for equal block sizes.
        progress: show a progress bar where standard error is a terminal and the work takes over two seconds.

    Returns:
        An `Estimate`. A warning is raised if the risk of any task is not finite.

    Raises:
        ValueError: naming the argument whose value has no meaning.

    Example:
        >>> problem = Problem(n=8, k=16, task=np.ones(4) / 2)
        >>> from ttt_jax.theory.exact import exact_risk
        >>> exact = exact_risk(problem, 0.0)
        >>> estimate = estimate_risk(problem, 0.0, exact.optimal_lr, num_tasks=4096)
        >>> abs(estimate.mean - exact.optimal) < 4 * estimate.stderr
        True
    """
    weights = weights_array(weights, problem.d)
    lr = finite_number("lr", lr)
    require_countable(n=problem.n, k=problem.k)
    plan = make_plan(problem.d, num_tasks, seed, evaluation, sampler, x64, block_size, target_relative_stderr)
    tally = Tally()
    with Progress(f"{sampler} Monte Carlo, tasks", num_tasks, enabled=progress) as bar:
        for tally in simulate(problem, weights, lr, plan):
            bar.advance(tally.num_tasks - bar.done)
    estimate = estimate_of(problem, weights, lr, plan, tally)
    if estimate.num_nonfinite:
        message = f"the risk of {estimate.num_nonfinite} of {estimate.num_tasks} tasks is not finite"
        warnings.warn(f"{message}: try a smaller lr, or x64", stacklevel=2)
    return estimate


def simulate(
    problem: Problem, weights: np.ndarray, lr: float, plan: Plan, tally: Tally | None = None
) -> Iterator[Tally]:
    """The tally after every block, from the given one on, until the plan is fulfilled."""
    tally = tally or Tally()
    with jax.enable_x64(plan.x64), jax.default_matmul_precision("highest"):
        with np.errstate(over="ignore"):
            dtype = jnp.float64 if plan.x64 else jnp.float32
            setting, scale = make_setting(problem, weights, lr, plan.sampler, plan.evaluation, dtype)
        blocks = simulate_blocks(
            SAMPLERS[plan.sampler],
            setting,
            num_tasks=plan.num_tasks,
            seed=plan.seed,
            block_size=plan.block_size,
            first=tally.num_blocks,
        )
        while not plan.fulfilled(tally):
            tally = tally.add(scale * next(blocks))
            yield tally


def estimate_of(problem: Problem, weights: np.ndarray, lr: float, plan: Plan, tally: Tally) -> Estimate:
    """The estimate that a finished run amounts to."""
    moments, broken = tally.moments, tally.num_nonfinite > 0
    history = tally.history if tally.at_mark else (*tally.history, tally.point())
    return Estimate(
        mean=math.nan if broken else moments.mean,
        stderr=math.nan if broken else moments.stderr,
        num_tasks=tally.num_tasks,
        stderr_reliable=not broken
        and tally.num_tasks > 1
        and unseen_variance(problem, weights, lr, plan.evaluation, tally.num_tasks) <= MAX_UNSEEN_VARIANCE,
        skewness=moments.skewness,
        kurtosis=moments.kurtosis,
        num_nonfinite=tally.num_nonfinite,
        sampler=plan.sampler,
        evaluation=plan.evaluation,
        seed=plan.seed,
        block_size=plan.block_size,
        history=history,
    )
