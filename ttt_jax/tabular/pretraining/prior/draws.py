"""Random numbers that are drawn at once and handed out one after the other, which compiles faster than many draws."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Draws:
    """Hands out the next of some uniforms in (0, 1) and of some standard normals; an error if there are too few."""

    def __init__(self, uniforms: Float[Array, " U"], normals: Float[Array, " N"]):
        self._left = {"uniforms": uniforms, "normals": normals}

    @classmethod
    def of(cls, key: PRNGKeyArray, uniforms: int, normals: int = 0) -> Draws:
        """That many of each."""
        return cls(*random_numbers(key, uniforms, normals))

    def __call__(self, low: Any = 0.0, high: Any = 1.0, shape: tuple[int, ...] = ()) -> Array:
        return low + (high - low) * self._next("uniforms", shape)

    def normal(self, *shape: int) -> Float[Array, "*shape"]:
        return self._next("normals", shape)

    def _next(self, name: str, shape: tuple[int, ...]) -> Array:
        count = prod(shape)
        values, self._left[name] = self._left[name][:count], self._left[name][count:]
        return values.reshape(shape)

    def log(self, low: Any, high: Any, shape: tuple[int, ...] = ()) -> Array:
        """Log-uniform."""
        return jnp.exp(self(jnp.log(low), jnp.log(high), shape))

    def integer(self, low: int, high: int | Array, shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """From `low` to `high` inclusive."""
        return jnp.clip(jnp.floor(self(low, high + 1, shape)), low, high).astype(int)

    def few(self, low: int | Array, high: int | Array, shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """From `low` >= 1 to `high` inclusive, small numbers more often than large ones."""
        return jnp.clip(jnp.floor(self.log(low, high + 1, shape)), low, high).astype(int)

    def pick(self, shares: Sequence[float] | Float[Array, " K"], shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
        """Positions in `shares`, with these probabilities."""
        return (self(shape=(*shape, 1)) > jnp.cumsum(jnp.asarray(shares))[:-1]).sum(-1)


def random_numbers(
    key: PRNGKeyArray, uniforms: int, normals: int
) -> tuple[Float[Array, " uniforms"], Float[Array, " normals"]]:
    """Uniforms in (0, 1) and standard normals, by one call of the generator."""
    values = jax.random.uniform(key, (uniforms + normals,), minval=1e-6, maxval=1 - 1e-6)
    return values[:uniforms], 2**0.5 * jax.lax.erf_inv(2 * values[uniforms:] - 1)
