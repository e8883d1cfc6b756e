"""What pretraining minimises, the loss on fresh tables of the prior; and its accuracy on held-out ones."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ttt_jax.tabular.network.columns import column_draws
from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.pfn import PFN, Params
from ttt_jax.tabular.network.v2 import Table
from ttt_jax.tabular.pretraining.config import PretrainConfig
from ttt_jax.tabular.pretraining.prior import MAX_CLASSES, Tasks, sample_tasks

_VALIDATION_TABLES, _VALIDATION_CONTEXT, _VALIDATION_QUERIES, _VALIDATION_FEATURES = 96, 64, 64, 8


def loss_and_gradients(config: PretrainConfig, params: Params, step: int) -> tuple[Float[Array, ""], Params]:
    """The loss on the tables of this step, a pure function of seed and step, and its gradients."""
    shape = _shape(config, step)
    key = jax.random.fold_in(jax.random.key(config.seed, impl="threefry2x32"), step)
    return _loss_and_gradients(config.network, shape, params, key, _draws(config.network, shape.features))


def validation_accuracy(config: PretrainConfig, params: Params) -> float:
    """Accuracy with 64 context rows on tables of the prior that no step trains on, the same for every network."""
    return float(_validation_accuracy(config.network, params, _draws(config.network, _VALIDATION_FEATURES)))


class Shape(NamedTuple):
    """Sizes of a step's tables, of which one compilation is made."""

    tables: int
    fewest_context: int
    context: int
    queries: int
    features: int


def _shape(config: PretrainConfig, step: int) -> Shape:
    rng = np.random.default_rng((config.seed, step))
    i, features = int(rng.integers(len(config.contexts))), int(rng.choice(config.features))
    fewest, context = ((4, *config.contexts)[i], config.contexts[i])
    columns = -(-features // config.features_per_group) + 1
    tables = max(1, round(config.cells_per_step / (columns * (context + config.queries))))
    return Shape(tables, min(fewest, context), context, config.queries, features)


def _draws(network: PFNConfig, features: int) -> Float[np.ndarray, "G E/4"]:
    groups = -(-features // network.features_per_group)
    return column_draws(network.column_seed, groups, network.column_size, network.column_dtype)


@partial(jax.jit, static_argnames=("config", "shape"))
def _loss_and_gradients(config: PFNConfig, shape: Shape, params: Params, key: PRNGKeyArray, draws: Array):
    task_key, size_key = jax.random.split(key)
    tasks = sample_tasks(task_key, shape.tables, shape.context + shape.queries, shape.features)
    log_size = jax.random.uniform(
        size_key, (shape.tables,), minval=np.log(shape.fewest_context), maxval=np.log(shape.context + 1)
    )
    sizes = jnp.minimum(jnp.exp(log_size).astype(int), shape.context)
    is_context = jnp.arange(shape.context) < sizes[:, None]
    return jax.value_and_grad(_loss)(params, config, tasks, is_context, draws)


def _loss(
    params: Params, config: PFNConfig, tasks: Tasks, is_context: Bool[Array, "B N"], draws: Float[Array, "G E/4"]
) -> Float[Array, ""]:
    """Mean cross-entropy of the query rows whose class occurs in their context."""
    if jax.default_backend() != "cpu":
        params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    logits, target, known = _answers(params, config, tasks, is_context, draws)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    return jnp.where(known, losses, 0).sum() / jnp.maximum(known.sum(), 1)


def _answers(params, config, tasks, is_context, draws):
    """Logits of the query rows, -inf for ranks that no class of the context has; their ranks; whether they have one."""
    n, pfn = is_context.shape[1], PFN(config, params)
    y_context, y_query = tasks.y[:, :n], tasks.y[:, n:]

    def one_table(x, y, is_context):
        marks = is_context, jnp.ones(x.shape[0] - n, bool), jnp.ones(draws.shape[0], bool)
        return pfn.apply_table(params, Table(x[:n], y.astype(x.dtype), x[n:], *marks, draws))

    logits = jax.vmap(one_table)(tasks.x, y_context, is_context).astype(jnp.float32)
    present = (jax.nn.one_hot(y_context, MAX_CLASSES, dtype=bool) & is_context[..., None]).any(1)
    rank = jnp.cumsum(present, axis=1) - 1
    exists = jnp.arange(MAX_CLASSES) < present.sum(1, keepdims=True)
    logits = jnp.where(exists[:, None], logits, -jnp.inf)
    target = jnp.take_along_axis(rank, y_query, axis=1)
    known = jnp.take_along_axis(present, y_query, axis=1)
    return logits, jnp.maximum(target, 0), known


@partial(jax.jit, static_argnames="config")
def _validation_accuracy(config: PFNConfig, params: Params, draws: Array) -> Float[Array, ""]:
    rows = _VALIDATION_CONTEXT + _VALIDATION_QUERIES
    key = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), 2**32 - 1)  # no run has this many steps
    tasks = sample_tasks(key, _VALIDATION_TABLES, rows, _VALIDATION_FEATURES)
    is_context = jnp.ones((_VALIDATION_TABLES, _VALIDATION_CONTEXT), bool)
    logits, target, known = _answers(params, config, tasks, is_context, draws)
    return ((logits.argmax(-1) == target) & known).mean()
