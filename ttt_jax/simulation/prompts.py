"""Samplers of any model on whole prompts: every procedure, by jax.grad through the model.

The rows are those of the streamed path, from the same keys. The risk of one experiment is measured on fresh queries,
whose label noise is added in expectation. Linear attention is a model here where labels are not linear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal.validate import STARTS, positive_integer, require_arguments, shown
from ttt_jax.problem import Inference, NotApplicable, Problem
from ttt_jax.procedures import Folds, GradientStep, GradientSteps, Optimizer, has_free_lr
from ttt_jax.simulation import samplers
from ttt_jax.simulation.gradient_steps import require_gradient_alone
from ttt_jax.simulation.rows import draw_rows
from ttt_jax.simulation.samplers import Sampler
from ttt_jax.simulation.scaled import Scaled, draw_task
from ttt_jax.training.models import Model, Prompt
from ttt_jax.training.prompts import fold_prompts
from ttt_jax.training.steps import require_predictions, ttt_loss, ttt_step

__all__ = ["prompt_sampler"]


def require_model(start: tuple[Any, ...], problem: Problem) -> None:
    """ValueError unless this is (model, params) with a prediction for every query of such a problem."""
    if len(start) != 2 or not callable(start[0]):
        raise ValueError(f"{STARTS}, got {shown(start)}")
    require_predictions("start", *start, n=problem.n, k=problem.k, d=problem.d)


@dataclass(frozen=True)
class _Draw:
    """One experiment of a model: the risks of the parameters that `train` makes of the start.

    `train(params, arguments, prompt_at)` gives stacked parameters (V, ...); prompt_at(i) is the prompt of step i, a
    new one only where each step takes a new context.
    """

    model: Model
    train: Callable[[PyTree, PyTree, Callable[[Any], Prompt]], PyTree]
    n: int
    k: int
    n_inference: int
    num_queries: int
    values: int
    new_context: bool = False
    folds: int = 0
    held_out: int = 0

    def __call__(self, key: Key[Array, ""], scaled: Scaled, params: PyTree, arguments: PyTree) -> Float[Array, " V"]:
        key_task, key_context, key_train, key_fresh = jax.random.split(key, 4)
        task = draw_task(key_task, scaled)

        def pairs(key, rows, law=scaled.train):
            return draw_rows(key, rows, task, law, scaled.features)

        if self.folds:
            x, y = pairs(key_context, self.n + self.k)
            prompt = fold_prompts(x, y, self.folds)
            context = prompt.context_x[0], prompt.context_y[0]
        else:
            context = pairs(key_context, self.n)
            prompt = _prompt(context, pairs(key_train, self.k))

        def prompt_at(i):
            if not self.new_context:
                return prompt
            new = pairs(jax.random.fold_in(key_context, i), self.n)
            return _prompt(new, pairs(jax.random.fold_in(key_train, i), self.k))

        trained = self.train(params, arguments, prompt_at)
        stacked = [(self.values, *jnp.shape(p)) for p in jax.tree.leaves(params)]
        if (shapes := [jnp.shape(p) for p in jax.tree.leaves(trained)]) != stacked:
            raise ValueError(f"train must return the parameters stacked, of shapes {stacked}, got {shapes}")
        seen = context if self.n_inference == 0 else pairs(key_fresh, self.n_inference, scaled.inference)
        query_x, _ = pairs(jax.random.fold_in(key_fresh, 2), self.num_queries, scaled.query)
        query = _prompt(seen, (query_x, scaled.query.labels(query_x, task)))

        def risk(params):
            return ttt_loss(self.model, params, query) / self.num_queries + scaled.query.noise_var

        risks = jax.lax.map(risk, trained)
        if not self.held_out:
            return risks
        held = _prompt(context, pairs(jax.random.fold_in(key_fresh, 1), self.held_out))
        stop = jnp.argmin(jax.lax.map(lambda params: ttt_loss(self.model, params, held), trained))
        return jnp.concatenate([jnp.stack([risks[stop], stop.astype(risks.dtype)]), risks])


def prompt_sampler(
    procedure: Any, problem: Problem, model: Model, num_queries: int, train: Callable, arguments: Any, values: int
) -> Sampler:
    """The sampler of a procedure on whole prompts.

    Args:
        train: (params, arguments, prompt_at) -> the parameters whose risks are wanted, stacked, (values, ...);
            prompt_at(i) is the prompt of step i. It must be hashable: each new one compiles anew.
        arguments: what it needs of the procedure, traced.
        values: number of risks.
    """
    require_arguments("train", train, "params", "arguments", "prompt_at")
    positive_integer("values", values)
    law = problem.inference
    if law.rescale:
        raise NotApplicable("rescale must be False for (model, params), and for links")
    folds, held_out = getattr(procedure, "folds", 0), getattr(procedure, "held_out", 0)
    own = isinstance(problem.evaluation, Inference) and problem.evaluation.n is not None
    fresh = procedure.context(problem) if folds and not own else law.n or 0
    n_inference = 0 if law.context == "same" else fresh
    new_context = getattr(procedure, "new_context", False)
    draw = _Draw(model, train, problem.n, problem.k, n_inference, num_queries, values, new_context, folds, held_out)
    units = np.ones(values + (2 if held_out else 0))
    held = (folds or 1) * (problem.n + problem.k) + n_inference + num_queries + held_out
    return Sampler(draw, arguments, units, held, values)


def _prompt(context: tuple, query: tuple) -> Prompt:
    (context_x, context_y), (query_x, query_y) = context, query
    return Prompt(context_x, context_y, query_x, query_y)


@samplers.prompts.register
def _gradient_step(procedure: GradientStep, problem: Problem, model: Model, num_queries: int) -> Sampler:
    if procedure.left is not None or procedure.right is not None:
        raise NotApplicable("left and right must be None for a model that is not linear attention, and for links")
    return prompt_sampler(procedure, problem, model, num_queries, _OneStep(model), procedure.lr, 1)


@samplers.prompts.register
def _folds(procedure: Folds, problem: Problem, model: Model, num_queries: int) -> Sampler:
    if has_free_lr(procedure):
        raise NotApplicable("lr must be a number for a model that is not linear attention, and for links")
    return prompt_sampler(procedure, problem, model, num_queries, _OneStep(model), procedure.lr, 1)


@samplers.prompts.register
def _gradient_steps(procedure: GradientSteps, problem: Problem, model: Model, num_queries: int) -> Sampler:
    train = _Steps(model, procedure.num_steps, None)
    return prompt_sampler(procedure, problem, model, num_queries, train, procedure.step_sizes, procedure.num_steps + 1)


@samplers.prompts.register
def _optimizer(procedure: Optimizer, problem: Problem, model: Model, num_queries: int) -> Sampler:
    require_gradient_alone(procedure.optimizer)
    train = _Steps(model, procedure.num_steps, procedure.optimizer)
    return prompt_sampler(procedure, problem, model, num_queries, train, None, procedure.num_steps + 1)


@dataclass(frozen=True)
class _OneStep:
    model: Model

    def __call__(self, params: PyTree, lr: Any, prompt_at: Callable) -> PyTree:
        return jax.tree.map(lambda p: p[None], ttt_step(self.model, params, prompt_at(0), lr))


@dataclass(frozen=True)
class _Steps:
    model: Model
    num_steps: int
    optimizer: Any

    def __call__(self, params: PyTree, lr: Any, prompt_at: Callable) -> PyTree:
        optimizer = optax.sgd(lambda i: lr[i]) if self.optimizer is None else self.optimizer

        def step(carry, i):
            params, state = carry
            gradient = jax.grad(ttt_loss, argnums=1)(self.model, params, prompt_at(i))
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        _, later = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(self.num_steps))
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), params, later)
