"""Monte Carlo estimates of the expected risk after one TTT step.

Tasks are cut into fixed blocks; block i draws from fold_in(key, i), and its risks reach the host, where streaming
moments are merged in float64 in block order. So the result does not depend on how blocks are grouped into calls.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree
from numpy.typing import ArrayLike

from ttt_jax import linalg
from ttt_jax.data import ROW_BLOCK, data_risk
from ttt_jax.exact import EVALUATIONS
from ttt_jax.law import Setting, law_risk
from ttt_jax.moments import Moments
from ttt_jax.problem import (
    GaussianTasks,
    Problem,
    choice,
    finite_number,
    mean_square,
    positive_integer,
    seed_integer,
    weights_array,
)
from ttt_jax.progress import Progress
from ttt_jax.tails import unseen_variance

__all__ = ["Estimate", "estimate_risk"]

Sampler = Callable[..., Float[Array, "..."]]
"""(key, setting=, evaluation=) -> what one experiment gives, an array of any shape."""

SAMPLERS: dict[str, Sampler] = {"data": data_risk, "law": law_risk}
CACHE_BYTES = 2 * 2**20
MAX_BLOCK_SIZE = 4096
MAX_STEPPED_WEIGHTS_BYTES = 2**28
MAX_ROWS = 2**31 - 1 - ROW_BLOCK  # row counts are int32 on the device
BLOCKS_PER_CALL = 64
SECONDS_PER_CALL = 0.25
MAX_UNSEEN_VARIANCE = 0.1  # calibrated by benchmarks/coverage.py


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo estimate of an expected risk.

    Args:
        mean: the mean risk per task, not normalised.
        stderr: its standard error.
        num_tasks: number of independent tasks.
        stderr_reliable: False where the tails of the per-task risk make the standard error untrustworthy: where more
            than a tenth of its variance comes from events rarer than one in num_tasks, see `ttt_jax.tails`.
        skewness: third standardised moment of the per-task risk.
        kurtosis: fourth standardised moment of the per-task risk, 3 for a Gaussian.
        num_nonfinite: tasks whose risk overflowed; the mean is nan if there are any.
        sampler: "data" or "law".
        evaluation: "fresh" or "same".
        seed: of the random key.
        block_size: tasks per block; part of what fixes the random numbers.
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
    block_size: int | None = None,
    progress: bool = False,
) -> Estimate:
    """Simulate TTT on many independent tasks and average the risk, the new query integrated out.

    Args:
        problem: the test-time problem.
        weights: W before the step, a scalar (times the identity), (d,) or (d, d).
        lr: step size of the one gradient step.
        num_tasks: number of independent experiments.
        seed: an integer in [0, 2^32).
        evaluation: "fresh" evaluates with a new context, as the paper does; "same" with the context of TTT.
        sampler: "data" samples every row and takes a jax.grad step of the Flax model; "law" draws u and v from their
            law, see `ttt_jax.law`.
        x64: simulate in float64 in place of float32.
        block_size: tasks per block; by default what fits the cache. Results are reproducible for equal block sizes.
        progress: show a progress bar where standard error is a terminal and the work takes over two seconds.

    Returns:
        An `Estimate`. A warning is raised if the risk of any task is not finite.

    Raises:
        ValueError: naming the argument whose value has no meaning.

    Example:
        >>> problem = Problem(n=8, k=16, task=np.ones(4) / 2)
        >>> from ttt_jax.exact import exact_risk
        >>> exact = exact_risk(problem, 0.0)
        >>> estimate = estimate_risk(problem, 0.0, exact.optimal_lr, num_tasks=4096)
        >>> abs(estimate.mean - exact.optimal) < 4 * estimate.stderr
        True
    """
    positive_integer("num_tasks", num_tasks)
    choice("evaluation", evaluation, EVALUATIONS)
    choice("sampler", sampler, tuple(SAMPLERS))
    weights = weights_array(weights, problem.d)
    lr = finite_number("lr", lr)
    for field, rows in (("n", problem.n), ("k", problem.k)):
        if rows > MAX_ROWS:
            raise ValueError(f"{field} must be at most {MAX_ROWS} to be simulated, got {rows}")
    if block_size is None:
        block_size = default_block_size(problem.d, num_tasks, sampler)
    positive_integer("block_size", block_size)

    with jax.enable_x64(x64), jax.default_matmul_precision("highest"):
        with np.errstate(over="ignore"):
            setting, scale = make_setting(problem, weights, lr, sampler, jnp.float64 if x64 else jnp.float32)
        moments, num_nonfinite = Moments(), 0
        blocks = simulate_blocks(
            SAMPLERS[sampler], setting, evaluation, num_tasks, seed_integer(seed), block_size, sampler, progress
        )
        for block in blocks:
            finite = np.isfinite(scale * block)
            moments = moments.merge(Moments.of(scale * block[finite]))
            num_nonfinite += len(block) - int(finite.sum())
    if num_nonfinite:
        message = f"the risk of {num_nonfinite} of {num_tasks} tasks is not finite: try a smaller lr, or x64"
        warnings.warn(message, stacklevel=2)
    return Estimate(
        mean=math.nan if num_nonfinite else moments.mean,
        stderr=math.nan if num_nonfinite else moments.stderr,
        num_tasks=num_tasks,
        stderr_reliable=not num_nonfinite
        and num_tasks > 1
        and unseen_variance(problem, weights, lr, evaluation, num_tasks) <= MAX_UNSEEN_VARIANCE,
        skewness=moments.skewness,
        kurtosis=moments.kurtosis,
        num_nonfinite=num_nonfinite,
        sampler=sampler,
        evaluation=evaluation,
        seed=int(seed),
        block_size=int(block_size),
    )


def default_block_size(d: int, num_tasks: int, sampler: str) -> int:
    """Tasks per block: their normals fit the cache, their stepped weights fit memory, and short runs are one block."""
    rows = ROW_BLOCK if sampler == "data" else 1
    fitting = min(CACHE_BYTES // (4 * rows * d), MAX_STEPPED_WEIGHTS_BYTES // (4 * d * d), MAX_BLOCK_SIZE)
    return max(1, min(fitting, 2 ** math.ceil(math.log2(num_tasks))))


def simulate_blocks(
    sampler: Sampler,
    setting: PyTree,
    evaluation: str,
    num_tasks: int,
    seed: int,
    block_size: int,
    name: str,
    progress: bool,
) -> Iterator[np.ndarray]:
    """What sampler(key, setting, evaluation=) gives for num_tasks tasks, a float64 array for every block of them."""
    key = jax.random.key(seed, impl="threefry2x32")
    total, done, count = -(-num_tasks // block_size), 0, 1
    with Progress(f"{name} Monte Carlo, tasks", num_tasks, enabled=progress) as bar:
        while done < total:
            started = time.perf_counter()
            count = min(count, total - done, BLOCKS_PER_CALL)
            draws = run_blocks(key, done, count, setting, sampler=sampler, evaluation=evaluation, block_size=block_size)
            for block in np.asarray(draws, np.float64)[:count]:
                block = block[: num_tasks - done * block_size]
                yield block
                done += 1
                bar.advance(len(block))
            if time.perf_counter() - started < SECONDS_PER_CALL:
                count *= 2


@partial(jax.jit, static_argnames=("sampler", "evaluation", "block_size"))
def run_blocks(
    key: Key[Array, ""],
    first: Int[Array, ""],
    count: Int[Array, ""],
    setting: PyTree,
    *,
    sampler: Sampler,
    evaluation: str,
    block_size: int,
) -> Float[Array, "blocks T ..."]:
    """The draws of blocks first, ..., first + count - 1, in the first `count` rows of a buffer of fixed size."""
    draw = partial(sampler, setting=setting, evaluation=evaluation)

    def block(i, buffer):
        keys = jax.random.split(jax.random.fold_in(key, first + i), block_size)
        return buffer.at[i].set(jax.vmap(draw)(keys))

    one = jax.eval_shape(draw, key)
    buffer = jnp.zeros((BLOCKS_PER_CALL, block_size, *one.shape), one.dtype)
    return jax.lax.fori_loop(0, count, block, buffer)


def feature_unit(problem: Problem) -> float:
    """The mean variance of the features, tr(Sx)/d; 1 if it is 0."""
    return float(np.mean(problem.feature_cov if problem.feature_cov.ndim < 2 else np.diag(problem.feature_cov))) or 1.0


def make_setting(problem: Problem, weights: np.ndarray, lr: ArrayLike, sampler: str, dtype) -> tuple[Setting, float]:
    """The cell as arrays of the given precision, and the unit of the risk.

    Float32 would overflow or underflow in other units than these: features with tr(Sx) = d, labels with a variance of
    order one. With x = sqrt(m) x' and y = sqrt(scale) y' the same experiment has b' = sqrt(m / scale) b, W' = m W and
    lr' = m^2 scale lr.
    """
    m = feature_unit(problem)
    scale = m * mean_square(problem) + problem.noise_var or 1.0
    unit = math.sqrt(m / scale)
    task, task_root = problem.task, None
    if isinstance(task, GaussianTasks):
        task_root = jnp.asarray(unit * linalg.sqrt(task.cov), dtype)
        task = task.mean
    if sampler == "data":
        weights = linalg.dense(weights, problem.d)
    setting = Setting(
        n=jnp.int32(problem.n),
        k=jnp.int32(problem.k),
        lr=jnp.asarray(np.asarray(lr) * m**2 * scale, dtype),
        noise_var=jnp.asarray(problem.noise_var / scale, dtype),
        feature_root=jnp.asarray(linalg.sqrt(problem.feature_cov) / math.sqrt(m), dtype),
        weights=jnp.asarray(m * weights, dtype),
        task_mean=jnp.asarray(unit * task, dtype),
        task_root=task_root,
    )
    return setting, scale
