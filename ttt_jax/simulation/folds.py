"""Monte Carlo of one K-fold TTT step: every pair is a query once, with the other folds as its context.

The stepped W is linear in the step size, so the risk is a parabola in it here too, and simulation gives all of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import choice, positive_integer, seed_integer, weights_array
from ttt_jax.problem import EVALUATIONS, Problem, require_gaussian
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation.blocks import default_block_size, require_countable, simulate_blocks
from ttt_jax.simulation.rows import encode
from ttt_jax.simulation.scaled import Setting, draw_task, make_setting
from ttt_jax.training.models import LinearAttention, Prompt, functional
from ttt_jax.training.prompts import fold_prompts, sample_prompt
from ttt_jax.training.steps import ttt_loss

__all__ = ["estimate_folds"]


def estimate_folds(
    problem: Problem,
    weights: ArrayLike,
    folds: int,
    *,
    evaluation: str = "fresh",
    num_tasks: int = 2000,
    seed: int = 0,
) -> RiskCurve:
    """The risk after one gradient step on the K-fold loss of all n + k pairs, for every step size, by simulation.

    Args:
        problem: the test-time problem; its n + k = N pairs are split into folds. With folds = 1 the first n are the
            context and the last k the queries, as in the paper.
        weights: W before the step, a scalar, (d,) or (d, d).
        folds: number of folds K, a divisor of N; N is leave-one-out.
        evaluation: "fresh" draws a new context of the training length, N - N/K; "same" takes that of the first fold.
        num_tasks: number of independent tasks, at least 2.
        seed: an integer in [0, 2^32).

    Returns:
        A `RiskCurve` whose `stderr(lr)` is the standard error of the simulation. If the risk of any task is not
        finite, there is a warning and the curve is nan.

    Raises:
        ValueError: naming the argument whose value has no meaning.

    Example:
        >>> curve = estimate_folds(Problem(n=8, k=16, task=np.ones(4) / 2), 0.0, 3, num_tasks=500)
        >>> curve.initial, curve.optimal < 0.8
        (1.0, True)
    """
    choice("evaluation", evaluation, EVALUATIONS)
    if positive_integer("num_tasks", num_tasks) < 2:
        raise ValueError("num_tasks must be at least 2 for a standard error, got 1")
    require_gaussian(problem, "the simulation of folds")
    require_countable(n=problem.n, k=problem.k)
    total = problem.n + problem.k
    if positive_integer("folds", folds) > 1 and total % folds:
        raise ValueError(f"folds must divide n + k = {total}, got {folds}")
    n = problem.n if folds == 1 else total - total // folds
    sampler = _Sampler(n, total, folds, evaluation)
    block_size = default_block_size(problem.d, num_tasks, folds * total)
    with jax.default_matmul_precision("highest"):
        setting, scale = make_setting(problem, weights_array(weights, problem.d), 1.0, "data", evaluation, jnp.float32)
        units = scale * float(setting.lr) ** np.arange(3)  # the setting's step size in units of the caller's
        blocks = simulate_blocks(sampler, setting, num_tasks=num_tasks, seed=seed_integer(seed), block_size=block_size)
        mean, scatter, num_nonfinite = _mean_and_scatter(units * block for block in blocks)
    if num_nonfinite:
        warnings.warn(f"the risk of {num_nonfinite} of {num_tasks} tasks is not finite", stacklevel=2)
        mean, scatter = mean * np.nan, scatter * np.nan
    c0, c1, c2 = mean.tolist()
    return RiskCurve(c0, c1, c2, scatter / (num_tasks - 1) / num_tasks)


def _mean_and_scatter(
    blocks: Iterable[Float[np.ndarray, "T 3"]],
) -> tuple[Float[np.ndarray, 3], Float[np.ndarray, "3 3"], int]:
    """The mean of all finite rows, the sum of the outer products of their deviations from it, the number of others."""
    count, num_nonfinite, mean, scatter = 0, 0, np.zeros(3), np.zeros((3, 3))
    for block in blocks:
        draws = block[np.isfinite(block).all(axis=1)]
        num_nonfinite += len(block) - len(draws)
        if not len(draws):
            continue
        total, delta = count + len(draws), draws.mean(axis=0) - mean
        deviation = draws - draws.mean(axis=0)
        scatter += deviation.T @ deviation + np.outer(delta, delta) * (count * len(draws) / total)
        mean += delta * (len(draws) / total)
        count = total
    return mean, scatter, num_nonfinite


@dataclass(frozen=True)
class _Sampler:
    """One experiment: the coefficients (c0, c1, c2) of its risk in the step size."""

    n: int
    total: int
    folds: int
    evaluation: str

    def __call__(self, key: Key[Array, ""], setting: Setting) -> Float[Array, 3]:
        key_task, key_data, key_fresh = jax.random.split(key, 3)
        task = draw_task(key_task, setting)

        def pairs(key, count):
            prompt = sample_prompt(key, task, setting.feature_root, jnp.sqrt(setting.noise_var), count, 0)
            return prompt.context_x, prompt.context_y

        x, y = pairs(key_data, self.total)
        prompts = Prompt(x[: self.n], y[: self.n], x[self.n :], y[self.n :])
        if self.folds > 1:
            prompts = fold_prompts(x, y, self.folds)
        context = (x[: self.n], y[: self.n]) if self.folds == 1 else (prompts.context_x[0], prompts.context_y[0])
        if self.evaluation == "fresh":
            context = pairs(key_fresh, self.n)
        model, params = functional(LinearAttention(setting.weights))
        gradient = jax.grad(ttt_loss, argnums=1)(model, params, prompts).weights[...]
        u = LinearAttention.summarize(*context)
        error = linalg.apply(setting.feature_root, task - encode(setting.weights, u))
        change = linalg.apply(setting.feature_root, gradient @ u)
        return jnp.stack([error @ error + setting.noise_var, -2 * error @ change, change @ change])
