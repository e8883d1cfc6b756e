"""A network of our own: cells that carry their row's label, and a decoder in which context rows vote for their class.

Letters: T thinking rows, N context rows and M query rows, together R rows; F columns; E width; H heads of size D;
C classes.

**Cells.** A column's cell holds the value in standard deviations (compressed by arcsinh), its rank among the context's
values and whether it is missing; the token of column i embeds the cells of columns i, i+1 and i+3, counted around the
table's real columns. So columns are told apart by their neighbours, and a rotation of the columns changes nothing; any
other order of the columns is another view of the table, which an ensemble averages over.

**Classes.** The label of a context row is added to all its cells as one of C learned vectors, its slot. Logits permute
exactly with the classes, because a class gets its slot by what its rows are and not by its name: classes are ordered by
decreasing number of context rows, and among equals by the mean of a fixed function of their rows' cells. The order of
rows does not matter either. (Vectors drawn at random would be equivariant on average only; a network without slots
would have to pass a row's class on through pairs of rows. What is given up: the same class may take another slot in
another context. So for fine-tuning, which teaches a slot about one class, classes take slots by their names,
`slots_by_rank`; the names should then be ordered by frequency, as in pretraining. Classes that this function cannot
tell apart, with equally many rows, keep the order of their names.)

**Layers**, pre-norm: attention between columns, attention between rows (all rows attend to the thinking and context
rows, each head with its own keys and values, logits scaled with log n), an MLP. What layer i adds is scaled by 0.95^i.

**Decoder.** A row is the mean of its columns. A query row attends to the context rows; the weights that fall on a class
are its votes. Its logit is the logarithm of its votes plus a linear readout of the query row at the class's slot.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ttt_jax.tabular.network.blocks import map_in_blocks
from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.v2 import Reading, Table

_NEIGHBOURS = (0, 1, 3)
_LAYER_SCALE = 0.95
_FEWEST_VOTES = 1e-5  # what a class has without any vote
_ELEMENTS_AT_ONCE = 2**26  # of attention weights held at once: 256 MiB


class _Seen(NamedTuple):
    """A table as cells and slots."""

    cells: Float[Array, "R F 3"]
    is_column: Bool[Array, " F"]
    is_context: Bool[Array, " N"]
    slot_of_row: Float[Array, "N C"]
    order: Int[Array, " C"]


class SlotAttention(nnx.Module):
    """Softmax attention from rows to marked keys, any number of them side by side."""

    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        heads, size, width = config.num_heads, config.head_size, config.embedding_size
        self.qkv = nnx.Param(_normal(rngs, (3, heads, width, size), width))
        self.out = nnx.Param(jnp.zeros((heads, size, width)))
        self.sharpness = nnx.Param(jnp.full(heads, 0.1))

    def __call__(
        self, queries: Float[Array, "B A E"], keys: Float[Array, "B K E"], is_key: Bool[Array, " K"]
    ) -> Float[Array, "B A E"]:
        total = jnp.zeros((), queries.dtype)
        for head, out in enumerate(self.out[...]):  # one at a time: their products then need no transposition
            q, k, v = (_matmul(h, self.qkv[i, head]) for i, h in enumerate((queries, keys, keys)))
            total += _matmul(_attend(q * self._scale(head, is_key).astype(q.dtype), k, v, is_key), out)
        return total

    def _scale(self, head: int, is_key: Bool[Array, " K"]) -> Float[Array, ""]:
        """Attention to more keys must be sharper, or else it fades."""
        size = self.out.shape[1]
        return (1 + self.sharpness[head] * jnp.log(is_key.sum() / 64)) / size**0.5


class SlotLayer(nnx.Module):
    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        width, hidden = config.embedding_size, config.hidden_size
        self.between_columns = SlotAttention(config, rngs=rngs)
        self.between_rows = SlotAttention(config, rngs=rngs)
        self.mlp_in = nnx.Param(_normal(rngs, (width, hidden), width))
        self.mlp_out = nnx.Param(jnp.zeros((hidden, width)))

    def __call__(
        self,
        h: Float[Array, "F R E"],
        is_column: Bool[Array, " F"],
        is_key: Bool[Array, " K"],
        scale: float,
        keys: Float[Array, "F K E"] | None = None,
    ) -> tuple[Float[Array, "F R E"], Float[Array, "F K E"]]:
        """The rows, and what rows attend to: the first ones, unless others are given."""
        rows = _rms_norm(h).swapaxes(0, 1)
        h = h + scale * self.between_columns(rows, rows, is_column).swapaxes(0, 1)
        columns = _rms_norm(h)
        keys = columns[:, : is_key.size] if keys is None else keys
        h = h + scale * self.between_rows(columns, keys, is_key)
        hidden = jax.nn.relu(_matmul(_rms_norm(h), self.mlp_in[...]))
        return h + scale * _matmul(hidden * hidden, self.mlp_out[...]), keys


class SlotNetwork(nnx.Module):
    """The network; a function of one `Table`. The weights of its layers are stacked."""

    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        width = config.embedding_size
        self.config = config
        self.cell = nnx.Linear(3 * len(_NEIGHBOURS), width, rngs=rngs)
        self.cell_mlp = nnx.Param(jnp.zeros((width, width)))
        self.slots = nnx.Param(jax.random.normal(rngs.params(), (config.num_classes, width)) / 2)
        self.unlabelled = nnx.Param(jnp.zeros(width))
        self.thinking = nnx.Param(jax.random.normal(rngs.params(), (config.thinking_rows, width)) / 2)
        layer_keys = jax.random.split(rngs.params(), config.num_layers)
        self.layers = nnx.vmap(lambda key: SlotLayer(config, rngs=nnx.Rngs(key)))(layer_keys)
        self.vote = Vote(config, rngs=rngs)
        self.readout = nnx.Linear(width, config.num_classes, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, table: Table) -> Float[Array, "M C"]:
        return self.all_rows(table)[table.is_context.size :]

    def all_rows(self, table: Table) -> Float[Array, "rows C"]:
        """The logits of every row; a row in the context's place that is not marked as one is a query."""
        seen = self._see(table)
        h, _ = self._layers(self._embed(seen), seen)
        rows = self._mean_of_columns(h[:, self.config.thinking_rows :], seen)
        return self._decode(rows, rows[: len(seen.slot_of_row)], seen)

    def read(self, table: Table) -> Reading:
        """The context of a table, once for all its queries."""
        table = table._replace(x_query=table.x_query[:0])
        seen = self._see(table)
        h, kept = self._layers(self._embed(seen), seen)
        rows = self._mean_of_columns(h[:, self.config.thinking_rows :], seen)
        return Reading(table, (jnp.stack(kept), rows))

    def answer(self, reading: Reading, x_query: Float[Array, "M F"]) -> Float[Array, "M C"]:
        """The logits of query rows after a context that has been read."""
        seen, (kept, context) = self._see(reading.table._replace(x_query=x_query)), reading.kept
        h, _ = self._layers(self._embed(seen)[:, self.config.thinking_rows + len(context) :], seen, kept)
        return self._decode(self._mean_of_columns(h, seen), context, seen)

    def _see(self, table: Table) -> _Seen:
        x = jnp.concatenate([table.x_context, table.x_query])
        y, is_context = jnp.asarray(table.y_context), jnp.asarray(table.is_context) & jnp.isfinite(table.y_context)
        is_column, n = jnp.asarray(table.is_group), is_context.size
        cells = encode_cells(x, is_context, is_column)
        one_hot = labels_by_rank(y, is_context, self.config.num_classes)
        classes = self.config.num_classes
        order = jnp.arange(classes) if self.config.slots_by_rank else slot_order(one_hot, cells[:n], is_column)
        return _Seen(cells, is_column, is_context, one_hot[:, order].astype(x.dtype), order)

    def _layers(
        self, h: Float[Array, "F rows E"], seen: _Seen, kept: Float[Array, "L F K E"] | None = None
    ) -> tuple[Float[Array, "F rows E"], list[Float[Array, "F K E"]]]:
        if (dtype := self.cell_mlp[...].dtype).itemsize == 2:  # half-precision weights compute in it
            h = h.astype(dtype)
        is_key = jnp.concatenate([jnp.ones(self.config.thinking_rows, bool), seen.is_context])
        layer, weights = nnx.split(self.layers)
        found = []
        for i in range(self.config.num_layers):  # faster than a scan, which copies what the gradient needs
            of_layer = nnx.merge(layer, jax.tree.map(lambda w, i=i: w[i], weights))
            h, keys = of_layer(h, seen.is_column, is_key, _LAYER_SCALE**i, None if kept is None else kept[i])
            found.append(keys)
        return h, found

    def _mean_of_columns(self, h: Float[Array, "F R E"], seen: _Seen) -> Float[Array, "R E"]:
        return _rms_norm((_rms_norm(h) * seen.is_column[:, None, None]).sum(0) / seen.is_column.sum())

    def _decode(self, rows: Float[Array, "R E"], context: Float[Array, "N E"], seen: _Seen) -> Float[Array, "R C"]:
        votes = self.vote(rows, context, seen.slot_of_row, seen.is_context)
        logits = votes + self.readout(rows).astype(seen.cells.dtype)
        return logits[:, jnp.argsort(seen.order)]

    def _embed(self, seen: _Seen) -> Float[Array, "F rows E"]:
        cells, is_column, slot_of_row = seen.cells, seen.is_column, seen.slot_of_row
        rows, columns, _ = cells.shape
        neighbours = (jnp.arange(columns)[:, None] + jnp.array(_NEIGHBOURS)) % is_column.sum()
        tokens = self.cell(cells[:, neighbours].reshape(rows, columns, -1).swapaxes(0, 1))
        hidden = jax.nn.relu(tokens)
        tokens = tokens + _matmul(hidden * hidden, self.cell_mlp[...])
        label = jnp.concatenate([slot_of_row, jnp.zeros((rows - len(slot_of_row), slot_of_row.shape[1]))])
        label = label @ self.slots[...] + (1 - label.sum(-1, keepdims=True)) * self.unlabelled[...]
        thinking = jnp.broadcast_to(self.thinking[...], (columns, *self.thinking.shape))
        return jnp.concatenate([thinking.astype(tokens.dtype), tokens + label], axis=1)


class Vote(nnx.Module):
    """Logarithms of the attention that falls on each class's context rows, averaged over heads."""

    def __init__(self, config: PFNConfig, *, rngs: nnx.Rngs):
        heads, size, width = config.num_heads, config.head_size, config.embedding_size
        self.qk = nnx.Param(_normal(rngs, (2, heads, width, size), width))
        self.sharpness = nnx.Param(jnp.full(heads, 0.1))

    def __call__(
        self,
        rows: Float[Array, "R E"],
        context: Float[Array, "N E"],
        slot_of_row: Float[Array, "N C"],
        is_context: Bool[Array, " N"],
    ) -> Float[Array, "R C"]:
        _, heads, _, size = self.qk.shape
        votes = jnp.zeros((), slot_of_row.dtype)
        for head in range(heads):
            scale = (1 + self.sharpness[head] * jnp.log(is_context.sum() / 64)) / size**0.5
            q, k = rows @ self.qk[0, head] * scale.astype(rows.dtype), context @ self.qk[1, head]
            votes += _attend(q[None], k[None], slot_of_row[None], is_context)[0] / heads
        return jnp.log(votes + _FEWEST_VOTES)


def encode_cells(
    x: Float[Array, "R F"], is_context: Bool[Array, " N"], is_column: Bool[Array, " F"]
) -> Float[Array, "R F 3"]:
    """arcsinh of the value in standard deviations of the context, rank in the context from -1 to 1, missing or not."""
    finite = jnp.isfinite(x) & is_column
    value, n = jnp.where(finite, x, 0), is_context.size
    known = finite[:n] & is_context[:, None]
    count = jnp.maximum(known.sum(0), 1)
    # Twice, the second time about the first mean, so that a large mean costs no digits.
    centre = jnp.where(known, value[:n], 0).sum(0) / count
    centre += jnp.where(known, value[:n] - centre, 0).sum(0) / count
    variance = jnp.where(known, (value[:n] - centre) ** 2, 0).sum(0) / count
    varies = variance > 1e-12 * centre**2
    std = jnp.sqrt(jnp.where(varies, variance, 1))
    deviations = jnp.where(finite, jnp.arcsinh((value - centre) / std), 0)

    def rank(value, known, count):
        ordered = jnp.sort(jnp.where(known, value[:n], jnp.inf))
        below, up_to = (jnp.searchsorted(ordered, value, side) for side in ("left", "right"))
        return (below + up_to) / count - 1

    ranks = jax.vmap(rank, in_axes=(1, 1, 0), out_axes=1)(jax.lax.stop_gradient(value), known, count)
    return jnp.stack([deviations, jnp.where(finite, ranks, 0).astype(x.dtype), 1.0 - finite], axis=-1).astype(x.dtype)


def labels_by_rank(y: Float[Array, " N"], is_context: Bool[Array, " N"], classes: int) -> Bool[Array, "N C"]:
    """Which of the context's distinct labels, from the smallest on, each context row has."""
    ordered = jnp.sort(jnp.where(is_context, y, jnp.inf))
    is_new = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    rank = (jnp.cumsum(is_new) - 1)[jnp.searchsorted(ordered, jnp.where(is_context, y, ordered[0]))]
    return (rank[:, None] == jnp.arange(classes)) & is_context[:, None]


def slot_order(
    one_hot: Bool[Array, "N C"], cells: Float[Array, "N F 3"], is_column: Bool[Array, " F"]
) -> Int[Array, " C"]:
    """The class of each slot: most rows first, among equals by the mean of a fixed function of their cells."""
    of_cell = jnp.tanh(cells[..., 0] - 0.5) + jnp.cos(2 * cells[..., 1]) + cells[..., 2]
    of_row = (of_cell * is_column).sum(1)
    count = one_hot.sum(0)
    mean = (one_hot * of_row[:, None]).sum(0) / jnp.maximum(count, 1)
    return jnp.lexsort((jax.lax.stop_gradient(mean), -count))


def _attend(
    q: Float[Array, "B A D"], k: Float[Array, "B K D"], v: Float[Array, "B K V"], is_key: Bool[Array, " K"]
) -> Float[Array, "B A V"]:
    """Softmax attention of scaled queries, in blocks where the weights would take too much memory."""
    bias = jnp.where(is_key, 0, -jnp.inf).astype(q.dtype)

    def one(qkv):
        q, k, v = qkv

        def some_queries(q):
            logits = q @ k.T + bias
            weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
            return weights @ v / weights.sum(-1, keepdims=True)

        if q.shape[0] * k.shape[0] <= _ELEMENTS_AT_ONCE:
            return some_queries(q)
        return map_in_blocks(some_queries, q, k.shape[0], _ELEMENTS_AT_ONCE)

    return map_in_blocks(one, (q, k, v), q.shape[1] * k.shape[1], _ELEMENTS_AT_ONCE)


def _matmul(h: Float[Array, "*batch I"], weight: Float[Array, "I O"]) -> Float[Array, "*batch O"]:
    """One product of two matrices, which is the fastest, also for the gradient."""
    return (h.reshape(-1, h.shape[-1]) @ weight).reshape(*h.shape[:-1], weight.shape[-1])


def _rms_norm(h: Float[Array, "*batch E"]) -> Float[Array, "*batch E"]:
    return h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-6)


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], fan_in: int) -> Float[Array, ...]:
    return jax.random.normal(rngs.params(), shape) / fan_in**0.5
