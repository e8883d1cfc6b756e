"""One layer of attention in Flax: linear, collapsed to x'W X'y, merged or on all tokens; softmax; with an MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from ttt_jax._internal.validate import positive_integer, positive_number, shown

__all__ = [
    "LinearAttention",
    "MLPReadOut",
    "MergedLinearAttention",
    "Model",
    "Prompt",
    "SoftmaxAttention",
    "TokenLinearAttention",
    "functional",
]


class Prompt(NamedTuple):
    """The labelled pairs of one task: n that are shown to the model, k that it is asked about.

    Args:
        context_x: features of the context, (n, d).
        context_y: labels of the context, (n,).
        query_x: features of the queries, (k, d).
        query_y: labels of the queries, (k,); training targets that no model gets to read.
    """

    context_x: Float[Array, "n d"]
    context_y: Float[Array, " n"]
    query_x: Float[Array, "k d"]
    query_y: Float[Array, " k"]


Model = Callable[[PyTree, Prompt], Float[Array, " k"]]
"""A pure function (params, prompt) -> the k predicted labels of the queries."""


def functional(module: nnx.Module, trainable: Any = None) -> tuple[Model, PyTree]:
    """A Flax module as a pure function of its parameters: (model, params) with model(params, prompt) = module(prompt).

    Args:
        module: any `flax.nnx.Module` that maps a `Prompt` to predictions (k,).
        trainable: which of its parameters `params` holds and every step trains, the others being frozen: a name in
            their paths, such as "weights", any other filter of `flax.nnx`, or a tuple of these; None for all of them.

    Raises:
        ValueError: if the module is no Flax module, or trainable selects no parameter.

    Example:
        >>> import jax.numpy as jnp
        >>> model, params = functional(LinearAttention(jnp.eye(2)))
        >>> prompt = Prompt(jnp.eye(2), jnp.array([3.0, 5.0]), jnp.array([[1.0, 1.0]]), jnp.zeros(1))
        >>> model(params, prompt).tolist()
        [8.0]
        >>> model, params = functional(SoftmaxAttention(jnp.eye(2)), trainable="temperature")
        >>> list(params)
        ['temperature']
    """
    if not isinstance(module, nnx.Module):
        raise ValueError(f"module must be a Flax module, an instance of nnx.Module, got {shown(module)}")
    chosen = () if trainable is None else (_path_filter(trainable),)
    graphdef, params, *rest = nnx.split(module, nnx.All(nnx.Param, *chosen), ...)
    if chosen and not jax.tree.leaves(params):
        names = sorted({str(path[0]) for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))})
        raise ValueError(f"trainable must select parameters of {', '.join(names)}, got {shown(trainable)}")

    def model(params: PyTree, prompt: Prompt) -> Float[Array, " k"]:
        return nnx.merge(graphdef, params, *rest)(prompt)

    return model, params


def _path_filter(trainable: Any) -> Any:
    """The filter of Flax, for which a string of its own is a tag and not a name."""
    if isinstance(trainable, str):
        return nnx.PathContains(trainable)
    return tuple(map(_path_filter, trainable)) if isinstance(trainable, tuple | list) else trainable


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


class MergedLinearAttention(nnx.Module):
    """Linear attention whose query and key matrices are merged into W of d + 1 columns, with a trained read-out v.

        y^(x) = x'W Z'Z v,     Z the rows (x_i, y_i) of the context and (x, 0)

    With W = (W_d, 0) and v = (0, 1) it equals `LinearAttention(W_d)`; with the first d rows of W_Q W_K' and the last
    column of W_V it equals `TokenLinearAttention`.

    Args:
        weights: W, (d, e) with e = d + 1.
        value: v, (e,).

    Example:
        >>> model = MergedLinearAttention.from_weights(jnp.eye(2))
        >>> model(Prompt(jnp.eye(2), jnp.array([3.0, 5.0]), jnp.array([[1.0, 1.0]]), jnp.zeros(1))).tolist()
        [8.0]

    Reference: Zhang, Frei, Bartlett (2024), section 3, where all of W_KQ is kept.
    """

    def __init__(self, weights: Float[Array, "d e"], value: Float[Array, " e"]):
        self.weights, self.value = nnx.Param(weights), nnx.Param(value)

    @classmethod
    def from_weights(cls, weights: Float[Array, "d d"]) -> MergedLinearAttention:
        """The merged model that equals `LinearAttention(weights)`."""
        return cls(jnp.pad(weights, ((0, 0), (0, 1))), jnp.eye(len(weights) + 1, dtype=weights.dtype)[-1])

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        value = self.value[...]
        context = jnp.column_stack([prompt.context_x, prompt.context_y])
        scores = prompt.query_x @ self.weights[...]
        own = jnp.sum(scores[:, :-1] * prompt.query_x, axis=1) * (prompt.query_x @ value[:-1])
        return scores @ (context.T @ (context @ value)) + own


class SoftmaxAttention(nnx.Module):
    """Softmax attention: the labels of the context, averaged with weights that rise with x'W x_i.

        y^(x) = sum_i softmax_i(x'W x_i / T) y_i

    Args:
        weights: W, (d, d).
        temperature: T, trained too unless `functional` is told otherwise.

    Example:
        >>> model = SoftmaxAttention(jnp.eye(1), temperature=1e-3)      # the nearest neighbour
        >>> model(Prompt(jnp.array([[-1.0], [1.0]]), jnp.array([3.0, 5.0]), jnp.ones((1, 1)), jnp.zeros(1))).tolist()
        [5.0]

    Reference: Huang, Cheng, Liang (2024), section 2, at T = 1.
    """

    def __init__(self, weights: Float[Array, "d d"], temperature: float = 1.0):
        self.weights = nnx.Param(weights)
        self.temperature = nnx.Param(jnp.asarray(positive_number("temperature", temperature), weights.dtype))

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        scores = prompt.query_x @ self.weights[...] @ prompt.context_x.T
        return jax.nn.softmax(scores / self.temperature[...]) @ prompt.context_y


class MLPReadOut(nnx.Module):
    """Linear attention, and a layer of m neurons that reads its prediction beside the query.

        y^(x) = p + a'gelu(V (x, p) + c) + c_0,     p = x'W X'y;     a = 0 and c_0 = 0 at the start

    Args:
        weights: W, (d, d).
        width: number of neurons m.
        rngs: where V comes from.

    Example:
        >>> model = MLPReadOut(jnp.eye(2), 8, nnx.Rngs(0))              # linear attention before it is trained
        >>> model(Prompt(jnp.eye(2), jnp.array([3.0, 5.0]), jnp.array([[1.0, 1.0]]), jnp.zeros(1))).tolist()
        [8.0]

    Reference: the feed-forward layer of a transformer, with its residual.
    """

    def __init__(self, weights: Float[Array, "d d"], width: int, rngs: nnx.Rngs):
        self.attention = LinearAttention(weights)
        self.hidden = nnx.Linear(len(weights) + 1, positive_integer("width", width), rngs=rngs)
        self.out = nnx.Linear(width, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, prompt: Prompt) -> Float[Array, " k"]:
        p = self.attention(prompt)
        return p + self.out(jax.nn.gelu(self.hidden(jnp.column_stack([prompt.query_x, p]))))[:, 0]
