"""Pretraining: the weights that minimise the in-context risk, in closed form and by gradient descent."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree
from numpy.typing import ArrayLike

from ttt_jax import linalg
from ttt_jax.checkpoint import Checkpoints, keep_settings
from ttt_jax.models import Model, Prompt
from ttt_jax.problem import Pretraining, Problem
from ttt_jax.progress import progress_bar
from ttt_jax.ttt import ttt_loss
from ttt_jax.validate import choice, positive_integer, positive_number, seed_integer, weights_array

__all__ = ["pretrain", "pretrained_weights", "sample_prompt"]


def pretrained_weights(pretraining: Pretraining, *, dense: bool = True) -> np.ndarray:
    """The weights W* that minimise the expected in-context risk of the pretraining law.

        W* = R^+ T [(n+1) T + (tr T + s2) I]^-1 R^+,     R = Sx^(1/2),  T = R Sb R

    For nonsingular Sx this is Sb [(n+1) Sx Sb + (tr(Sx Sb) + s2) I]^-1, the unique minimiser also for a rank-deficient
    Sb; for singular Sx it is the minimiser of least norm.

    Args:
        pretraining: the law of pretraining.
        dense: False keeps the compact form, () or (d,), where both covariances are scalars or diagonals.

    Returns:
        W*, symmetric, (d, d); or () or (d,) in compact form.

    Example:
        >>> pretrained_weights(Pretraining(n=20, d=3)).diagonal().tolist() == [1 / 24] * 3
        True

    Reference: Li, Rawat, Oymak (2024), Corollary 1; Propositions 4.1 and 5.2 of Gozeten et al. are special cases.
    """
    sx, sb, n, s2 = pretraining.feature_cov, pretraining.task_cov, pretraining.n, pretraining.noise_var
    d = pretraining.d
    if sx.ndim < 2 and sb.ndim < 2:
        t = sx * sb
        total = np.sum(np.broadcast_to(t, d)) + s2
        live = (t > 0) & (total > 0)
        weights = np.where(live, sb, 0.0) / np.where(live, (n + 1) * t + total, 1.0)
        return linalg.dense(weights, d) if dense else np.asarray(weights)
    sx, sb = linalg.dense(sx, d), linalg.dense(sb, d)
    values, vectors = np.linalg.eigh(sx)
    live = values > d * np.finfo(np.float64).eps * values.max(initial=0)
    root = np.sqrt(np.where(live, values, 0.0))
    inverse_root = np.where(live, 1 / np.where(live, root, 1.0), 0.0)
    t_values, t_vectors = np.linalg.eigh(root[:, None] * (vectors.T @ sb @ vectors) * root)
    t_values = np.clip(t_values, 0, None)
    total = t_values.sum() + s2
    if total == 0:
        return np.zeros((d, d))
    factor = vectors @ (inverse_root[:, None] * t_vectors)
    return (factor * (t_values / ((n + 1) * t_values + total))) @ factor.T


def starting_weights(start: ArrayLike | str, problem: Problem, n: int) -> np.ndarray:
    """Where TTT starts: W as an array, "zero", or "pretrained", W* for isotropic tasks, n pairs and the problem's law.

    Example:
        >>> float(starting_weights("pretrained", Problem(n=5, k=1, task=[0.6, 0.8, 0.0]), n=20)) == 1 / 24
        True
    """
    if not isinstance(start, str):
        return weights_array(start, problem.d)
    if choice("weights", start, ("pretrained", "zero")) == "zero":
        return np.zeros(())
    law = Pretraining(n, problem.feature_cov, noise_var=problem.noise_var, d=problem.d)
    return pretrained_weights(law, dense=False)


def sample_prompt(
    key: Key[Array, ""],
    task: Float[Array, " d"],
    feature_root: Float[Array, ...],
    noise_std: Float[Array, ""],
    n: int,
    k: int,
) -> Prompt:
    """n context pairs and k queries of one task: x = R z, y = x'b + noise_std xi.

    Args:
        key: random key.
        task: the task vector b, (d,).
        feature_root: R = Sx^(1/2), (), (d,) or (d, d).
        noise_std: standard deviation of the label noise.
        n, k: numbers of rows, static.
    """
    key_x, key_y = jax.random.split(key)
    x = linalg.apply(feature_root, jax.random.normal(key_x, (n + k, len(task))))
    y = x @ task + noise_std * jax.random.normal(key_y, (n + k,))
    return Prompt(x[:n], y[:n], x[n:], y[n:])


def pretrain(
    model: Model,
    params: PyTree,
    pretraining: Pretraining,
    *,
    num_steps: int = 2000,
    batch_size: int = 256,
    num_queries: int = 8,
    learning_rate: float = 1e-2,
    seed: int = 0,
    progress: bool = True,
    directory: Path | None = None,
    save_every: int = 500,
) -> PyTree:
    """Minimise the in-context loss of a model on prompts sampled from the pretraining law, by Adam with cosine decay.

    The loss is the mean over tasks and queries of (label - prediction)^2; the context is drawn anew for every task.

    Args:
        model: a pure function (params, prompt) -> predictions, see `functional`.
        params: where to start.
        pretraining: the law of tasks, features and noise, and the context length n.
        num_steps: number of optimiser steps.
        batch_size: tasks per step.
        num_queries: queries per task.
        learning_rate: first step size of Adam, in units of the parameters; it decays to 0 along a cosine.
        seed: of the sampled prompts.
        progress: show a progress bar where the output is a terminal.
        directory: where to keep an orbax checkpoint and the settings; a call with the same arguments goes on from it,
            to the same result as one that was never interrupted; one with more steps, by its own decay from there.
        save_every: steps between two checkpoints.

    Returns:
        The trained parameters.

    Raises:
        ValueError: naming the argument whose value has no meaning, or is not that of the run in the directory.

    Example:
        >>> from ttt_jax.models import LinearAttention, functional
        >>> model, params = functional(LinearAttention(jnp.zeros((2, 2))))
        >>> trained = pretrain(model, params, Pretraining(n=8, d=2), num_steps=300, learning_rate=3e-3)
        >>> bool(abs(trained.weights[0, 0] - 1 / 11) < 0.01)        # W* = I / (n + d + 1)
        True
    """
    sizes = {"num_steps": num_steps, "batch_size": batch_size, "num_queries": num_queries}
    for field, value in {**sizes, "save_every": save_every}.items():
        positive_integer(field, value)
    positive_number("learning_rate", learning_rate)
    key = jax.random.key(seed_integer(seed), impl="threefry2x32")
    if directory is not None:
        settings = asdict(pretraining) | sizes | {"learning_rate": learning_rate, "seed": seed}
        keep_settings(directory, {name: np.asarray(value).tolist() for name, value in settings.items()}, "num_steps")
    feature_root, task_root = (
        jnp.asarray(linalg.sqrt(c), jnp.float32) for c in (pretraining.feature_cov, pretraining.task_cov)
    )
    noise_std = pretraining.noise_var**0.5
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(params: PyTree, key: Key[Array, ""]) -> Float[Array, ""]:
        def one_task(key):
            key_task, key_data = jax.random.split(key)
            task = linalg.apply(task_root, jax.random.normal(key_task, (pretraining.d,)))
            prompt = sample_prompt(key_data, task, feature_root, noise_std, pretraining.n, num_queries)
            return ttt_loss(model, params, prompt) / num_queries

        return jax.vmap(one_task)(jax.random.split(key, batch_size)).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(carry, i):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, jax.random.fold_in(key, i)), state, params)
        return optax.apply_updates(params, updates), state

    carry = jax.tree.map(jnp.copy, params), optimizer.init(params)
    with Checkpoints(directory) as checkpoints:
        carry, done = checkpoints.restore(carry)
        for i in progress_bar(range(done, num_steps), "pretraining", enabled=progress):
            carry = step(carry, i)
            if (i + 1) % save_every == 0 or i + 1 == num_steps:
                checkpoints.save(carry, i + 1)
    return carry[0]
