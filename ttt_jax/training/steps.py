"""Test-time training on the labelled pairs of a prompt: one gradient step, or several, of any model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from ttt_jax._internal.validate import positive_integer, require_optimizer, require_type, shown
from ttt_jax.training.models import Model, Prompt

__all__ = ["predict", "require_predictions", "ttt_loss", "ttt_step", "ttt_train"]


class _WithoutLabels(Prompt):
    """A prompt as a model gets it."""

    __slots__ = ()

    @property
    def query_y(self) -> Any:
        raise ValueError("model must not read query_y, the labels that it is asked for")


def predict(model: Model, params: PyTree, prompt: Prompt) -> Float[Array, " k"]:
    """The predictions of a model for the queries of a prompt, whose labels it does not get.

    Raises:
        ValueError: if the model asks for them.

    Example:
        >>> import jax.numpy as jnp
        >>> prompt = Prompt(jnp.ones((2, 1)), jnp.ones(2), jnp.ones((1, 1)), jnp.ones(1))
        >>> predict(lambda params, prompt: prompt.query_y, None, prompt)
        Traceback (most recent call last):
        ValueError: model must not read query_y, the labels that it is asked for
    """
    return model(params, _WithoutLabels._make([*prompt[:3], None]))


def require_predictions(field: str, model: Model, params: PyTree, *, n: int, k: int, d: int) -> None:
    """ValueError naming the field unless the model has a prediction for each of k queries of d features."""
    shapes: Any = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, d), (n,), (k, d), (k,))]
    try:
        predictions = jax.eval_shape(partial(predict, model), params, Prompt(*shapes))
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{field} must be a model for n = {n}, k = {k}, d = {d}, got {what}") from error
    if getattr(predictions, "shape", None) != (k,):
        raise ValueError(f"{field} must be a model of predictions of shape ({k},) at k = {k}, got {shown(predictions)}")


def ttt_loss(model: Model, params: PyTree, prompt: Prompt) -> Float[Array, ""]:
    """The training loss of TTT: the SUM over the k queries of (label - prediction)^2, without 1/k and without 1/2.

    Stacked prompts, as `fold_prompts` makes them, add up.

    Raises:
        ValueError: if the shapes of the prompt, or of the predictions, do not fit together, or an argument is invalid.
    """
    if not callable(model):
        raise ValueError(f"model must be a function of (params, prompt), got {shown(model)}")
    require_type("prompt", prompt, Prompt)
    for part in ("context", "query"):
        x, y = getattr(prompt, f"{part}_x"), getattr(prompt, f"{part}_y")
        if jnp.ndim(x) not in (2, 3) or jnp.shape(y) != jnp.shape(x)[:-1]:
            raise ValueError(
                f"prompt.{part}_x must be (rows, d) and {part}_y (rows,), got {jnp.shape(x)} and {jnp.shape(y)}"
            )
    (*context, _, d), (*query, _, features) = jnp.shape(prompt.context_x), jnp.shape(prompt.query_x)
    if (context, d) != (query, features):
        got = f"{jnp.shape(prompt.context_x)} and {jnp.shape(prompt.query_x)}"
        raise ValueError(f"prompt.context_x and query_x must have the same features and be stacked alike, got {got}")
    if jnp.ndim(prompt.context_x) == 3:
        return jnp.sum(jax.vmap(lambda one: ttt_loss(model, params, one))(prompt))
    predictions = predict(model, params, prompt)
    if jnp.shape(predictions) != jnp.shape(prompt.query_y):
        raise ValueError(
            f"model must predict {jnp.shape(prompt.query_y)}, a number for each query, got {jnp.shape(predictions)}"
        )
    return jnp.sum((prompt.query_y - predictions) ** 2)


def ttt_step(model: Model, params: PyTree, prompt: Prompt, lr: float) -> PyTree:
    """One step of test-time training, params - lr grad ttt_loss(params).

    Args:
        model: a pure function (params, prompt) -> predictions (k,); `functional` makes one of a Flax module.
        params: its parameters, any pytree of arrays.
        prompt: n context pairs and the k labelled queries to train on; or several, stacked.
        lr: step size, for a loss that is a sum over queries.

    Returns:
        The updated parameters, of the same structure.

    Raises:
        ValueError: if the shapes of the prompt do not fit together.

    Example:
        >>> import jax.numpy as jnp
        >>> from ttt_jax.training.models import LinearAttention, functional
        >>> model, params = functional(LinearAttention(jnp.zeros((1, 1))))
        >>> prompt = Prompt(jnp.ones((2, 1)), jnp.ones(2), jnp.ones((1, 1)), jnp.ones(1))
        >>> float(ttt_step(model, params, prompt, 0.25).weights[0, 0])    # W + 2 lr x (y - 0) u with u = 2
        1.0

    Reference: Proposition 3.1 of Gozeten et al. (ICML 2025) is its closed form for `LinearAttention`.
    """
    if not isinstance(lr, int | float | np.generic | np.ndarray | jax.Array) or jnp.ndim(lr):
        raise ValueError(f"lr must be a number, got {shown(lr)}")
    gradient = jax.grad(ttt_loss, argnums=1)(model, params, prompt)
    return jax.tree.map(lambda p, g: p - lr * g, params, gradient)


def ttt_train(
    model: Model,
    params: PyTree,
    prompt: Prompt | Callable[[Int[Array, ""]], Prompt],
    optimizer: optax.GradientTransformation,
    num_steps: int,
    *,
    held_out: Prompt | None = None,
) -> PyTree:
    """Several steps of test-time training on `ttt_loss` by any optax optimiser, line searches included.

    Args:
        model: a pure function (params, prompt) -> predictions (k,).
        params: its parameters, any pytree of arrays.
        prompt: the one prompt of every step, or a function of the step i = 0, 1, ... that gives a new one.
        optimizer: any optax optimiser or chain.
        num_steps: number of steps, static.
        held_out: a prompt whose queries decide when to stop.

    Returns:
        The parameters after the last step; with held_out, those of the step, 0 included, of smallest loss on it.

    Raises:
        ValueError: if num_steps is not an integer >= 1, the optimiser is none, or the shapes of a prompt do not fit
            together.

    Example:
        >>> import jax.numpy as jnp
        >>> from ttt_jax.training.models import LinearAttention, functional
        >>> model, params = functional(LinearAttention(jnp.zeros((1, 1))))
        >>> prompt = Prompt(jnp.ones((2, 1)), jnp.ones(2), jnp.ones((1, 1)), jnp.ones(1))
        >>> trained = ttt_train(model, params, prompt, optax.sgd(0.05), 20)
        >>> round(float(trained.weights[0, 0]), 3)        # x'W u = 1 at W = 1/2
        0.5
    """
    positive_integer("num_steps", num_steps)
    require_optimizer(optimizer)
    update = optax.with_extra_args_support(optimizer).update

    def loss(params: PyTree) -> Float[Array, ""]:
        return jnp.zeros(()) if held_out is None else ttt_loss(model, params, held_out)

    def step(carry, i):
        params, state, best, best_loss = carry
        train_loss = partial(ttt_loss, model, prompt=prompt(i) if callable(prompt) else prompt)
        value, gradient = jax.value_and_grad(train_loss)(params)
        updates, state = update(gradient, state, params, value=value, grad=gradient, value_fn=train_loss)
        params = optax.apply_updates(params, updates)
        after = loss(params)
        better = (after < best_loss) | (held_out is None)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, best)
        return (params, state, best, jnp.minimum(after, best_loss)), None

    start = params, optimizer.init(params), params, loss(params)
    (_, _, best, _), _ = jax.lax.scan(step, start, jnp.arange(num_steps))
    return best
