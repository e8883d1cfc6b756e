"""One-layer linear attention in Flax: on the full token matrix, and in the collapsed form x'W X'y."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from ttt_jax._internal.validate import shown

__all__ = ["LinearAttention", "Model", "Prompt", "TokenLinearAttention", "functional"]


class Prompt(NamedTuple):
    """The labelled pairs of one task: n that are shown to the model, k that it is asked about.

    Args:
        context_x: features of the context, (n, d).
        context_y: labels of the context, (n,).
        query_x: features of the queries, (k, d).
        query_y: labels of the queries, (k,); training targets that no model may read.
    """

    context_x: Float[Array, "n d"]
    context_y: Float[Array, " n"]
    query_x: Float[Array, "k d"]
    query_y: Float[Array, " k"]


Model = Callable[[PyTree, Prompt], Float[Array, " k"]]
"""A pure function (params, prompt) -> the k predicted labels of the queries."""


def functional(module: nnx.Module) -> tuple[Model, PyTree]:
    """A Flax module as a pure function of its parameters: (model, params) with model(params, prompt) = module(prompt).

    Args:
        module: any `flax.nnx.Module` that maps a `Prompt` to predictions (k,).

    Raises:
        ValueError: if it is anything else.

    Example:
        >>> import jax.numpy as jnp
        >>> model, params = functional(LinearAttention(jnp.eye(2)))
        >>> prompt = Prompt(jnp.eye(2), jnp.array([3.0, 5.0]), jnp.array([[1.0, 1.0]]), jnp.zeros(1))
        >>> model(params, prompt).tolist()
        [8.0]
    """
    if not isinstance(module, nnx.Module):
        raise ValueError(f"module must be a Flax module, an instance of nnx.Module, got {shown(module)}")
    graphdef, params, *rest = nnx.split(module, nnx.Param, ...)

    def model(params: PyTree, prompt: Prompt) -> Float[Array, " k"]:
        return nnx.merge(graphdef, params, *rest)(prompt)

    return model, params


class LinearAttention(nnx.Module):
    """Collapsed linear attention: the prediction for a query x is x'W u with u = X'y.

    The three steps are separate methods because the first is a sum over context rows and the last a map of single
    query rows: both can be streamed, and only the middle one sees the weights.

    Args:
        weights: W, (d, d).

    Reference: Gozeten et al. (ICML 2025), section 2.
    """

    def __init__(self, weights: Float[Array, "d d"]):
        self.weights = nnx.Param(weights)

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        return self.read(self.encode(self.summarize(prompt.context_x, prompt.context_y)), prompt.query_x)

    @staticmethod
    def summarize(context_x: Float[Array, "n d"], context_y: Float[Array, " n"]) -> Float[Array, " d"]:
        """u = X'y."""
        return context_y @ context_x

    def encode(self, u: Float[Array, " d"]) -> Float[Array, " d"]:
        """h = W u, the linear predictor that the context stands for."""
        return self.weights[...] @ u

    @staticmethod
    def read(h: Float[Array, " d"], query_x: Float[Array, "k d"]) -> Float[Array, " k"]:
        """x'h for every query x."""
        return query_x @ h


class TokenLinearAttention(nnx.Module):
    """Linear attention on the token matrix Z = [[X, y], [x, 0]]: entry (n+1, d+1) of Z W_Q W_K' Z' Z W_V.

    With W_Q W_K' = diag(W, 0) and W_V = diag(0, 1) it equals `LinearAttention`.

    Args:
        query, key, value: W_Q, W_K and W_V, (e, e) with e = d + 1.

    Reference: Gozeten et al. (ICML 2025), section 2.
    """

    def __init__(
        self,
        query: Float[Array, "e e"],
        key: Float[Array, "e e"],
        value: Float[Array, "e e"],
    ):
        self.query, self.key, self.value = nnx.Param(query), nnx.Param(key), nnx.Param(value)

    @classmethod
    def from_weights(cls, weights: Float[Array, "d d"]) -> TokenLinearAttention:
        """The token model that equals `LinearAttention(weights)`: W_Q = diag(W, 0), W_K = I, W_V = diag(0, 1)."""
        d = len(weights)
        value = jnp.zeros((d + 1, d + 1), weights.dtype).at[d, d].set(1)
        return cls(jnp.pad(weights, ((0, 1), (0, 1))), jnp.eye(d + 1, dtype=weights.dtype), value)

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        def predict(x: Float[Array, " d"]) -> Float[Array, ""]:
            context = jnp.column_stack([prompt.context_x, prompt.context_y])
            tokens = jnp.vstack([context, jnp.append(x, 0)])
            scores = tokens[-1] @ self.query[...] @ self.key[...].T @ tokens.T
            return scores @ (tokens @ self.value[...][:, -1])

        return jax.vmap(predict)(prompt.query_x)
