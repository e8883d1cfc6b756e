"""The test-time training step: one gradient step on the labelled pairs of the prompt, for any model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ttt_jax.models import Model, Prompt

__all__ = ["ttt_loss", "ttt_step"]


def ttt_loss(model: Model, params: PyTree, prompt: Prompt) -> Float[Array, ""]:
    """The training loss of TTT: the SUM over the k queries of (label - prediction)^2, without 1/k and without 1/2."""
    return jnp.sum((prompt.query_y - model(params, prompt)) ** 2)


def ttt_step(model: Model, params: PyTree, prompt: Prompt, lr: float) -> PyTree:
    """One step of test-time training, params - lr grad ttt_loss(params).

    Args:
        model: a pure function (params, prompt) -> predictions (k,); `functional` makes one of a Flax module.
        params: its parameters, any pytree of arrays.
        prompt: n context pairs and the k labelled queries to train on.
        lr: step size, for a loss that is a sum over queries.

    Returns:
        The updated parameters, of the same structure.

    Raises:
        ValueError: if the shapes of the prompt do not fit together.

    Example:
        >>> import jax.numpy as jnp
        >>> from ttt_jax.models import LinearAttention, functional
        >>> model, params = functional(LinearAttention(jnp.zeros((1, 1))))
        >>> prompt = Prompt(jnp.ones((2, 1)), jnp.ones(2), jnp.ones((1, 1)), jnp.ones(1))
        >>> float(ttt_step(model, params, prompt, 0.25).weights[0, 0])    # W + 2 lr x (y - 0) u with u = 2
        1.0

    Reference: Proposition 3.1 of Gozeten et al. (ICML 2025) is its closed form for `LinearAttention`.
    """
    for part in ("context", "query"):
        x, y = getattr(prompt, f"{part}_x"), getattr(prompt, f"{part}_y")
        if jnp.ndim(x) != 2 or jnp.shape(y) != jnp.shape(x)[:1]:
            raise ValueError(
                f"prompt.{part}_x must be (rows, d) and {part}_y (rows,), got {jnp.shape(x)} and {jnp.shape(y)}"
            )
    gradient = jax.grad(ttt_loss, argnums=1)(model, params, prompt)
    return jax.tree.map(lambda p, g: p - lr * g, params, gradient)
