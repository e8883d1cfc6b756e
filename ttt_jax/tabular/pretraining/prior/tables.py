"""Tables of the prior, on a device or in a worker process. Letters: B tables of R rows and F columns."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ttt_jax._internal.validate import positive_integer
from ttt_jax.tabular.pretraining.prior.columns import distorted, missing, uninformative
from ttt_jax.tabular.pretraining.prior.config import KINDS, MAX_CLASSES, MAX_FEATURES, PriorConfig
from ttt_jax.tabular.pretraining.prior.draws import Draws
from ttt_jax.tabular.pretraining.prior.forests import boosted_trees, fitted_trees, random_forest
from ttt_jax.tabular.pretraining.prior.graph import NODES, SIZE, Graph, causal_graph, effect
from ttt_jax.tabular.pretraining.prior.rules import nominal_table

_GRAPH, _EXTRA_TREES, _BOOSTING, _RULES = range(len(KINDS))
_FEWEST_COMPILED_ROWS = 128

Shares = dict[str, Any]  # of `PriorConfig`, as arrays: no compilation depends on them


class Tables(NamedTuple):
    """A batch of labelled tables; missing values are NaN, and columns from `num_features` on are 0."""

    x: Float[Array, "B R F"]
    y: Int[Array, "B R"]
    num_features: Int[Array, " B"]


class _Table(NamedTuple):
    """One table before values go missing and labels are shuffled."""

    x: Float[Array, "F R"]
    y: Int[Array, " R"]
    num_features: Int[Array, ""]
    classes: Int[Array, ""]
    kind: Int[Array, ""]
    is_missing: Bool[Array, "F R"]
    random_labels: Int[Array, " R"]
    new_names: Int[Array, " classes"]


def sample_tables(key: PRNGKeyArray, config: PriorConfig, tables: int, rows: int, features: int) -> Tables:
    """Independent tables of the prior; the same key gives the same tables.

    Args:
        key: a key of `jax.random.key`.
        config: shares of the kinds of table.
        tables: number B of tables.
        rows: number R of rows of each, in exchangeable order.
        features: number F of columns of the arrays, 2 to 64; each table has its own number of columns up to that.

    Raises:
        ValueError: rows or features is out of range.

    Example:
        >>> x, y, num_features = sample_tables(jax.random.key(0), PriorConfig(), tables=2, rows=50, features=3)
        >>> x.shape, y.shape, bool(num_features.max() <= 3)
        ((2, 50, 3), (2, 50), True)
    """
    _require(rows, features)
    return _sample(key, asdict(config), tables, rows, features)


@partial(jax.jit, static_argnames=("tables", "rows", "features"))
def _sample(key: PRNGKeyArray, shares: Shares, tables: int, rows: int, features: int) -> Tables:
    def table(key):
        raw = _table(key, shares, rows, features, features)
        forest_key = jax.random.fold_in(key, 1)
        trees = (label(forest_key, raw.x, raw.num_features, raw.classes) for label in (random_forest, boosted_trees))
        labels = [raw.y, *trees, raw.y]
        y = jnp.select([raw.kind == kind for kind in range(len(KINDS))], labels)
        return _finished(jnp, raw._replace(y=y))

    return jax.vmap(table)(jax.random.split(key, tables))


def host_tables(config: PriorConfig, seed: int, step: int, tables: int, rows: int, features: int) -> Tables:
    """The same in NumPy arrays, one after the other, with trees of scikit-learn; a pure function of its arguments.

    It compiles once for each power of two that `rows` is rounded up to, whatever the other arguments.

    Example:
        >>> x, y, num_features = host_tables(PriorConfig(), seed=0, step=7, tables=2, rows=50, features=3)
        >>> type(x).__name__, x.shape
        ('ndarray', (2, 50, 3))
    """
    _require(rows, features)
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), step)
    compiled_rows = max(_FEWEST_COMPILED_ROWS, 1 << (rows - 1).bit_length())

    def table(i: int) -> Tables:
        raw = jax.device_get(
            _compiled_table(jax.random.fold_in(key, i), asdict(config), compiled_rows, MAX_FEATURES, features)
        )
        by_row = {name: getattr(raw, name)[..., :rows] for name in ("x", "y", "is_missing", "random_labels")}
        raw = raw._replace(**by_row)
        if raw.kind in (_EXTRA_TREES, _BOOSTING):
            rng = np.random.default_rng((seed, step, i))
            raw = raw._replace(y=fitted_trees(rng, KINDS[raw.kind], raw.x[: raw.num_features].T, int(raw.classes)))
        finished = _finished(np, raw)
        return finished._replace(x=finished.x[:, :features])

    return jax.tree.map(lambda *parts: np.stack(parts), *map(table, range(tables)))


def _require(rows: int, features: int) -> None:
    positive_integer("rows", rows)
    if not 2 <= positive_integer("features", features) <= MAX_FEATURES:
        raise ValueError(f"features must be an integer between 2 and {MAX_FEATURES}, got {features}")


def _table(key: PRNGKeyArray, shares: Shares, rows: int, width: int, most: int | Array) -> _Table:
    """A table of 2 to `most` columns in arrays of `width`, not yet labelled where trees are to do it."""
    keys = jax.random.split(key, 8)
    draw = Draws.of(keys[0], 24 + 2 * rows + MAX_CLASSES)
    kind = draw.pick(jnp.stack([shares[kind] for kind in KINDS]))
    fewest = jnp.where(draw() < 0.7, jnp.maximum(most // 4, 2), 2)
    num_features = draw.few(fewest, most)
    classes = jnp.where(draw() < shares["binary"], 2, draw.few(3, MAX_CLASSES))

    class_first = (draw() < 0.25) & (kind == _GRAPH)
    clusters = jnp.where(class_first, classes * draw.integer(1, 2), draw.integer(2, 8))
    independent = (draw() < 0.3) & ((kind == _EXTRA_TREES) | (kind == _BOOSTING))
    graph = causal_graph(keys[1], rows, num_features, clusters, class_first, independent)
    variables, y = _observe(keys[2], graph, num_features, classes, width)
    y = jnp.where(class_first, graph.cluster % classes, y)
    x = uninformative(keys[3], distorted(keys[4], variables), num_features)

    one_hot = draw() < shares["one_hot"]
    x, y, num_features = jax.lax.cond(
        kind == _RULES,
        lambda: nominal_table(keys[5], rows, width, num_features, classes, one_hot),
        lambda: (x, y, num_features),
    )
    y = jnp.where(y.max() == y.min(), x[0] > x[0].mean(), y)

    noise_share = jnp.where(draw() < shares["noisy"], draw(0, 0.15), 0)
    is_random = draw(shape=(rows,)) < noise_share
    random_labels = jnp.where(is_random, draw.integer(0, classes - 1, (rows,)), -1)
    new_names = jnp.argsort(draw(shape=(MAX_CLASSES,)) + (jnp.arange(MAX_CLASSES) >= classes))
    is_missing = missing(keys[6], x, draw() < shares["missing"])
    return _Table(x, y, num_features, classes, kind, is_missing, random_labels, new_names)


_compiled_table = jax.jit(_table, static_argnames=("rows", "width"))


def _observe(
    key: PRNGKeyArray, graph: Graph, num_features: Int[Array, ""], classes: Int[Array, ""], width: int
) -> tuple[Float[Array, "F R"], Int[Array, " R"]]:
    """Variables of a graph to be columns, and a class by one of its nodes.

    Most of the time the variables that this node depends on come before all others among the columns.
    """
    keys = jax.random.split(key, 2)
    draw = Draws.of(keys[0], 4 + NODES * SIZE + width)
    last = jnp.minimum(1 + num_features // 2, NODES - 1)
    node = draw.integer(1, last)
    kind = draw.pick((0.45, 0.3, 0.25))
    y = effect(keys[1], graph.values[node], classes, kind)
    variables = graph.values.reshape(NODES * SIZE, -1)
    direct = jnp.zeros(len(variables)).at[graph.inputs[node]].max(graph.is_input[node])
    is_target = (jnp.arange(len(variables)) == node * SIZE) & (kind == 0)
    bonus = jnp.where(draw() < 0.8, 2 * direct, 0) - 9 * is_target - (jnp.arange(len(variables)) // SIZE > last + 2)
    chosen = jax.lax.top_k(draw(shape=bonus.shape) + bonus, width)[1]
    # top_k sorts: without this the inputs of the class would be the first columns.
    order = jnp.argsort(draw(shape=(width,)) + (jnp.arange(width) >= num_features))
    return variables[chosen[order]], y


def _finished(xp: Any, raw: _Table) -> Tables:
    """Rows first, values gone missing, padding zero, labels noisy and shuffled."""
    is_column = xp.arange(len(raw.x))[:, None] < raw.num_features
    x = xp.where(raw.is_missing, xp.float32(xp.nan), raw.x)
    y = raw.new_names[xp.where(raw.random_labels >= 0, raw.random_labels, raw.y)]
    return Tables(xp.where(is_column, x, 0).T.astype(xp.float32), y.astype(xp.int32), xp.int32(raw.num_features))
