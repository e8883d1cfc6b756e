"""What pretraining minimises: the cross-entropy of the rows of a table that are not its context."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from ttt_jax.tabular.network import slots
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.network.v2 import Table
from ttt_jax.tabular.pretraining.prior import MAX_CLASSES, Tables

_WIDTHS = (3, 6, 9, 12, 16, 24, 32, 48, 64)  # of which compilations are made


def loss_and_gradients(
    pfn: PFN, most_context: int, tables: Tables, context_sizes: Int[np.ndarray, " B"]
) -> tuple[Float[Array, ""], PFN]:
    """The mean loss of some tables, and its gradients.

    A CPU takes table after table, each at the narrowest of few widths; an accelerator all at once and in bfloat16.
    """
    if jax.default_backend() != "cpu":
        return _of_all(pfn, most_context, tables, context_sizes)
    total = _nothing(pfn)
    for x, y, num_features, context_size in zip(*tables, context_sizes, strict=True):
        width = next(width for width in _WIDTHS if width >= num_features)
        x = np.pad(x[:, :width], ((0, 0), (0, max(0, width - x.shape[1]))))
        table = Tables(jnp.asarray(x), y, num_features)
        total = _add_table(total, pfn, most_context, table, context_size)
    return _divided(total, len(context_sizes))


@jax.jit
def _nothing(pfn):
    return jnp.zeros(()), jax.tree.map(jnp.zeros_like, pfn)


@jax.jit
def _divided(total, count):
    return jax.tree.map(lambda a: a / count, total)


@partial(jax.jit, static_argnames="most_context", donate_argnames="total")
def _add_table(total, pfn, most_context, table, context_size):
    found = jax.value_and_grad(_loss)(pfn, most_context, table, context_size)
    return jax.tree.map(jnp.add, total, found)


@partial(jax.jit, static_argnames="most_context")
def _of_all(pfn, most_context, tables, context_sizes):
    def mean_loss(pfn):
        pfn = jax.tree.map(lambda p: p.astype(jnp.bfloat16), pfn)
        losses = jax.vmap(lambda table, size: _loss(pfn, most_context, table, size))(tables, context_sizes)
        return losses.mean()

    return jax.value_and_grad(mean_loss)(pfn)


def _loss(pfn: PFN, most_context: int, table: Tables, context_size: Int[Array, ""]) -> Float[Array, ""]:
    """Mean over the rows after the context whose class occurs in it; 0 if there are none."""
    x, y, num_features = table
    is_context = jnp.arange(most_context) < context_size
    columns = x.shape[1]
    network = nnx.merge(
        nnx.graphdef(nnx.eval_shape(lambda: slots.SlotNetwork(pfn.config, rngs=nnx.Rngs(0)))), pfn.params
    )
    padded = Table(
        x_context=x[:most_context],
        y_context=y[:most_context].astype(x.dtype),
        x_query=x[most_context:],
        is_context=is_context,
        is_query=jnp.ones(len(x) - most_context, bool),
        is_group=jnp.arange(columns) < num_features,
        column_draws=jnp.zeros((columns, 0)),
    )
    logits = network.all_rows(padded).astype(jnp.float32)
    shown = (jax.nn.one_hot(y[:most_context], MAX_CLASSES, dtype=bool) & is_context[:, None]).any(0)
    logits = jnp.where(jnp.arange(MAX_CLASSES) < shown.sum(), logits, -jnp.inf)
    target = (jnp.cumsum(shown) - 1)[y]
    counts = shown[y] & (jnp.arange(len(x)) >= context_size)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(target, 0))
    return jnp.where(counts, losses, 0).sum() / jnp.maximum(counts.sum(), 1)
