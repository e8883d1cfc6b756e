"""How a variable of a causal graph depends on its parents: random functions of a few inputs, all of one signature.

Letters: Q inputs, of which the first `count` are not zero, D = Q outputs, R rows; inputs have mean 0 and variance 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ttt_jax.tabular.pretraining.prior.draws import Draws

Inputs = Float[Array, "Q R"]
Outputs = Float[Array, "D R"]
_HIDDEN, _TREES, _DEPTH, _PROTOTYPES, _WAVES = 16, 8, 5, 16, 32
_ACTIVATION_SHARES = (0.2, 0.2, 0.2, 0.12, 0.08, 0.05, 0.08, 0.07)


def perceptron(draw: Draws, u: Inputs, count: Int[Array, ""]) -> Outputs:
    """Linear, or one hidden layer of 16 with one activation or several."""
    size = len(u)
    linear, several = draw() < 0.3, draw() < 0.3
    activation = draw.pick(_ACTIVATION_SHARES, (_HIDDEN,))
    weight = draw.normal(_HIDDEN, size) / jnp.sqrt(count)
    h = weight @ u + 0.7 * draw.normal(_HIDDEN)[:, None]
    h = _activate(h, jnp.where(several, activation, activation[0])[:, None])
    h = draw.normal(size, _HIDDEN) * (draw(shape=(size, _HIDDEN)) < 0.5) @ h
    return jnp.where(linear, draw.normal(size, size) @ u, h)


def _activate(h: Float[Array, "H R"], kind: Int[Array, "H 1"]) -> Float[Array, "H R"]:
    kinds = [h, jnp.tanh(h), jax.nn.relu(h), jnp.abs(h), h**2, jnp.exp(-(h**2)), jnp.sign(h), jnp.sin(2 * h)]
    return jnp.select([kind == i for i in range(len(kinds))], kinds)


def oblivious_trees(draw: Draws, u: Inputs, count: Int[Array, ""]) -> Outputs:
    """A sum of 1 to 8 trees of depth 1 to 5 that test one input per level."""
    return sum_of_trees(draw, u, count, _TREES, _DEPTH, len(u))


def sum_of_trees(draw: Draws, u: Inputs, count: Int[Array, ""], trees: int, depth: int, outputs: int) -> Outputs:
    """At most that many, and that deep."""
    rows = u.shape[1]
    tested = draw.integer(0, count - 1, (trees, depth))
    threshold = u[tested, draw.integer(0, rows - 1, (trees, depth))]
    right = (u[tested] > threshold[..., None]) & (jnp.arange(depth) < draw.integer(1, depth))[:, None]
    leaf = (right << jnp.arange(depth)[:, None]).sum(1)
    value = draw.normal(trees, 2**depth, outputs) * (jnp.arange(trees) < draw.few(1, trees))[:, None, None]
    return jax.vmap(lambda value, leaf: value[leaf].T)(value, leaf).sum(0)


def nearest_prototype(draw: Draws, u: Inputs, count: Int[Array, ""]) -> Outputs:
    """A value for each of 2 to 16 prototypes, that of the nearest one or a soft mixture."""
    centre = u[:, draw.integer(0, u.shape[1] - 1, (_PROTOTYPES,))]
    scale = draw.log(0.3, 1, (len(u), 1))
    distance = ((centre * scale) ** 2).sum(0)[:, None] - 2 * (centre * scale).T @ (u * scale)
    exists = jnp.arange(_PROTOTYPES) < draw.few(2, _PROTOTYPES)
    softness = jnp.where(draw() < 0.5, 1e-3, draw.log(0.03, 0.5)) * count
    nearness = jnp.where(exists[:, None], -distance / softness, -jnp.inf)
    return draw.normal(len(u), _PROTOTYPES) @ jax.nn.softmax(nearness, axis=0)


def waves(draw: Draws, u: Inputs, count: Int[Array, ""]) -> Outputs:
    """A draw of a Gaussian process, by 32 random Fourier features: of a Gaussian kernel, or one with heavier tails."""
    length = draw.log(0.8, 3)
    tail = jnp.where(draw() < 0.5, 1, (1 / draw(0.05, 1, (_WAVES,)) - 0.5))
    frequency = draw.normal(_WAVES, len(u)) * tail[:, None] / (length * jnp.sqrt(count))
    return draw.normal(len(u), _WAVES) @ jnp.cos(frequency @ u + draw(0, 2 * jnp.pi, (_WAVES, 1)))


def product(draw: Draws, u: Inputs, count: Int[Array, ""]) -> Outputs:
    """Products of two linear functions with a constant each."""
    first, second = (draw.normal(len(u), len(u)) @ u / jnp.sqrt(count) + draw.normal(len(u), 1) for _ in range(2))
    return first * second


MECHANISMS = (perceptron, oblivious_trees, nearest_prototype, waves, product)


def numbers_needed(size: int) -> tuple[int, int]:
    """Uniforms and normals that are enough for any mechanism with that many inputs and outputs."""
    return 2 + 2 * _HIDDEN * (1 + size), _TREES * 2**_DEPTH * size
