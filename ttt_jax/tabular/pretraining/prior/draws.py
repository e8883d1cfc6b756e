"""Random numbers that are drawn at once and handed out one after the other, which compiles faster than many draws."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Draws:
    """Hands out the next of a fixed number of uniforms in [0, 1) and of standard normals."""

    def __init__(self, key: PRNGKeyArray, uniforms: int, normals: int = 0):
        uniform_key, normal_key = jax.random.split(key)
        self._uniforms, self._used = jax.random.uniform(uniform_key, (uniforms,)), 0
        self._normals, self._used_normals = jax.random.normal(normal_key, (normals,)), 0

    def __call__(self, low: float | Array = 0.0, high: float | Array = 1.0, shape: tuple[int, ...] = ()) -> Array:
        first, self._used = self._used, self._used + prod(shape)
        return low + (high - low) * self._uniforms[first : self._used].reshape(shape)

    def log(self, low: float | Array, high: float | Array, shape: tuple[int, ...] = ()) -> Array:
        """Log-uniform."""
        return jnp.exp(self(jnp.log(low), jnp.log(high), shape))

    def normal(self, *shape: int) -> Float[Array, "*shape"]:
        first, self._used_normals = self._used_normals, self._used_normals + prod(shape)
        return self._normals[first : self._used_normals].reshape(shape)

    def integer(self, low: int, high: int | Array, shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """From `low` to `high` inclusive."""
        return jnp.clip(jnp.floor(self(low, high + 1, shape)), low, high).astype(int)

    def few(self, low: int, high: int | Array, shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """From `low` >= 1 to `high` inclusive, small numbers more often than large ones."""
        return jnp.clip(jnp.floor(self.log(low, high + 1, shape)), low, high).astype(int)

    def pick(self, shares: Sequence[float] | Float[Array, " K"], shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """Positions in `shares`, with these probabilities."""
        return (self(shape=(*shape, 1)) > jnp.cumsum(jnp.asarray(shares))[:-1]).sum(-1)
