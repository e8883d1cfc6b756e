"""What happens to a variable on its way into a table. Letters: F columns, R rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ttt_jax.tabular.pretraining.prior.draws import Draws

LEVELS = 16


def distorted(key: PRNGKeyArray, x: Float[Array, "F R"]) -> Float[Array, "F R"]:
    """Each column is warped, cut off at one side, rounded to a few levels, turned into shuffled categories, or left.

    In 15% of the tables nearly all are levels or categories.
    """
    features = len(x)
    draw = Draws.of(key, (7 + LEVELS) * features + 1)
    is_discrete = draw() < 0.15
    shares = jnp.array([(0.45, 0.2, 0.05, 0.15, 0.15), (0.05, 0.0, 0.0, 0.5, 0.45)])[is_discrete.astype(int)]
    kind = draw.pick(shares, (features, 1))
    power = jnp.exp(draw(-1, 1, (features, 1)))
    steep = jnp.exp(jnp.clip(power * x, -8, 8))
    warped = jnp.where(draw(shape=(features, 1)) < 0.5, steep, jnp.sign(x) * jnp.abs(x) ** power)
    cut = jnp.maximum(x - draw(-1, 0.7, (features, 1)), 0)
    levels = draw.few(2, jnp.where(is_discrete, 6, LEVELS), (features, 1))
    level = jnp.clip(jnp.floor((x + 2) / 4 * levels), 0, levels - 1)
    name = jnp.argsort(draw(shape=(features, LEVELS)) + (jnp.arange(LEVELS) >= levels), axis=1)
    category = jnp.take_along_axis(name, level.astype(int), axis=1).astype(x.dtype)
    return jnp.select([kind == i for i in range(5)], [x, warped, cut, level, category])


def uninformative(key: PRNGKeyArray, x: Float[Array, "F R"], used: Int[Array, ""]) -> Float[Array, "F R"]:
    """In a third of the tables up to 30% of the `used` columns are permuted, so that they say nothing of any other."""
    draw = Draws.of(key, 2 + len(x))
    share = jnp.where(draw() < 1 / 3, draw(0, 0.3), 0)
    is_noise = draw(shape=(len(x),)) < share * (used > 2)
    shift = jnp.arange(len(x))[:, None] * 37 + 11  # rows are exchangeable: shifting a column is permuting it
    row = (jnp.arange(x.shape[1]) + shift) % x.shape[1]
    return jnp.where(is_noise[:, None], jnp.take_along_axis(x, row, axis=1), x)


def missing(key: PRNGKeyArray, x: Float[Array, "F R"], has_missing: Bool[Array, ""]) -> Bool[Array, "F R"]:
    """Marks: up to 30% of the values of about a third of the columns, at random."""
    key, cell_key = jax.random.split(key)
    draw = Draws.of(key, 2 * len(x))
    rate = jnp.where(draw(shape=(len(x), 1)) < 0.35, draw(0, 0.3, (len(x), 1)), 0)
    return (jax.random.uniform(cell_key, x.shape) < rate) & has_missing
