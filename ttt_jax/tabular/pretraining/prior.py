"""Synthetic classification tables to pretrain on: what the network believes a table can be.

Each table comes from a random structural causal model, as in the TabPFN papers but written from scratch:

1. Causes. 1 to 16 root variables: normal, uniform, or random clusters, each with a spread of its own per variable.
2. Mechanisms. 1 to 4 layers (few more often than many) of 32 variables, each a random function of the layer before:
   sparse linear, then one of eight activations chosen per variable, standardised, plus noise of standard deviation
   exp(U(-6, -2)).
3. Features. Causes and variables drawn without replacement; in half of the tables the causes come first, so that the
   label is a function of the features and noise.
4. Label. Half have two classes, the others 3 to 10. In 40% of the tables the class comes first, as for handwritten
   digits: it is the cluster of the causes, one or two clusters to a class. In the others it comes last, from variables
   of the last layer in one of three ways: intervals of one variable between random quantiles; the nearest of random
   prototypes in a few variables; the leaf of a random tree on a few variables. Classes are shuffled; in 30% of the
   tables up to 15% of the labels are random.
5. Columns. Each is warped, rounded to a few levels, turned into shuffled categories, replaced by noise (at most 15% of
   the columns), held constant, or left; in 15% of the tables nearly all are levels or categories, and in 15% some
   values are missing.

Letters: B tables of R rows and F features.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

MAX_CLASSES = 10
_WIDTH, _LAYERS, _CAUSES = 32, 4, 16
_ACTIVATION_SHARES = (0.25, 0.25, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05)
_CLUSTERS, _PROTOTYPES, _TREE_DEPTH, _LEVELS = 20, 24, 5, 16


class Tasks(NamedTuple):
    """A batch of labelled tables; labels are 0 to `MAX_CLASSES` - 1, and missing values NaN."""

    x: Float[Array, "B R F"]
    y: Int[Array, "B R"]


@partial(jax.jit, static_argnames=("tables", "rows", "features"))
def sample_tasks(key: PRNGKeyArray, tables: int, rows: int, features: int) -> Tasks:
    """Independent tables of the prior; the same key gives the same tables.

    Args:
        key: a key of `jax.random.key`.
        tables: number B of tables.
        rows: number R of rows of each, in exchangeable order.
        features: number F of columns of each; some may be constant.

    Example:
        >>> x, y = sample_tasks(jax.random.key(0), tables=2, rows=50, features=3)
        >>> x.shape, y.shape, int(y.max()) < MAX_CLASSES
        ((2, 50, 3), (2, 50), True)
    """
    return jax.vmap(lambda key: _task(key, rows, features))(jax.random.split(key, tables))


def _task(key: PRNGKeyArray, rows: int, features: int) -> Tasks:
    keys = jax.random.split(key, 6)
    draw = _Uniforms(keys[0], 4 + 2 * rows + MAX_CLASSES)
    several = draw.integer(3, MAX_CLASSES)
    classes = jnp.where(draw() < 0.5, 2, several)
    class_first = draw() < 0.4
    causes, is_cause, cluster = _causes(keys[1], rows, features, classes, class_first)
    last, variables, exists = _mechanisms(keys[2], causes, is_cause)
    y = jnp.where(class_first, cluster % classes, _effect(keys[3], last, classes))
    share_of_random = jnp.maximum(draw(-0.35, 0.15), 0)
    y = jnp.where(draw(shape=(rows,)) < share_of_random, draw.integer(0, classes - 1, (rows,)), y)
    new_name = jnp.argsort(draw(shape=(MAX_CLASSES,)) + (jnp.arange(MAX_CLASSES) >= classes))
    x = _choose_features(keys[4], causes, is_cause, variables, exists, features)
    return Tasks(_columns(keys[5], x), new_name[y])


class _Uniforms:
    """Hands out the next of a fixed number of uniforms in [0, 1); one large draw compiles faster than many small."""

    def __init__(self, key: PRNGKeyArray, count: int):
        self._values, self._used = jax.random.uniform(key, (count,)), 0

    def __call__(self, low: float | Array = 0.0, high: float | Array = 1.0, shape: tuple[int, ...] = ()) -> Array:
        first, self._used = self._used, self._used + prod(shape)
        return low + (high - low) * self._values[first : self._used].reshape(shape)

    def integer(self, low: int, high: int | Array, shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """From `low` to `high` inclusive."""
        return jnp.floor(self(low, high + 1, shape)).astype(int)

    def pick(self, shares: tuple[float, ...] | Float[Array, " K"], shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """Positions in `shares`, with these probabilities."""
        return (self(shape=(*shape, 1)) > jnp.cumsum(jnp.asarray(shares))[:-1]).sum(-1)


def _causes(
    key: PRNGKeyArray, rows: int, features: int, classes: Int[Array, ""], class_first: Bool[Array, ""]
) -> tuple[Float[Array, "R causes"], Bool[Array, " causes"], Int[Array, " R"]]:
    """Values, marks on those that exist, and the cluster of each row, of which a class that comes first has 1 or 2."""
    keys = jax.random.split(key, 3)
    draw = _Uniforms(keys[0], 7 + rows + _CLUSTERS * _CAUSES)
    is_cause = jnp.arange(_CAUSES) < draw.integer(1, min(_CAUSES, features))
    kind = jnp.where(class_first, 2, draw.pick((0.4, 0.2, 0.4)))
    clusters = jnp.where(class_first, classes * draw.integer(1, 2), draw.integer(2, 8))
    unequal = jnp.exp(draw(0, 0.7))
    cluster = jnp.floor(clusters * draw(shape=(rows,)) ** unequal).astype(int)
    spread = jnp.exp(draw(-2.5, 0) + draw(-0.7, 0.7, (_CLUSTERS, _CAUSES)))
    normal, centre = jnp.split(jax.random.normal(keys[1], (rows + _CLUSTERS, _CAUSES)), [rows])
    uniform = jax.random.uniform(keys[2], (rows, _CAUSES), minval=-1.7, maxval=1.7)
    causes = jnp.select([kind == 0, kind == 1], [normal, uniform], centre[cluster] + spread[cluster] * normal)
    return jnp.where(is_cause, causes, 0), is_cause, cluster


def _mechanisms(
    key: PRNGKeyArray, causes: Float[Array, "R causes"], is_cause: Bool[Array, " causes"]
) -> tuple[Float[Array, "R width"], Float[Array, "R variables"], Bool[Array, " variables"]]:
    """The last layer, and all layers side by side with marks on those that exist."""
    key, layer_key = jax.random.split(key)
    draw = _Uniforms(key, 3)
    depth = 1 + draw.pick((0.4, 0.3, 0.2, 0.1))
    drop, noise = draw(0, 0.5), jnp.exp(draw(-6, -2))

    def layer(inputs, key):
        h, is_input = inputs
        uniform_key, normal_key = jax.random.split(key)
        draw = _Uniforms(uniform_key, _WIDTH * (_WIDTH + 1))
        edges = is_input[:, None] & (draw(shape=(_WIDTH, _WIDTH)) > drop)
        normal = jax.random.normal(normal_key, (_WIDTH + 1 + len(h), _WIDTH))
        weight, bias, disturbance = jnp.split(normal, [_WIDTH, _WIDTH + 1])
        h = _standardise(h @ (weight * edges)) + 0.7 * bias
        h = _standardise(_activate(h, draw.pick(_ACTIVATION_SHARES, (_WIDTH,)))) + noise * disturbance
        return (h, jnp.ones(_WIDTH, bool)), h

    inputs = jnp.pad(causes, ((0, 0), (0, _WIDTH - _CAUSES))), jnp.pad(is_cause, (0, _WIDTH - _CAUSES))
    _, layers = jax.lax.scan(layer, inputs, jax.random.split(layer_key, _LAYERS))
    exists = jnp.repeat(jnp.arange(_LAYERS) < depth, _WIDTH)
    return layers[depth - 1], layers.swapaxes(0, 1).reshape(len(causes), -1), exists


def _activate(h: Float[Array, "R width"], kind: Int[Array, " width"]) -> Float[Array, "R width"]:
    kinds = [h, jnp.tanh(h), jax.nn.relu(h), jnp.abs(h), h**2, jnp.exp(-(h**2)), jnp.sign(h), jnp.sin(2 * h)]
    return jnp.select([kind == i for i in range(len(kinds))], kinds)


def _choose_features(key, causes, is_cause, variables, exists, features: int) -> Float[Array, "R F"]:
    """Random existing variables; the causes before all others in half of the tables."""
    all_variables = jnp.concatenate([causes, variables], axis=1)
    draw = _Uniforms(key, 1 + all_variables.shape[1])
    causes_first = draw() < 0.5
    bonus = jnp.concatenate([jnp.where(is_cause, causes_first, -2.0), jnp.where(exists, 0.0, -2.0)])
    return all_variables[:, jax.lax.top_k(draw(shape=bonus.shape) + bonus, features)[1]]


def _effect(key: PRNGKeyArray, h: Float[Array, "R width"], classes: Int[Array, ""]) -> Int[Array, " R"]:
    """A class that the variables of the last layer decide."""
    draw = _Uniforms(key, 1 + _WIDTH + MAX_CLASSES + 2 + _PROTOTYPES + _TREE_DEPTH + 1 + 2**_TREE_DEPTH)
    h = h[:, jnp.argsort(draw(shape=(_WIDTH,)))]
    kind = draw.pick((0.4, 0.4, 0.2))
    labels = [_intervals(draw, h[:, 0], classes), _prototypes(draw, h, classes), _tree(draw, h, classes)]
    return jnp.select([kind == i for i in range(3)], labels)


def _intervals(draw: _Uniforms, value: Float[Array, " R"], classes: Int[Array, ""]) -> Int[Array, " R"]:
    """Classes between random quantiles, none of them much rarer than the others."""
    share = draw(0.3, 1, (MAX_CLASSES,)) * (jnp.arange(MAX_CLASSES) < classes)
    quantile = jnp.cumsum(share / share.sum())[:-1]
    return (value[:, None] > jnp.quantile(value, jnp.minimum(quantile, 1))).sum(1)


def _prototypes(draw: _Uniforms, h: Float[Array, "R width"], classes: Int[Array, ""]) -> Int[Array, " R"]:
    """The class of the nearest of some rows, one to four per class, in the first 1 to 8 variables."""
    h = jnp.where(jnp.arange(_WIDTH) < draw.integer(1, 8), h, 0)
    centre = h[draw.integer(0, len(h) - 1, (_PROTOTYPES,))]
    distance = (centre**2).sum(1) - 2 * h @ centre.T
    count = jnp.minimum(classes * draw.integer(1, 4), _PROTOTYPES)
    return jnp.where(jnp.arange(_PROTOTYPES) < count, distance, jnp.inf).argmin(1) % classes


def _tree(draw: _Uniforms, h: Float[Array, "R width"], classes: Int[Array, ""]) -> Int[Array, " R"]:
    """The class of a leaf: a tree of depth 1 to 5 that tests one variable per level."""
    level = jnp.arange(_TREE_DEPTH)
    threshold = h[draw.integer(0, len(h) - 1, (_TREE_DEPTH,)), level]
    right = (h[:, :_TREE_DEPTH] > threshold) & (level < draw.integer(1, _TREE_DEPTH))
    return draw.integer(0, classes - 1, (2**_TREE_DEPTH,))[right @ 2**level]


def _columns(key: PRNGKeyArray, x: Float[Array, "R F"]) -> Float[Array, "R F"]:
    """What happens to a column on its way into a table."""
    features = x.shape[1]
    draw_key, noise_key, missing_key = jax.random.split(key, 3)
    draw = _Uniforms(draw_key, (7 + _LEVELS) * features + 2)
    is_discrete = draw() < 0.15
    shares = jnp.array([(0.5, 0.2, 0.12, 0.1, 0.05, 0.03), (0.05, 0.0, 0.45, 0.45, 0.03, 0.02)])
    kind = draw.pick(shares[is_discrete.astype(int)], (features,))
    power = jnp.exp(draw(-1, 1, (features,)))
    steep = jnp.exp(jnp.clip(power * x, -8, 8))
    warped = jnp.where(draw(shape=(features,)) < 0.5, steep, jnp.sign(x) * jnp.abs(x) ** power)
    levels = jnp.floor(jnp.exp(draw(jnp.log(2), jnp.log(jnp.where(is_discrete, 6, _LEVELS + 1)), (features,))))
    level = jnp.clip(jnp.floor((x + 2) / 4 * levels), 0, levels - 1)
    code = jnp.argsort(draw(shape=(_LEVELS, features)), axis=0)
    category = jnp.take_along_axis(code, level.astype(int), axis=0).astype(x.dtype)
    may_be_noise = (jnp.cumsum(kind == 4) <= 0.15 * features) & (kind == 4)
    noise = jax.random.normal(noise_key, x.shape)
    kinds = [kind == 1, kind == 2, kind == 3, may_be_noise, (kind == 5) & (features > 2)]
    x = jnp.select(kinds, [warped, level, category, noise, jnp.zeros_like(x)], x)
    has_missing = (draw() < 0.15) & (draw(shape=(features,)) < 0.3)
    missing = jax.random.uniform(missing_key, x.shape) < 0.3 * draw(shape=(features,))
    return jnp.where(missing & has_missing, jnp.nan, x)


def _standardise(h: Float[Array, "R width"]) -> Float[Array, "R width"]:
    h = h - h.mean(0)
    return h / jnp.sqrt((h * h).mean(0) + 1e-6)
