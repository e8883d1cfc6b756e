"""Monte Carlo estimates of the expected risk after test-time training: one driver for every start and procedure.

Blocks of tasks are added in a fixed order, in float64, to a tally (see `ttt_jax.simulation.worklist`). So an estimate
depends on the seed and the block size alone, and a run can resume where another stopped.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ttt_jax._internal import linalg
from ttt_jax._internal.plural import counted
from ttt_jax._internal.progress import Progress
from ttt_jax._internal.validate import (
    boolean,
    choice,
    finite_number,
    positive_integer,
    seed_integer,
    shown,
    weights_array,
)
from ttt_jax.problem import NotApplicable, Problem, SingleIndex, SparseTasks, require_linear
from ttt_jax.procedures import GradientStep, Procedure, as_procedure, has_free_lr, procedure_for
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation import samplers
from ttt_jax.simulation.accumulate import Tally
from ttt_jax.simulation.blocks import checked_block_size, require_countable
from ttt_jax.simulation.frame import in_frame
from ttt_jax.simulation.prompts import require_model
from ttt_jax.simulation.reliability import tails_are_seen
from ttt_jax.simulation.samplers import Joint, Sampler
from ttt_jax.simulation.scaled import Units, as_rows, safe_units, scale_problem
from ttt_jax.simulation.worklist import Work, tallies
from ttt_jax.training.models import LinearAttention, Prompt

__all__ = ["Estimate", "JointEstimate", "Run", "Stopped", "estimate_curve", "estimate_risk", "make_run"]

SAMPLERS = ("data", "law")
MAX_UNSEEN_VARIANCE = 0.1  # calibrated by benchmarks/coverage.py


class Stopped(NamedTuple):
    """Where each task stops at the step of smallest held-out loss.

    Args:
        risk: mean risk there.
        stderr: its standard error.
        step: the mean of that step.
    """

    risk: float
    stderr: float
    step: float


@dataclass(frozen=True, eq=False)
class Estimate:
    """A Monte Carlo estimate of an expected risk.

    Args:
        mean: the mean risk per task, not normalised; after 0, 1, ..., T steps, (T + 1,), if there are several.
        stderr: its standard error, of the same shape.
        num_tasks: number of independent tasks.
        stderr_reliable: False where the standard error is not to be trusted: where more than a tenth of its variance
            comes from events rarer than one in num_tasks, see `ttt_jax.simulation.reliability`. None, "not assessed",
            where the law of the risk is not known: for models, links, sparse tasks, several steps and folds. Features
            that are not Gaussian are judged as if they were, but Student's t with a risk of infinite variance: False.
        skewness: third standardised moment of the per-task risk, after the last step.
        kurtosis: fourth standardised moment of it, 3 for a Gaussian.
        num_nonfinite: tasks whose risk is not finite; the mean is nan if there are any.
        sampler: "data" or "law".
        evaluation: "fresh" or "same" context at inference.
        seed: of the random key.
        block_size: tasks per block; part of what fixes the random numbers.
        history: (number of tasks, mean, standard error) so far, at log-spaced numbers of tasks: a convergence curve.
        stopped: what early stopping makes of it; None without held-out pairs.
    """

    mean: Any
    stderr: Any
    num_tasks: int
    stderr_reliable: bool | None
    skewness: float
    kurtosis: float
    num_nonfinite: int
    sampler: str
    evaluation: str
    seed: int
    block_size: int
    history: tuple[tuple[int, float, float], ...] = field(repr=False)
    stopped: Stopped | None = None

    @property
    def doubt(self) -> str | None:
        """Why the standard error cannot be trusted, or whether that was not assessed; None if it can."""
        if self.stderr_reliable:
            return None
        if self.num_nonfinite:
            return f"the risk of {counted(self.num_nonfinite, 'task')} is not finite"
        if self.num_tasks == 1:
            return "one task has no standard error"
        if self.stderr_reliable is None:
            return "not assessed"
        return "too few tasks for the tails of the per-task risk"


@dataclass(frozen=True, eq=False)
class JointEstimate:
    """Estimates of several procedures on the same tasks.

    Args:
        estimates: one `Estimate` per procedure.
        covariance: of the mean risks after the last step, (P, P).

    Example:
        >>> problem = Problem(n=40, k=40, task=np.ones(8) / 8**0.5)
        >>> joint = estimate_risk(problem, 0.01, (0.0, 1e-6), num_tasks=2000)
        >>> gain, stderr = joint.difference(0, 1)
        >>> gain > 0, stderr < joint.estimates[0].stderr
        (True, True)
    """

    estimates: tuple[Estimate, ...]
    covariance: Float[np.ndarray, "P P"]

    def difference(self, first: int, second: int) -> tuple[float, float]:
        """Risk of one procedure minus that of another, by their places, and its standard error."""
        weights = np.zeros(len(self.estimates))
        weights[first] += 1
        weights[second] -= 1
        means = np.array([np.atleast_1d(estimate.mean)[-1] for estimate in self.estimates])
        return float(weights @ means), math.sqrt(max(float(weights @ self.covariance @ weights), 0.0))


@overload
def estimate_risk(
    problem: Problem,
    start: Any,
    procedure: tuple[Procedure | float, ...],
    *,
    num_tasks: int = ...,
    seed: int = ...,
    sampler: str = ...,
    x64: bool = ...,
    target_relative_stderr: float | None = ...,
    block_size: int | None = ...,
    num_queries: int = ...,
    progress: bool = ...,
) -> JointEstimate: ...
@overload
def estimate_risk(
    problem: Problem,
    start: Any,
    procedure: Procedure | float,
    *,
    num_tasks: int = ...,
    seed: int = ...,
    sampler: str = ...,
    x64: bool = ...,
    target_relative_stderr: float | None = ...,
    block_size: int | None = ...,
    num_queries: int = ...,
    progress: bool = ...,
) -> Estimate: ...
def estimate_risk(
    problem: Problem,
    start: Any,
    procedure: Any,
    *,
    num_tasks: int = 20_000,
    seed: int = 0,
    sampler: str = "data",
    x64: bool = False,
    target_relative_stderr: float | None = None,
    block_size: int | None = None,
    num_queries: int = 64,
    progress: bool = False,
) -> Estimate | JointEstimate:
    """Simulate test-time training on many independent tasks and average the risk.

    Args:
        problem: the test-time problem.
        start: where training starts: the W of linear attention, a scalar (times the identity), (d,) or (d, d), for
            which the new query is integrated out where labels are linear; or (model, params) of any model, see
            `functional`.
        procedure: what is done at test time; a number is the step size of one gradient step. A tuple of procedures is
            tried on the same tasks.
        num_tasks: number of independent experiments; the most, if there is a target.
        seed: an integer in [0, 2^32).
        sampler: "data" samples every row and takes a jax.grad step of the Flax model; "law" draws u and v from their
            law, see `ttt_jax.simulation.summaries`.
        x64: simulate in float64 in place of float32.
        target_relative_stderr: stop once the standard error is at most this times the mean; asked at four numbers of
            blocks per octave, the same in every run.
        block_size: tasks per block; by default what fits the cache. Results are reproducible for equal block sizes.
        num_queries: for (model, params) and for links, fresh queries per task on which the risk is measured.
        progress: show a progress bar where standard error is a terminal and the work takes over two seconds.

    Returns:
        An `Estimate`; for a tuple of procedures a `JointEstimate`. A warning is raised if the risk of any task is not
        finite.

    Raises:
        ValueError: if an argument is invalid, or a step size is left "optimal": `compare` resolves it by theory.
        NotApplicable: if the sampler does not know the procedure.

    Example:
        >>> problem = Problem(n=8, k=16, task=np.ones(4) / 2)
        >>> from ttt_jax.theory import exact_risk
        >>> exact = exact_risk(problem, 0.0)
        >>> estimate = estimate_risk(problem, 0.0, exact.optimal_lr, num_tasks=4096)
        >>> abs(estimate.mean - exact.optimal) < 4 * estimate.stderr
        True
    """
    several = isinstance(procedure, tuple)
    if isinstance(procedure, list):
        raise ValueError(f"procedure must be one procedure or a tuple of them, got the list {shown(procedure)}")
    procedures = tuple(as_procedure(one) for one in (procedure if several else (procedure,)))
    if not procedures:
        raise ValueError("procedure must not be an empty tuple")
    if any(has_free_lr(one) for one in procedures):
        found = "compare finds the optimum by theory"
        if isinstance(start, tuple):
            found = "no theory finds it for a model; a tuple of step sizes is tried on the same tasks"
        raise ValueError(f"lr must be a number to be simulated, got 'optimal': {found}")
    run = make_run(
        problem,
        start,
        procedures,
        num_tasks=num_tasks,
        seed=seed,
        sampler=sampler,
        x64=x64,
        target_relative_stderr=target_relative_stderr,
        block_size=block_size,
        num_queries=num_queries,
    )
    tally = _finish(run, progress)
    estimates = run.estimates(tally)
    if not several:
        return estimates[0]
    assert tally.moments is not None
    last = np.cumsum([len(one.units) for one in run.parts]) - 1
    covariance = tally.moments.covariance[np.ix_(last, last)] / max(tally.moments.count, 1)
    return JointEstimate(estimates, covariance)


def estimate_curve(
    problem: Problem, start: Any, procedure: Procedure, *, num_tasks: int = 2000, seed: int = 0, x64: bool = False
) -> RiskCurve:
    """The risk for every step size of a procedure that leaves it free, by simulation; so far for `Folds`.

    Args:
        problem, start, num_tasks, seed, x64: as in `estimate_risk`.
        procedure: with lr = "optimal".

    Returns:
        A `RiskCurve` whose `stderr(lr)` is the standard error of the simulation; nan if the risk of any task is not
        finite.

    Example:
        >>> from ttt_jax.procedures import Folds
        >>> curve = estimate_curve(Problem(n=8, k=16, task=np.ones(4) / 2), 0.0, Folds(3), num_tasks=500)
        >>> curve.initial, curve.optimal < 0.8
        (1.0, True)
    """
    if not has_free_lr(procedure):
        raise ValueError(f"procedure must be one with lr = 'optimal', such as Folds(5), got {shown(procedure)}")
    require_linear(problem, "estimate_curve")
    if isinstance(procedure, GradientStep):
        raise NotApplicable("estimate_curve is for procedures without a formula; exact_risk has the curve of one step")
    if positive_integer("num_tasks", num_tasks) < 2:
        raise ValueError("num_tasks must be at least 2 for a standard error, got 1")
    run = make_run(problem, start, (procedure,), num_tasks=num_tasks, seed=seed, x64=x64)
    tally = _finish(run, False)
    assert tally.moments is not None
    mean, covariance = tally.moments.mean, tally.moments.covariance / tally.moments.count
    if tally.num_nonfinite:
        mean, covariance = mean * np.nan, covariance * np.nan
    c0, c1, c2 = mean.tolist()
    return RiskCurve(c0, c1, c2, covariance)


@dataclass(frozen=True, eq=False, kw_only=True)
class Run(Work):
    """The work that a simulation is, and what it is about; see `make_run`."""

    problem: Problem
    procedures: tuple[Procedure, ...]
    weights: np.ndarray | None  # W of linear attention, None for a model
    parts: tuple[Sampler, ...]
    sampler: str

    def estimates(self, tally: Tally) -> tuple[Estimate, ...]:
        """What a finished run amounts to, one `Estimate` per procedure."""
        assert tally.moments is not None
        moments, broken = tally.moments, tally.num_nonfinite > 0
        history = tally.history if tally.at_mark else (*tally.history, tally.point())
        found, first = [], 0
        for procedure, part in zip(self.procedures, self.parts, strict=True):
            own = np.arange(first, first := first + len(part.units))
            mean, stderr = (np.where(broken, math.nan, a[own]) for a in (moments.mean, moments.stderr))
            stopped = None
            if getattr(procedure, "held_out", 0):
                stopped = Stopped(float(mean[0]), float(stderr[0]), float(mean[1]))
                own, mean, stderr = own[2:], mean[2:], stderr[2:]
            scalar = len(part.units) == 1
            found.append(
                Estimate(
                    mean=float(mean[0]) if scalar else mean,
                    stderr=float(stderr[0]) if scalar else stderr,
                    num_tasks=tally.num_tasks,
                    stderr_reliable=self._reliable(procedure, tally),
                    skewness=float(moments.skewness[own[-1]]),
                    kurtosis=float(moments.kurtosis[own[-1]]),
                    num_nonfinite=tally.num_nonfinite,
                    sampler=self.sampler,
                    evaluation=self.problem.inference.context,
                    seed=self.seed,
                    block_size=self.block_size,
                    history=history,
                    stopped=stopped,
                )
            )
        return tuple(found)

    def _reliable(self, procedure: Procedure, tally: Tally) -> bool | None:
        if tally.num_nonfinite or tally.num_tasks < 2:
            return False
        sparse = isinstance(self.problem.task, SparseTasks)
        if self.weights is None or sparse or not isinstance(procedure, GradientStep):
            return None
        return tails_are_seen(self.problem, self.weights, procedure, tally.num_tasks, MAX_UNSEEN_VARIANCE)


def make_run(
    problem: Problem,
    start: Any,
    procedures: tuple[Procedure, ...],
    *,
    num_tasks: int,
    seed: int = 0,
    sampler: str = "data",
    x64: bool = False,
    block_size: int | None = None,
    target_relative_stderr: float | None = None,
    num_queries: int = 64,
) -> Run:
    """The run of `estimate_risk` with these arguments, all of them checked."""
    procedures = tuple(procedure_for(problem, one) for one in procedures)
    positive_integer("num_tasks", num_tasks)
    choice("sampler", sampler, SAMPLERS)
    target = target_relative_stderr
    if target is not None and not 0 < finite_number("target_relative_stderr", target) < 1:
        raise ValueError(f"target_relative_stderr must be between 0 and 1, got {target}")
    boolean("x64", x64)
    seed = seed_integer(seed)
    law = problem.inference
    counts = {"n": problem.n, "k": problem.k, "evaluation.n": law.n or 1}
    require_countable(**counts, held_out=max(getattr(p, "held_out", 0) for p in procedures))
    is_model, linear = isinstance(start, tuple), not isinstance(problem.task, SingleIndex)
    if sampler == "law" and (is_model or not linear or problem.feature_law != "gaussian"):
        why = "a model" if is_model else f"the feature_law {problem.feature_law!r}" if linear else "labels with a link"
        raise ValueError(f"sampler must be 'data' for {why}, got 'law'")
    dtype = jnp.float64 if x64 else jnp.float32
    weights, drawn = None, problem
    with jax.enable_x64(x64), np.errstate(over="ignore"):
        if is_model or not linear:
            start = start if is_model else (_linear_attention, _dense(start, problem.d))
            require_model(start, problem)
            model, params = start
            units = Units(1.0, 1.0)
            positive_integer("num_queries", num_queries)
            parts = [samplers.prompts(procedure, problem, model, num_queries) for procedure in procedures]
            begin = jax.tree.map(lambda p: np.asarray(p, dtype), params)
            if any(np.isnan(leaf).any() for leaf in jax.tree.leaves(begin)):
                raise ValueError("start must have parameters that are numbers, got nan")
            size = sum(leaf.size for leaf in jax.tree.leaves(begin))
            stepped = max(part.num_stepped for part in parts) * size
        else:
            weights, units = weights_array(start, problem.d, "start"), safe_units(problem)
            begin, form = weights, linalg.dense
            if sampler == "data":
                parts = [samplers.rows(procedure, problem, units) for procedure in procedures]
            else:
                form = as_rows
                drawn, begin, steps = in_frame(problem, weights, procedures) or (problem, weights, procedures)
                parts = [samplers.summaries(step, drawn, units, problem.d) for step in steps]
            begin = np.asarray(units.m * form(begin, drawn.d), dtype)
            stepped = max(part.num_stepped for part in parts)
        arguments = jax.tree.map(
            lambda a: np.asarray(a, np.int32 if isinstance(a, int) else dtype), tuple(p.arguments for p in parts)
        )
        setting = scale_problem(drawn, units, dtype), begin, arguments
    rows = max(part.num_rows for part in parts)
    block_size = checked_block_size(block_size, drawn.d, num_tasks, rows, stepped)
    return Run(
        experiment=Joint(tuple(part.draw for part in parts), tuple(len(part.units) for part in parts)),
        setting=setting,
        units=np.concatenate([part.units for part in parts]),
        num_tasks=num_tasks,
        seed=seed,
        block_size=block_size,
        x64=x64,
        target_relative_stderr=target,
        problem=problem,
        procedures=procedures,
        weights=weights,
        parts=tuple(parts),
        sampler=sampler,
    )


def _dense(start: Any, d: int) -> Float[np.ndarray, "d d"]:
    return linalg.dense(weights_array(start, d, "start"), d)


def _linear_attention(weights: Float[Array, "d d"], prompt: Prompt) -> Float[Array, " k"]:
    return LinearAttention(weights)(prompt)


def _finish(run: Run, progress: bool) -> Tally:
    tally = Tally()
    with Progress(f"{run.sampler} Monte Carlo, tasks", run.num_tasks, enabled=progress) as bar:
        for progress_of in tallies([(run, tally)]):
            (tally,) = progress_of.values()
            bar.advance(tally.num_tasks - bar.done)
    if tally.num_nonfinite:
        message = f"the risk of {tally.num_nonfinite} of {counted(tally.num_tasks, 'task')} is not finite"
        warnings.warn(f"{message}: try a smaller lr, or x64", stacklevel=3)
    return tally
