"""Yardsticks: what least squares, ridge and the Bayes predictor make of the labelled pairs that TTT has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import integer_from, require_type, seed_integer
from ttt_jax.problem import NotApplicable, Pretraining, Problem, SingleIndex, mean_square, require_problem
from ttt_jax.simulation.yardsticks import estimate_posterior_mean
from ttt_jax.theory.yardsticks import labelled_pairs, least_squares_risk, ridge_risk

__all__ = ["Yardstick", "yardsticks"]


@dataclass(frozen=True)
class Yardstick:
    """The risk of one predictor without a transformer, label noise included.

    Args:
        name: "least squares", "ridge" or "Bayes".
        pairs: labelled pairs that it has seen, as many as TTT.
        risk: its risk; nan where it has no formula and nothing was simulated.
        stderr: standard error of the risk; None for an exact one.
        reason: why it is not exact, else None.
    """

    name: str
    pairs: int
    risk: float
    stderr: float | None = None
    reason: str | None = None

    @property
    def exact(self) -> bool:
        """Whether the risk is exact."""
        return self.reason is None

    def __str__(self) -> str:
        line = f"{f'{self.name}, {self.pairs} pairs':<24} "
        if self.exact:
            return f"{line}{self.risk:.6g}  (the pairs that TTT has seen, exact)"
        if self.stderr is None:
            return f"{line}not applicable: {self.reason}"
        return f"{line}{self.risk:.6g} +- {self.stderr:.2g}  (the pairs that TTT has seen, simulated)"


def yardsticks(
    problem: Problem, pretraining: Pretraining | None = None, *, num_draws: int = 200, seed: int = 0
) -> tuple[Yardstick, ...]:
    """Least squares, ridge and the Bayes predictor on the labelled pairs that TTT has seen when it answers.

    Least squares is the fit of minimum norm. Ridge is the posterior mean for b ~ N(0, |b|^2/d I); for isotropic
    features no penalty is better. Bayes is the posterior mean for tasks and noise of the pretraining law.

    Args:
        problem: the test-time problem; "same" has n + k labelled pairs, "fresh" those of the new context too.
        pretraining: the law whose tasks the Bayes predictor expects; None for no such predictor.
        num_draws: sampled features where there is no formula, at least 2; 0 for none.
        seed: of the sampling.

    Example:
        >>> problem = Problem(n=20, k=80, task=np.ones(40) / 40**0.5, noise_var=0.5, evaluation="same")
        >>> for yardstick in yardsticks(problem, Pretraining(n=20, d=40, noise_var=0.5)):
        ...     print(yardstick)
        least squares, 100 pairs 0.838983  (the pairs that TTT has seen, exact)
        ridge, 100 pairs         0.726352  (the pairs that TTT has seen, exact)
        Bayes, 100 pairs         0.829583  (the pairs that TTT has seen, exact)
    """
    require_problem(problem)
    integer_from(0, "num_draws", num_draws)
    seed_integer(seed)
    how: dict[str, Any] = {"problem": problem, "num_draws": num_draws, "seed": seed}
    found = [
        _measured("least squares", lambda: least_squares_risk(problem), 1.0, 0.0, **how),
        _measured("ridge", lambda: ridge_risk(problem), mean_square(problem) / problem.d, None, **how),
    ]
    if pretraining is not None:
        require_type("pretraining", pretraining, Pretraining)
        if pretraining.d != problem.d:
            raise ValueError(f"pretraining must be for {problem.d} features, got {pretraining.d}")
        prior, noise_var = linalg.simplest(pretraining.task_cov), pretraining.noise_var

        def bayes() -> float:
            if prior.ndim or not prior:
                raise NotApplicable("pretraining.task_cov must be a multiple of the identity for the Bayes predictor")
            return ridge_risk(problem, noise_var / float(prior))

        found.append(_measured("Bayes", bayes, prior, noise_var, **how))
    return tuple(found)


def _measured(
    name: str, exact: Callable[[], float], prior: Any, noise_var: Any, *, problem: Problem, num_draws: int, seed: int
) -> Yardstick:
    """The exact risk where there is one, else a simulated one."""
    pairs = labelled_pairs(problem)
    try:
        return Yardstick(name, pairs, exact())
    except NotApplicable as error:
        reason = str(error)
    if not num_draws or isinstance(problem.task, SingleIndex):
        return Yardstick(name, pairs, np.nan, None, reason)
    return Yardstick(
        name, pairs, *estimate_posterior_mean(problem, prior, noise_var, num_draws=num_draws, seed=seed), reason
    )
