"""Pretraining by gradient descent on sampled prompts, resumable."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal import linalg
from ttt_jax._internal.checkpoint import load, pieces, require_same_settings, save
from ttt_jax._internal.progress import Progress
from ttt_jax._internal.validate import positive_integer, positive_number, require_type, seed_integer, shown
from ttt_jax.problem import GaussianTasks, NotApplicable, Pretraining, Problem, SingleIndex, task_parts
from ttt_jax.training.models import Model
from ttt_jax.training.prompts import sample_prompt, sample_task
from ttt_jax.training.steps import require_predictions, ttt_loss

__all__ = ["pretrain"]


def pretrain(
    model: Model,
    params: PyTree,
    pretraining: Pretraining | Problem,
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
        pretraining: the law of tasks, features and noise, and the context length n; of a `Problem` those in training,
            for tasks of any law.
        num_steps: number of optimiser steps.
        batch_size: tasks per step.
        num_queries: queries per task.
        learning_rate: first step size of Adam, in units of the parameters; it decays to 0 along a cosine.
        seed: of the sampled prompts.
        progress: show a progress bar where the output is a terminal.
        directory: where to keep the state, in a safetensors file; a call with the same arguments resumes from it, to
            the same result as one that was never interrupted; one with more steps, by its own decay from there.
        save_every: steps between two saves.

    Returns:
        The trained parameters.

    Raises:
        ValueError: if an argument is invalid, or not that of the run in the directory.
        NotApplicable: for features that are not Gaussian.

    Example:
        >>> from ttt_jax.training.models import LinearAttention, functional
        >>> model, params = functional(LinearAttention(jnp.zeros((2, 2))))
        >>> trained = pretrain(model, params, Pretraining(n=8, d=2), num_steps=300, learning_rate=3e-3)
        >>> bool(abs(trained.weights[0, 0] - 1 / 11) < 0.01)        # W* = I / (n + d + 1)
        True
    """
    sizes = {"num_steps": num_steps, "batch_size": batch_size, "num_queries": num_queries}
    for field, value in {**sizes, "save_every": save_every}.items():
        positive_integer(field, value)
    positive_number("learning_rate", learning_rate)
    law = _as_problem(pretraining, num_queries)
    require_predictions("model", model, params, n=law.n, k=num_queries, d=law.d)
    key = jax.random.key(seed_integer(seed), impl="threefry2x32")
    mean, cov, nonzero = task_parts(law.task)
    roots = [linalg.sqrt(np.zeros(()) if c is None else c) for c in (cov, law.feature_cov)]
    task_mean, task_root, feature_root = (jnp.asarray(a, jnp.float32) for a in (mean, *roots))
    noise_std = law.noise_var**0.5
    link = law.task.function if isinstance(law.task, SingleIndex) else None
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def loss(params: PyTree, key: Key[Array, ""]) -> Float[Array, ""]:
        def one_task(key):
            key_task, key_data = jax.random.split(key)
            task = sample_task(key_task, task_mean, task_root, nonzero)
            prompt = sample_prompt(key_data, task, feature_root, noise_std, law.n, num_queries, link)
            return ttt_loss(model, params, prompt) / num_queries

        return jax.vmap(one_task)(jax.random.split(key, batch_size)).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(carry, i):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, jax.random.fold_in(key, i)), state, params)
        return optax.apply_updates(params, updates), state

    done, carry = 0, (jax.tree.map(jnp.copy, params), optimizer.init(params))
    if directory is not None:
        settings = _settings(pretraining, sizes | {"learning_rate": learning_rate, "seed": seed})
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if (saved := load(directory)) is not None:
            require_same_settings(settings, json.loads(saved.settings), directory, free=("num_steps",))
            (done,), carry = saved.progress, saved.state(like=carry)
            if num_steps < done:
                raise ValueError(f"num_steps must be at least {done} to resume the run in {directory}, got {num_steps}")
    with Progress("pretraining", num_steps - done, enabled=progress) as bar:
        for piece in pieces(done, num_steps, save_every):
            for i in piece:
                carry = step(carry, i)
                bar.advance()
            if directory is not None:
                save(directory, settings, [piece.stop], carry)
    return carry[0]


def _as_problem(pretraining: Any, num_queries: int) -> Problem:
    """The law of pretraining in the words of a problem."""
    if not isinstance(pretraining, Problem):
        require_type("pretraining", pretraining, Pretraining)
        tasks = GaussianTasks(cov=pretraining.task_cov, d=pretraining.d)
        return Problem(pretraining.n, num_queries, tasks, pretraining.feature_cov, pretraining.noise_var)
    if pretraining.feature_law != "gaussian":
        raise NotApplicable(f"pretraining needs Gaussian features, got feature_law {pretraining.feature_law!r}")
    return pretraining


def _settings(pretraining: Pretraining | Problem, options: dict[str, Any]) -> dict[str, Any]:
    """What determines a run, as plain data."""
    link = getattr(getattr(pretraining, "task", None), "link", None)
    if callable(link):
        raise ValueError(f"link must be a name in LINKS for a run that is kept in a directory, got {shown(link)}")
    return jax.tree.map(lambda value: np.asarray(value).tolist(), asdict(pretraining) | options)
