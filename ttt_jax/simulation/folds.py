"""The sampler of one K-fold gradient step: every pair is a query once, with the other folds as its context."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal import linalg
from ttt_jax.problem import Inference, Problem
from ttt_jax.procedures import Folds, has_free_lr
from ttt_jax.simulation import samplers
from ttt_jax.simulation.rows import draw_rows, encode, summarize
from ttt_jax.simulation.samplers import Sampler
from ttt_jax.simulation.scaled import Scaled, Units, draw_task
from ttt_jax.training.models import LinearAttention, functional
from ttt_jax.training.prompts import fold_prompts
from ttt_jax.training.steps import ttt_loss


@samplers.rows.register
def _rows(procedure: Folds, problem: Problem, units: Units) -> Sampler:
    total = problem.n + problem.k
    n, law, own = procedure.context(problem), problem.inference, problem.evaluation
    n_fresh = own.n if isinstance(own, Inference) and own.n else n
    scale = n / n_fresh if law.rescale and law.context == "fresh" else 1.0
    lr = None if has_free_lr(procedure) else units.lr(procedure.lr)
    sizes = units.risk * (units.lr(1.0) ** np.arange(3.0) if lr is None else np.ones(1))
    return Sampler(_Draw(total, procedure.folds), (lr, n_fresh, scale), sizes, procedure.folds * total, problem.d**2)


@dataclass(frozen=True)
class _Draw:
    """One experiment: the coefficients of its risk c0 - c1 lr + c2 lr^2, or the risk where lr is given."""

    total: int
    folds: int

    def __call__(
        self, key: Key[Array, ""], scaled: Scaled, weights: Float[Array, "d d"], arguments: PyTree
    ) -> Float[Array, " V"]:
        lr, n_fresh, scale = arguments
        key_task, key_context, _, key_fresh = jax.random.split(key, 4)
        task = draw_task(key_task, scaled)
        prompts = fold_prompts(*draw_rows(key_context, self.total, task, scaled.train, scaled.features), self.folds)
        model, params = functional(LinearAttention(weights))
        step = jax.grad(ttt_loss, argnums=1)(model, params, prompts).weights[...]
        rows = jnp.where(scaled.same, 0, n_fresh)
        fresh = summarize(key_fresh, task, rows, scaled.inference, scaled.features)
        first = LinearAttention.summarize(prompts.context_x[0], prompts.context_y[0])
        u = jnp.where(scaled.same, first, fresh) * scale
        error = linalg.apply(scaled.query.root, task - encode(weights, u))
        change = linalg.apply(scaled.query.root, step @ u)
        c0, c1, c2 = error @ error + scaled.query.noise_var, 2 * error @ change, change @ change
        return jnp.stack([c0, -c1, c2]) if lr is None else (c0 + c1 * lr + c2 * lr**2)[None]
