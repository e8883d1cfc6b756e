"""The risks of single prompts before and after a step, one prompt per experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal.validate import weights_array
from ttt_jax.problem import NotApplicable, Problem, require_linear
from ttt_jax.procedures import GradientStep, Procedure
from ttt_jax.simulation.estimate import make_run
from ttt_jax.simulation.samplers import Joint
from ttt_jax.simulation.scaled import Scaled
from ttt_jax.simulation.worklist import all_draws

__all__ = ["prompt_risks"]


def prompt_risks(
    problem: Problem, start: Any, procedure: Procedure, *, num_tasks: int, seed: int = 0, sampler: str = "law"
) -> Float[np.ndarray, "T 2"]:
    """Risks of independent prompts before and after a step of a given size, each averaged over its query alone.

    Args:
        problem, start, num_tasks, seed: as in `estimate_risk`, the start a W.
        procedure: a `GradientStep` with a number for its step size.
        sampler: "data" samples every row, "law" draws u and v; only the first knows features that are not Gaussian.

    Example:
        >>> problem = Problem(n=40, k=40, task=np.ones(8) / 8**0.5)
        >>> before, after = prompt_risks(problem, 0.01, GradientStep(5e-6), num_tasks=1000).T
        >>> bool(after.mean() < before.mean()), bool((after < before).all())
        (True, False)
    """
    if not isinstance(procedure, GradientStep):
        raise NotApplicable(f"no law of the risk is known for {type(procedure).__name__}")
    require_linear(problem, "the law of the risk")
    weights = weights_array(start, problem.d, "start")
    run = make_run(
        problem, weights, (procedure,), num_tasks=num_tasks, seed=seed, sampler=sampler, x64=sampler == "law"
    )
    (part,) = run.parts
    both = replace(run, experiment=Joint((BeforeAndAfter(part.draw),), (2,)), units=np.repeat(run.units, 2))
    return np.concatenate(list(all_draws(both)))


@dataclass(frozen=True)
class BeforeAndAfter:
    """The risk at step sizes 0 and lr in one experiment, which draws its random numbers once."""

    draw: Callable[..., Float[Array, 1]]

    def __call__(self, key: Key[Array, ""], scaled: Scaled, weights: Float[Array, ...], arguments: PyTree):
        lr, *factors = arguments
        return jax.vmap(lambda lr: self.draw(key, scaled, weights, (lr, *factors))[0])(jnp.stack([0 * lr, lr]))
