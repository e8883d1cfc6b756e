"""The risk of linear predictors that see the labelled pairs without a transformer, averaged over sampled features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import integer_from, seed_integer
from ttt_jax.problem import Problem, require_linear, second_moment

__all__ = ["estimate_posterior_mean"]

SMALLEST = 1e-12
"""Of a noise variance beside others: stands for 0."""


def estimate_posterior_mean(
    problem: Problem, prior_cov: Any, noise_var: float | None = None, *, num_draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """The risk of the posterior mean of b ~ N(0, P) given the labelled pairs, and its standard error.

        b^ = H y,   H = P X' (X P X' + D)^+,   risk = sq2 + E |Sq^(1/2) (I - H X) b|^2 + E |Sq^(1/2) H xi|^2

    X are the pairs of `labelled_pairs`, each under its own law. Given X the average over labels and query is exact.

    Args:
        problem: the test-time problem.
        prior_cov: P, a scalar, (d,) or (d, d).
        noise_var: of the labels as the predictor has it, D = noise_var I; None for what it is. 0 with P = I is least
            squares of minimum norm.
        num_draws: sampled X, at least 2.
        seed: of the sampling.

    Example:
        >>> problem = Problem(n=8, k=16, task=np.ones(4) / 2, noise_var=0.5)
        >>> risk, stderr = estimate_posterior_mean(problem, 1 / 4)
        >>> 0.5 < risk < 0.6, stderr < 0.01
        (True, True)
    """
    require_linear(problem, "the risk of the posterior mean")
    integer_from(2, "num_draws", num_draws)
    law: Any = problem.inference
    d, sizes, noises = problem.d, [problem.n + problem.k], [problem.noise_var]
    roots = [linalg.sqrt(problem.feature_cov)]
    if law.context == "fresh":
        sizes, roots, noises = [*sizes, law.n], [*roots, linalg.sqrt(law.feature_cov)], [*noises, law.noise_var]
    noise = np.repeat(noises, sizes)
    assumed = noise if noise_var is None else np.full(len(noise), float(noise_var))
    scale = np.sqrt(np.maximum(assumed, SMALLEST * assumed.max())) if assumed.any() else np.ones(len(noise))
    prior, query = (linalg.dense(linalg.sqrt(cov), d) for cov in (np.asarray(prior_cov), law.query_feature_cov))
    tasks = _task_root(problem)
    rng, risks = np.random.default_rng(seed_integer(seed)), []
    for _ in range(num_draws):
        z = np.split(_features(rng, problem, len(noise)), sizes[:1])
        x = np.concatenate([linalg.apply(root, rows) for root, rows in zip(roots, z, strict=False)])
        left, values, right = np.linalg.svd((x @ prior) / scale[:, None], full_matrices=False)
        live = values > max(x.shape) * np.finfo(float).eps * values[0]
        shrunk = np.where(live, values, 0.0) / (values**2 + 1 if assumed.any() else np.where(live, values, 1.0) ** 2)
        h = query @ prior @ (right.T * shrunk) @ (left / scale[:, None]).T
        risks.append(np.sum((query @ tasks - h @ (x @ tasks)) ** 2) + np.sum(h**2 * noise))
    return law.query_noise_var + float(np.mean(risks)), float(np.std(risks, ddof=1)) / math.sqrt(num_draws)


def _task_root(problem: Problem) -> Float[np.ndarray, "d r"]:
    """F with F F' = E bb'."""
    if isinstance(task := problem.task, np.ndarray):
        return task[:, None]
    mean, cov = second_moment(task)
    return np.column_stack([mean, linalg.dense(linalg.sqrt(cov), problem.d)])


def _features(rng: np.random.Generator, problem: Problem, rows: int) -> Float[np.ndarray, "rows d"]:
    """Independent entries of mean 0 and variance 1."""
    shape = rows, problem.d
    if problem.feature_law == "student_t":
        dof = float(problem.dof or math.nan)
        return math.sqrt((dof - 2) / dof) * rng.standard_t(dof, shape)
    return rng.standard_normal(shape) if problem.feature_law == "gaussian" else rng.choice([-1.0, 1.0], shape)
