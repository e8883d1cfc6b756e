"""Monte Carlo of several TTT steps on the data path: any step sizes or optax optimiser, two protocols, early stopping.

Rows are never stored: a step that uses the same batch again draws it again from the same key.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.progress import Progress
from ttt_jax._internal.validate import boolean, choice, positive_integer, seed_integer, step_size_array, weights_array
from ttt_jax.problem import EVALUATIONS, PROTOCOLS, Problem
from ttt_jax.simulation.blocks import ROW_BLOCK, checked_block_size, require_countable, simulate_blocks
from ttt_jax.simulation.moments import Moments
from ttt_jax.simulation.rows import encode, gradient, sum_over_rows, summaries, summarize
from ttt_jax.simulation.scaled import Setting, draw_task, feature_unit, make_setting
from ttt_jax.training.models import LinearAttention

__all__ = ["Trajectory", "estimate_trajectory"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Monte Carlo estimates of the risk after 0, 1, ..., T steps, all on the same tasks.

    Args:
        mean: the mean risks per task, (T + 1,), not normalised.
        stderr: their standard errors.
        stopped: mean risk where each task stops at the step of smallest held-out loss; nan without held-out pairs.
        stopped_stderr: its standard error.
        stopped_step: the mean of that step.
        num_tasks: number of independent tasks.
        num_nonfinite: tasks whose risk overflowed at some step; every mean is nan if there are any.
    """

    mean: Float[np.ndarray, " steps_plus_1"]
    stderr: Float[np.ndarray, " steps_plus_1"]
    stopped: float
    stopped_stderr: float
    stopped_step: float
    num_tasks: int
    num_nonfinite: int


def estimate_trajectory(
    problem: Problem,
    weights: ArrayLike,
    step_sizes: ArrayLike | None = None,
    *,
    optimizer: optax.GradientTransformation | None = None,
    num_steps: int | None = None,
    protocol: str = "one_batch",
    evaluation: str = "fresh",
    held_out: int = 0,
    num_tasks: int = 2000,
    seed: int = 0,
    x64: bool = False,
    block_size: int | None = None,
    progress: bool = False,
) -> Trajectory:
    """Simulate several TTT steps on many independent tasks; the risk after each, the new query integrated out.

    Args:
        problem: the test-time problem.
        weights: W before the first step, a scalar, (d,) or (d, d).
        step_sizes: lr_1, ..., lr_T of plain gradient steps; or give optimizer and num_steps.
        optimizer: any optax optimiser that needs the gradient and the weights alone, for the loss that is a sum over
            the k queries; `ttt_train` takes those that look at the loss, too.
        num_steps: how many steps it takes.
        protocol: "one_batch" takes every step on the same pairs; "new_context" draws all pairs anew before each step.
        evaluation: "fresh" or "same" context at evaluation; "same" for one batch only.
        held_out: number of further labelled pairs, queried with the first context, that decide when to stop.
        num_tasks, seed, x64, block_size, progress: as in `estimate_risk`.

    Raises:
        ValueError: naming the argument whose value has no meaning.

    Example:
        >>> from ttt_jax.theory.several_steps import new_context_risk
        >>> problem, steps = Problem(n=16, k=32, task=np.ones(16) / 4), [2e-5, 1e-5]
        >>> found = estimate_trajectory(problem, 0.0, steps, protocol="new_context", num_tasks=500)
        >>> exact = new_context_risk(problem, 0.0, steps)
        >>> bool((abs(found.mean - exact)[1:] < 4 * found.stderr[1:]).all())
        True
    """
    choice("protocol", protocol, PROTOCOLS)
    choice("evaluation", evaluation, EVALUATIONS)
    if protocol == "new_context" and evaluation == "same":
        raise ValueError("evaluation must be 'fresh' for the protocol 'new_context', got 'same'")
    if (step_sizes is None) == (optimizer is None) or (optimizer is None) != (num_steps is None):
        options = {"step_sizes": step_sizes, "optimizer": optimizer, "num_steps": num_steps}
        given = [name for name, value in options.items() if value is not None]
        raise ValueError(f"give either step_sizes, or optimizer and num_steps, got {' and '.join(given) or 'none'}")
    if optimizer is not None:
        _require_optimizer(optimizer)
    lr = np.zeros(positive_integer("num_steps", num_steps)) if step_sizes is None else step_size_array(step_sizes)
    if held_out:
        positive_integer("held_out", held_out)
    positive_integer("num_tasks", num_tasks)
    boolean("x64", x64)
    require_countable(n=problem.n, k=problem.k, held_out=held_out)
    weights = weights_array(weights, problem.d)
    block_size = checked_block_size(block_size, problem.d, num_tasks, ROW_BLOCK)

    sampler = _Sampler(len(lr), protocol, held_out, optimizer)
    with jax.enable_x64(x64), jax.default_matmul_precision("highest"):
        setting, scale = make_setting(problem, weights, lr, "data", evaluation, jnp.float64 if x64 else jnp.float32)
        units = jnp.asarray([feature_unit(problem), scale], setting.lr.dtype)
        columns, num_nonfinite = [Moments() for _ in range(len(lr) + 3)], 0
        blocks = simulate_blocks(
            sampler, _Steps(setting, *units), num_tasks=num_tasks, seed=seed_integer(seed), block_size=block_size
        )
        with Progress("tasks of several steps", num_tasks, enabled=progress) as bar:
            for block in blocks:
                finite = np.isfinite(block[:, : len(lr) + 1]).all(axis=1)
                num_nonfinite += int((~finite).sum())
                columns = [a.merge(Moments.of(b)) for a, b in zip(columns, block[finite].T, strict=True)]
                bar.advance(len(block))
    if num_nonfinite:
        warnings.warn(f"the risk of {num_nonfinite} of {num_tasks} tasks is not finite", stacklevel=2)
        columns = [Moments(mean=math.nan) for _ in columns]
    mean, stderr = (np.array([getattr(c, name) for c in columns]) for name in ("mean", "stderr"))
    judged = 1.0 if held_out else math.nan
    return Trajectory(
        mean=scale * mean[:-2],
        stderr=scale * stderr[:-2],
        stopped=float(judged * scale * mean[-2]),
        stopped_stderr=float(judged * scale * stderr[-2]),
        stopped_step=float(judged * mean[-1]),
        num_tasks=num_tasks,
        num_nonfinite=num_nonfinite,
    )


class _Steps(NamedTuple):
    """A setting with one step size per step, and the units that it is in: of W^-1 and of the squared labels."""

    base: Setting
    inverse_weight_unit: Float[Array, ""]
    loss_unit: Float[Array, ""]


@dataclass(frozen=True)
class _Sampler:
    """One experiment: the risk after 0, ..., T steps, then the risk and the step where held-out pairs say stop."""

    num_steps: int
    protocol: str
    held_out: int
    optimizer: optax.GradientTransformation | None

    def __call__(self, key: Key[Array, ""], setting: _Steps) -> Float[Array, " steps_plus_3"]:
        base = setting.base
        key_task, key_context, key_train, key_fresh = jax.random.split(key, 4)
        task = draw_task(key_task, base)
        u, u_eval = summaries(key_context, key_fresh, task, base)
        optimizer = optax.sgd(lambda i: base.lr[i]) if self.optimizer is None else _in_units(self.optimizer, setting)

        def read(weights):
            error = linalg.apply(base.feature_root, task - encode(weights, u_eval))
            return error @ error + base.noise_var, encode(weights, u)

        def step(carry, i):
            weights, state = carry
            u_step, key_step = u, key_train
            if self.protocol == "new_context":
                u_step = summarize(jax.random.fold_in(key_context, i), task, base)
                key_step = jax.random.fold_in(key_train, i)
            total = gradient(key_step, u_step, task, base._replace(weights=weights))
            updates, state = optimizer.update(total, state, weights)
            weights = weights + updates
            return (weights, state), read(weights)

        start = base.weights, optimizer.init(base.weights)
        _, (risks, h) = jax.lax.scan(step, start, jnp.arange(self.num_steps))
        first_risk, first_h = read(base.weights)
        risks, h = jnp.append(first_risk, risks), jnp.concatenate([first_h[None], h])

        def loss(x, y, live):
            errors = jnp.where(live, y - jax.vmap(LinearAttention.read, (0, None))(h, x), 0.0)
            return jnp.sum(errors**2, axis=1)

        stop = jnp.array(0)
        if self.held_out:
            losses = sum_over_rows(loss, jax.random.fold_in(key_fresh, 1), jnp.int32(self.held_out), task, base)
            stop = jnp.argmin(losses)
        return jnp.concatenate([risks, jnp.stack([risks[stop], stop.astype(risks.dtype)])])


def _require_optimizer(optimizer: optax.GradientTransformation) -> None:
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            f"optimizer must be an optax.GradientTransformation such as optax.adam(1e-3), got {optimizer!r}"
        )
    one = jnp.zeros(1)
    try:
        jax.eval_shape(lambda: optimizer.update(one, optimizer.init(one), one))
    except TypeError as error:
        raise ValueError(f"optimizer must need the gradient and the weights alone: {error}") from None


def _in_units(optimizer: optax.GradientTransformation, steps: _Steps) -> optax.GradientTransformation:
    """The optimiser as it acts in the units of the setting, where W' = m W and the loss is divided by its unit."""
    m, unit = steps.inverse_weight_unit, steps.loss_unit

    def update(gradient, state, weights=None):
        updates, state = optimizer.update(m * unit * gradient, state, weights / m)
        return m * updates, state

    return optax.GradientTransformation(lambda weights: optimizer.init(weights / m), update)
