"""A random causal graph: variables in topological order, each a random function of a few earlier ones, and noise.

Letters: V nodes of D variables each, R rows.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ttt_jax.tabular.pretraining.prior.config import MAX_CLASSES
from ttt_jax.tabular.pretraining.prior.draws import Draws, random_numbers
from ttt_jax.tabular.pretraining.prior.mechanisms import MECHANISMS, numbers_needed

NODES, SIZE = 12, 8
_PARENTS, _CLUSTERS, _PROTOTYPES = 3, 2 * MAX_CLASSES, 4 * MAX_CLASSES


class Graph(NamedTuple):
    """Variables with mean 0 and variance 1 (0 if constant), the variables that each node depends on, and the causes.

    Where `is_input` is false a node does not use the variable in `inputs`; a root uses none. `cluster` is a latent
    class of each row, on which roots may depend.
    """

    values: Float[Array, "V D R"]
    inputs: Int[Array, "V D"]
    is_input: Bool[Array, "V D"]
    cluster: Int[Array, " R"]


def causal_graph(
    key: PRNGKeyArray,
    rows: int,
    complexity: Int[Array, ""],
    clusters: Int[Array, ""],
    clustered: Bool[Array, ""],
    independent: Bool[Array, ""],
) -> Graph:
    """A graph of V nodes, its first node always a root.

    Args:
        complexity: the most variables that a node may depend on.
        clusters: number of latent classes, at most 20.
        clustered: whether all roots depend on them; else each kind of root is as likely.
        independent: whether all nodes are roots.
    """
    draw_key, noise_key, cluster_key, scan_key = jax.random.split(key, 4)
    draw = Draws.of(draw_key, 10 + NODES * (_PARENTS + 2 * SIZE + 7) + rows, NODES)
    node = jnp.arange(NODES)
    recency = draw.log(0.2, 1.5)
    parents = jnp.floor(node[:, None] * draw(shape=(NODES, _PARENTS)) ** recency).astype(int)
    parent = jnp.take_along_axis(parents, draw.integer(0, _PARENTS - 1, (NODES, SIZE)), axis=1)
    inputs = parent * SIZE + draw.integer(0, SIZE - 1, (NODES, SIZE))
    is_root = (node == 0) | (draw(shape=(NODES,)) < draw(0, 0.35)) | independent
    counts = draw.few(1, jnp.minimum(complexity, SIZE), (NODES,))
    tilt = jnp.exp(draw.normal(NODES)[: len(MECHANISMS)])
    kinds = draw.pick(tilt / tilt.sum(), (NODES,))
    noise_scale = jnp.exp(draw(-6, -1.5) + draw(-1, 0.5, (NODES, 1, 1)))

    unequal = jnp.exp(draw(0, 0.8))
    cluster = jnp.floor(clusters * draw(shape=(rows,)) ** unequal).astype(int)
    noise = jax.random.normal(noise_key, (NODES, SIZE, rows))
    root_kind = jnp.where(clustered, 2, draw.pick((0.5, 0.2, 0.3), (NODES,)))
    roots = _roots(cluster_key, noise, cluster, root_kind)

    branches = [lambda numbers, *inputs, f=f: f(Draws(*numbers), *inputs) for f in MECHANISMS]

    def step(pool, node):
        i, key, inputs, count, kind, is_root, root, disturbance = node
        u = jnp.where((jnp.arange(SIZE) < count)[:, None], pool.reshape(NODES * SIZE, rows)[inputs], 0)
        numbers = random_numbers(key, *numbers_needed(SIZE))  # once, not in each branch: that compiles faster
        effect = standardise(jax.lax.switch(kind, branches, numbers, u, count))
        value = jnp.where(is_root, root, standardise(jnp.clip(effect, -4, 4) + disturbance))
        return jax.lax.dynamic_update_index_in_dim(pool, value, i, 0), None

    keys = jax.random.split(scan_key, NODES)
    nodes = (node, keys, inputs, counts, kinds, is_root, roots, noise_scale * noise)
    values, _ = jax.lax.scan(step, jnp.zeros((NODES, SIZE, rows)), nodes)
    is_input = (jnp.arange(SIZE) < counts[:, None]) & ~is_root[:, None]
    return Graph(values, inputs, is_input, cluster)


def _roots(
    key: PRNGKeyArray, noise: Float[Array, "V D R"], cluster: Int[Array, " R"], kind: Int[Array, " V"]
) -> Float[Array, "V D R"]:
    """Normal, uniform, or around the centre of the row's cluster, with a spread per cluster and variable."""
    draw = Draws.of(key, NODES * SIZE * _CLUSTERS + NODES + 1, NODES * SIZE * _CLUSTERS)
    centre = draw.normal(NODES, SIZE, _CLUSTERS)
    spread = draw.log(0.15, 1.0, (NODES, 1, 1)) * draw.log(0.5, 2, (NODES, SIZE, _CLUSTERS))
    uniform = 2 * jax.scipy.special.ndtr(noise) - 1
    around = centre[..., cluster] + spread[..., cluster] * noise
    kind = kind[:, None, None]
    return standardise(jnp.select([kind == 0, kind == 1], [noise, uniform], around))


def standardise(h: Float[Array, "*variables R"]) -> Float[Array, "*variables R"]:
    """Mean 0 and variance 1 over the rows; constants become 0."""
    h = h - h.mean(-1, keepdims=True)
    return h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-6)


def class_shares(draw: Draws, classes: Int[Array, ""]) -> Float[Array, " classes"]:
    """Nearly balanced in half of the tables, the largest several times the smallest in the others.

    Needs 2 uniforms and `MAX_CLASSES` normals.
    """
    spread = jnp.where(draw() < 0.5, 0.15, draw(0.15, 1.0))
    weight = jnp.exp(spread * draw.normal(MAX_CLASSES)) * (jnp.arange(MAX_CLASSES) < classes)
    return weight / weight.sum()


def intervals(value: Float[Array, " R"], shares: Float[Array, " classes"], classes: Int[Array, ""]) -> Int[Array, " R"]:
    """Classes between quantiles of a variable, with about these shares; one class only if it is constant."""
    cuts = jnp.quantile(value, jnp.minimum(jnp.cumsum(shares)[:-1], 1))
    is_cut = jnp.arange(MAX_CLASSES - 1) < classes - 1
    above = (value[:, None] >= cuts) & (value > value.min())[:, None]
    return (above & is_cut).sum(1)


def classes_by_score(
    scores: Float[Array, "classes R"], shares: Float[Array, " classes"], classes: Int[Array, ""]
) -> Int[Array, " R"]:
    """The largest standardised score, each with a head start; for two classes, whether the first score is large."""
    largest = (standardise(scores) + jnp.log(shares + 1e-9)[:, None]).argmax(0)
    return jnp.where(classes == 2, intervals(scores[0], shares, classes), largest)


def effect(
    key: PRNGKeyArray, h: Float[Array, "D R"], classes: Int[Array, ""], kind: Int[Array, ""]
) -> Int[Array, " R"]:
    """A class that the variables of a node decide: intervals of the first (kind 0), the nearest prototype, or the
    largest of random linear functions."""
    draw = Draws.of(key, 6 + _PROTOTYPES, MAX_CLASSES * (len(h) + 2))
    shares = class_shares(draw, classes)
    used = jnp.where((jnp.arange(len(h)) < draw.few(1, len(h)))[:, None], h, 0)
    centre = used[:, draw.integer(0, h.shape[1] - 1, (_PROTOTYPES,))]
    distance = (centre**2).sum(0)[:, None] - 2 * centre.T @ used
    count = jnp.minimum(classes * draw.few(1, 4), _PROTOTYPES)
    nearest = jnp.where(jnp.arange(_PROTOTYPES)[:, None] < count, distance, jnp.inf).argmin(0) % classes
    largest = classes_by_score(draw.normal(MAX_CLASSES, len(h)) @ used, shares, classes)
    return jnp.select([kind == 0, kind == 1], [intervals(h[0], shares, classes), nearest], largest)
