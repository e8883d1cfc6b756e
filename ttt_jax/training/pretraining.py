"""Pretraining by gradient descent on sampled prompts, resumable."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal import linalg
from ttt_jax._internal.checkpoint import load, pieces, require_same_settings, save
from ttt_jax._internal.progress import Progress
from ttt_jax._internal.validate import positive_integer, positive_number, require_type, seed_integer
from ttt_jax.problem import Pretraining
from ttt_jax.training.models import Model
from ttt_jax.training.prompts import sample_prompt
from ttt_jax.training.steps import ttt_loss

__all__ = ["pretrain"]


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
        directory: where to keep the state, in a safetensors file; a call with the same arguments resumes from it, to
            the same result as one that was never interrupted; one with more steps, by its own decay from there.
        save_every: steps between two saves.

    Returns:
        The trained parameters.

    Raises:
        ValueError: if an argument is invalid, or not that of the run in the directory.

    Example:
        >>> from ttt_jax.training.models import LinearAttention, functional
        >>> model, params = functional(LinearAttention(jnp.zeros((2, 2))))
        >>> trained = pretrain(model, params, Pretraining(n=8, d=2), num_steps=300, learning_rate=3e-3)
        >>> bool(abs(trained.weights[0, 0] - 1 / 11) < 0.01)        # W* = I / (n + d + 1)
        True
    """
    require_type("pretraining", pretraining, Pretraining)
    sizes = {"num_steps": num_steps, "batch_size": batch_size, "num_queries": num_queries}
    for field, value in {**sizes, "save_every": save_every}.items():
        positive_integer(field, value)
    positive_number("learning_rate", learning_rate)
    key = jax.random.key(seed_integer(seed), impl="threefry2x32")
    given = asdict(pretraining) | sizes | {"learning_rate": learning_rate, "seed": seed}
    settings = {name: np.asarray(value).tolist() for name, value in given.items()}
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

    done, carry = 0, (jax.tree.map(jnp.copy, params), optimizer.init(params))
    if directory is not None:
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
