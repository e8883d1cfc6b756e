"""The network: attention between the columns of a row, then between the rows of a column, over and over.

Letters: N context rows and M query rows make R rows; C columns of vectors, the target's last; E their width; H heads of
size D. Vectors are held column by column, (C, R, E): the costly part, attention between rows, works on one column.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from ttt_jax.tabular.network.blocks import map_in_blocks
from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.encode import encode_features, encode_target

_LAYER_NORM_EPSILON = 1e-5


ArrayLike: TypeAlias = Array | np.ndarray


class Table(NamedTuple):
    """Context and query rows, perhaps padded, with marks on what is real. Context row 0 is real."""

    x_context: Float[ArrayLike, "N F"]
    y_context: Float[ArrayLike, " N"]
    x_query: Float[ArrayLike, "M F"]
    is_context: Bool[ArrayLike, " N"]
    is_query: Bool[ArrayLike, " M"]
    is_group: Bool[ArrayLike, " G"]
    column_draws: Float[ArrayLike, "G quarter"]  # E/4 for each group


class Reading(NamedTuple):
    """What the answers to queries need of a context: its rows, and for every layer what its queries attend to."""

    table: Table
    kept: Any


class Attention(nnx.Module):
    """The projections of a multi-head attention, and the head size that scales its logits."""

    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        shape = (config.num_heads, config.head_size, config.embedding_size)
        bound = (3 / config.embedding_size) ** 0.5  # Xavier: the matrix of one projection is E x E
        self.qkv = nnx.Param(jax.random.uniform(rngs.params(), (3, *shape), minval=-bound, maxval=bound))
        self.out = nnx.Param(jnp.zeros(shape))

    def project(self, h: Float[Array, "R E"]) -> Float[Array, "3 H R D"]:
        """Queries (scaled), keys and values."""
        _, heads, size, width = self.qkv.shape
        qkv = (h @ self.qkv[...].reshape(-1, width).T).reshape(-1, 3, heads, size)
        q, k, v = qkv.transpose(1, 2, 0, 3)
        return jnp.stack([q / size**0.5, k, v])

    def merge(self, heads: Float[Array, "H R D"]) -> Float[Array, "R E"]:
        rows = heads.swapaxes(0, 1).reshape(heads.shape[1], -1)
        return rows @ self.out[...].reshape(rows.shape[1], -1)


class MLP(nnx.Module):
    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        width, hidden = config.embedding_size, config.hidden_size
        self.hidden = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.output = nnx.Linear(hidden, width, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, h: Float[Array, "R E"]) -> Float[Array, "R E"]:
        hidden = jax.nn.gelu(_matmul(h, self.hidden.kernel[...]), approximate=False)
        return _matmul(hidden, self.output.kernel[...])


class Layer(nnx.Module):
    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        self.between_columns = Attention(config, rngs=rngs)
        self.between_rows = Attention(config, rngs=rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(
        self, h: Float[Array, "C R E"], is_context: Bool[Array, " N"], is_column: Bool[Array, " C"]
    ) -> Float[Array, "C R E"]:
        rows = h.shape[1]

        def mix_rows(column: Float[Array, "R E"]) -> Float[Array, "R E"]:
            q, k, v = self.between_rows.project(column)
            return self._finish(column, _attend_to_context(q, k, v, is_context))

        elements = rows * is_context.size * self.num_heads + rows * self.mlp.hidden.out_features
        return map_in_blocks(mix_rows, self._mix_columns(h, is_column), elements)

    def read(
        self, h: Float[Array, "C N E"], is_context: Bool[Array, " N"], is_column: Bool[Array, " C"]
    ) -> tuple[Float[Array, "C N E"], Float[Array, "2 C N D"]]:
        """The layer on context rows alone, and the keys and values that queries attend to: those of head 0."""
        mixed = self._mix_columns(h, is_column)
        kept = jnp.einsum("cne,tde->tcnd", mixed, self.between_rows.qkv[1:, 0])
        return self(h, is_context, is_column), kept

    def answer(
        self,
        h: Float[Array, "C M E"],
        kept: Float[Array, "2 C N D"],
        is_context: Bool[Array, " N"],
        is_column: Bool[Array, " C"],
    ) -> Float[Array, "C M E"]:
        """The layer on query rows, after a context that has been read."""

        def mix_rows(column_and_kept):
            column, (k, v) = column_and_kept
            q = self.between_rows.project(column)[0]
            heads = _attend(q.reshape(1, -1, q.shape[-1]), k[None], v[None], is_context).reshape(q.shape)
            return self._finish(column, heads)

        elements = h.shape[1] * (is_context.size * self.num_heads + self.mlp.hidden.out_features)
        return map_in_blocks(mix_rows, (self._mix_columns(h, is_column), kept.swapaxes(0, 1)), elements)

    def _mix_columns(self, h: Float[Array, "C R E"], is_column: Bool[Array, " C"]) -> Float[Array, "C R E"]:
        columns, _, width = h.shape

        def of_row(row: Float[Array, "C E"]) -> Float[Array, "C E"]:
            q, k, v = self.between_columns.project(row)
            return _layer_norm(row + self.between_columns.merge(_attend(q, k, v, is_column)))

        elements = columns * (5 * width + columns * self.num_heads)
        return map_in_blocks(of_row, h.swapaxes(0, 1), elements).swapaxes(0, 1)

    def _finish(self, column: Float[Array, "R E"], heads: Float[Array, "H R D"]) -> Float[Array, "R E"]:
        column = _layer_norm(column + self.between_rows.merge(heads))
        return _layer_norm(column + self.mlp(column))

    @property
    def num_heads(self) -> int:
        return self.between_rows.out.shape[0]


class Network(nnx.Module):
    """The network; a function of one `Table`. Its layers are stacked, so that only one is compiled."""

    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        width = config.embedding_size
        self.config = config
        self.features = nnx.Linear(2 * config.features_per_group, width, use_bias=False, rngs=rngs)
        self.target = nnx.Linear(2, width, rngs=rngs)
        self.column = nnx.Linear(config.column_size, width, rngs=rngs)
        layer_keys = jax.random.split(rngs.params(), config.num_layers)
        self.layers = nnx.vmap(lambda key: Layer(config, rngs=nnx.Rngs(key)))(layer_keys)
        self.decoder_hidden = nnx.Linear(width, config.hidden_size, rngs=rngs)
        self.decoder_output = nnx.Linear(config.hidden_size, config.num_classes, rngs=rngs)

    def __call__(self, table: Table) -> Float[Array, "M classes"]:
        is_column = jnp.append(table.is_group, True)
        layer, weights = nnx.split(self.layers)

        def apply_layer(h, weights):
            return nnx.merge(layer, weights)(h, table.is_context, is_column), None

        h, _ = jax.lax.scan(apply_layer, self._embed(table), weights)
        return self._decode(h[:, table.is_context.size :])

    def read(self, table: Table) -> Reading:
        """The context of a table, once for all its queries; none of its columns may be constant in it."""
        is_column, n = jnp.append(table.is_group, True), table.is_context.size
        layer, weights = nnx.split(self.layers)

        def apply_layer(h, weights):
            return nnx.merge(layer, weights).read(h, table.is_context, is_column)

        _, kept = jax.lax.scan(apply_layer, self._embed(table)[:, :n], weights)
        return Reading(table, kept)

    def answer(self, reading: Reading, x_query: Float[Array, "M F"]) -> Float[Array, "M classes"]:
        """The logits of query rows after a context that has been read."""
        table = reading.table._replace(x_query=x_query, is_query=jnp.ones(len(x_query), bool))
        is_column, n = jnp.append(table.is_group, True), table.is_context.size
        layer, weights = nnx.split(self.layers)

        def apply_layer(h, inputs):
            weights, kept = inputs
            return nnx.merge(layer, weights).answer(h, kept, table.is_context, is_column), None

        h, _ = jax.lax.scan(apply_layer, self._embed(table)[:, n:], (weights, reading.kept))
        return self._decode(h)

    def _decode(self, h: Float[Array, "C M E"]) -> Float[Array, "M classes"]:
        return self.decoder_output(jax.nn.gelu(self.decoder_hidden(h[-1]), approximate=False))

    def _embed(self, table: Table) -> Float[Array, "C R E"]:
        """A vector per row and column group, and one per row for the target."""
        features = encode_features(
            jnp.concatenate([table.x_context, table.x_query]),
            context=jnp.concatenate([table.is_context, jnp.zeros_like(table.is_query)]),
            real=jnp.concatenate([table.is_context, table.is_query]),
            features_per_group=self.config.features_per_group,
            outlier_sigma=self.config.outlier_sigma,
            num_groups=table.is_group.sum(),
        )
        draws = jnp.asarray(table.column_draws)
        groups = self.features(features.swapaxes(0, 1)) + self.column(draws)[:, None]
        known, unknown = encode_target(jnp.asarray(table.y_context), jnp.asarray(table.is_context))
        unknown = jnp.broadcast_to(unknown, (table.is_query.size, unknown.size))
        target = self.target(jnp.concatenate([known, unknown]))
        h = jnp.concatenate([groups, target[None]])
        dtype = self.layers.mlp.hidden.kernel[...].dtype
        return h.astype(dtype) if dtype.itemsize == 2 else h  # half-precision weights compute in it


@jax.custom_vjp
def _matmul(rows: Float[Array, "R I"], weight: Float[Array, "I O"]) -> Float[Array, "R O"]:
    """`rows @ weight`, whose gradient in a batch is a product per batch member and then a sum.

    JAX's own is one product that contracts several axes, for which XLA moves memory: on a CPU it takes twice as long.
    """
    return rows @ weight


def _matmul_gradient(inputs, gradient):
    rows, weight = inputs
    return gradient @ weight.T, rows.T @ gradient


_matmul.defvjp(lambda rows, weight: (rows @ weight, (rows, weight)), _matmul_gradient)


def _layer_norm(h: Float[Array, "*batch E"]) -> Float[Array, "*batch E"]:
    h = h - h.mean(-1, keepdims=True)
    return h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + _LAYER_NORM_EPSILON)


def _attend_to_context(
    q: Float[Array, "H R D"], k: Float[Array, "H R D"], v: Float[Array, "H R D"], is_context: Bool[Array, " N"]
) -> Float[Array, "H R D"]:
    """Context rows attend head by head; every head of a query row uses the keys and values of head 0."""
    n = is_context.size
    context = _attend(q[:, :n], k[:, :n], v[:, :n], is_context)
    queries = q[:, n:].reshape(1, -1, q.shape[-1])
    queries = _attend(queries, k[:1, :n], v[:1, :n], is_context).reshape(q[:, n:].shape)
    return jnp.concatenate([context, queries], axis=1)


def _attend(
    q: Float[Array, "H A D"], k: Float[Array, "H B D"], v: Float[Array, "H B D"], is_key: Bool[Array, " B"]
) -> Float[Array, "H A D"]:
    """Softmax attention of scaled queries to the marked keys, a block of heads and then of queries at a time."""
    bias = jnp.where(is_key, 0, -jnp.inf).astype(q.dtype)
    keys = is_key.size

    def one_head(qkv):
        q, k, v = qkv

        def one_query(q: Float[Array, " D"]) -> Float[Array, " D"]:
            logits = q @ k.T + bias
            weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
            return weights @ v / weights.sum(-1, keepdims=True)

        return map_in_blocks(one_query, q, keys)

    return map_in_blocks(one_head, (q, k, v), q.shape[1] * keys)
