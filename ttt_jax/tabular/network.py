"""The network: attention between the columns of a row, then between the rows of a column, over and over.

Letters: N context rows, M query rows, C columns of vectors (the target's is the last), E their width, H heads of size D.

The vectors are held column by column, as (C, rows, E), because attention between rows, the costly part, works on one
column at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ttt_jax.tabular.config import PFNConfig
from ttt_jax.tabular.encode import encode_features, encode_target

_LAYER_NORM_EPSILON = 1e-5


class Attention(nnx.Module):
    """Projections of one multi-head attention: stacked query, key and value, and the output."""

    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        shape = (config.num_heads, config.head_size, config.embedding_size)
        bound = (6 / (config.embedding_size + config.embedding_size)) ** 0.5
        self.qkv = nnx.Param(jax.random.uniform(rngs.params(), (3, *shape), minval=-bound, maxval=bound))
        self.out = nnx.Param(jnp.zeros(shape))


class MLP(nnx.Module):
    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        sizes = config.embedding_size, config.hidden_size
        self.hidden = nnx.Linear(*sizes, use_bias=False, rngs=rngs)
        self.output = nnx.Linear(*sizes[::-1], use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, h: Float[Array, "*batch E"]) -> Float[Array, "*batch E"]:
        return self.output(jax.nn.gelu(self.hidden(h), approximate=False))


class Layer(nnx.Module):
    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        self.between_columns = Attention(config, rngs=rngs)
        self.between_rows = Attention(config, rngs=rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, h: Float[Array, "C R E"], num_context, column_mask, context_mask) -> Float[Array, "C R E"]:
        h = layer_norm(h + attend_between_columns(self.between_columns, h, column_mask))
        h = layer_norm(h + attend_between_rows(self.between_rows, h, num_context, context_mask))
        return layer_norm(h + self.mlp(h))


def layer_norm(h):
    mean = h.mean(-1, keepdims=True)
    variance = ((h - mean) ** 2).mean(-1, keepdims=True)
    return (h - mean) * jax.lax.rsqrt(variance + _LAYER_NORM_EPSILON)


def attend_between_columns(weights, h, column_mask):
    q, k, v = jnp.einsum("cre,ahde->acrhd", h, weights.qkv[...])
    logits = jnp.einsum("crhd,krhd->rhck", q, k) / q.shape[-1] ** 0.5
    logits = jnp.where(column_mask, logits, -jnp.inf)
    out = jnp.einsum("rhck,krhd->crhd", jax.nn.softmax(logits), v)
    return jnp.einsum("crhd,hde->cre", out, weights.out[...])


def attend_between_rows(weights, h, n, context_mask):
    qkv = weights.qkv[...]
    q = jnp.einsum("cre,hde->crhd", h, qkv[0])
    k, v = jnp.einsum("cre,ahde->acrhd", h[:, :n], qkv[1:])
    logits = jnp.einsum("crhd,ckhd->chrk", q[:, :n], k) / q.shape[-1] ** 0.5
    a = jax.nn.softmax(jnp.where(context_mask, logits, -jnp.inf))
    oc = jnp.einsum("chrk,ckhd->crhd", a, v)
    logits = jnp.einsum("crhd,ckd->chrk", q[:, n:], k[..., 0, :]) / q.shape[-1] ** 0.5
    a = jax.nn.softmax(jnp.where(context_mask, logits, -jnp.inf))
    oq = jnp.einsum("chrk,ckd->crhd", a, v[..., 0, :])
    return jnp.einsum("crhd,hde->cre", jnp.concatenate([oc, oq], 1), weights.out[...])


@dataclass(frozen=True)
class Table:
    """A context and a query, perhaps padded with rows and whole column groups that are not real."""

    x_context: Float[Array, "N F"]
    y_context: Float[Array, " N"]
    x_query: Float[Array, "M F"]
    sizes: Sizes | None = None


class Sizes(NamedTuple):
    """How much of a padded table is real; Python or traced integers."""

    context: Any
    query: Any
    groups: Any


class Network(nnx.Module):
    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        E = config.embedding_size
        self.config = config
        self.features = nnx.Linear(2 * config.features_per_group, E, use_bias=False, rngs=rngs)
        self.target = nnx.Linear(2, E, rngs=rngs)
        self.column = nnx.Linear(config.column_size, E, rngs=rngs)
        self.layers = nnx.vmap(lambda rngs: Layer(config, rngs=rngs))(rngs.fork(split=config.num_layers))
        self.decoder_hidden = nnx.Linear(E, config.hidden_size, rngs=rngs)
        self.decoder_output = nnx.Linear(config.hidden_size, config.num_classes, rngs=rngs)

    def __call__(self, table, column_draws):
        x_context, y_context, x_query = table.x_context, table.y_context, table.x_query
        n = x_context.shape[0]
        context_mask=jnp.ones(n,bool); query_mask=jnp.ones(x_query.shape[0],bool); column_mask=jnp.ones(column_draws.shape[0],bool)
        x = jnp.concatenate([x_context, x_query])
        real = jnp.concatenate([context_mask, query_mask])
        context = jnp.concatenate([context_mask, jnp.zeros_like(query_mask)])
        cells = encode_features(x, context, real, self.config.features_per_group, self.config.outlier_sigma)
        yc, yq = encode_target(y_context, context_mask)
        h = self.features(jnp.swapaxes(cells, 0, 1)) + self.column(column_draws)[:, None]
        t = jnp.concatenate([self.target(yc), jnp.broadcast_to(self.target(yq), (x_query.shape[0], h.shape[-1]))])
        h = jnp.concatenate([h, t[None]])
        g, s = nnx.split(self.layers)
        cm = jnp.concatenate([column_mask, jnp.ones(1, bool)])
        h, _ = jax.lax.scan(lambda h, s: (nnx.merge(g, s)(h, n, cm, context_mask), None), h, s)
        return self.decoder_output(jax.nn.gelu(self.decoder_hidden(h[-1, n:]), approximate=False))
