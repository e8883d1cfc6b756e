"""The law of the risk of single prompts, not only its mean: in closed form where one is known, else sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ttt_jax._internal.validate import (
    choice,
    finite_number,
    level_number,
    positive_integer,
    real_array,
    seed_integer,
    shown,
    weights_array,
)
from ttt_jax.problem import NotApplicable, Problem, require_linear
from ttt_jax.procedures import GradientStep, Procedure, procedure_for
from ttt_jax.simulation.prompt_risks import prompt_risks
from ttt_jax.theory.prompt_law import KnownLaw, known_law
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.comparison import resolved
from ttt_jax.verdict.law_quantities import quantile_of_sample, variance_of_sample

__all__ = ["RiskLaw", "risk_law"]


@dataclass(frozen=True, eq=False)
class RiskLaw:
    """The law of one prompt's risk after a procedure, with mean, var, std, cdf and ppf as scipy.stats has them.

    A prompt's risk is averaged over its query and the noise of that only, given its context and its training batch.
    Prompts are sampled when an answer needs them, and kept.

    Args:
        problem, weights, procedure: what the risk is of.
        exact_mean: the mean and its standard error, where random tasks had to be sampled; None where it is not known.
        known: what else is known in closed form.
        num_tasks: prompts to sample.
        seed: of the prompts.
    """

    problem: Problem
    weights: np.ndarray
    procedure: Procedure
    exact_mean: tuple[float, float] | None
    known: KnownLaw
    num_tasks: int
    seed: int

    @property
    def source(self) -> str:
        """Where answers come from: "closed form", or "sampled" and which of them are not."""
        known = self.known
        exact = {"mean": self.exact_mean, "var": known.find_var, "prob_hurt": known.find_prob_hurt}
        if known.find_risks:
            return "closed form"
        closed = ", ".join(name for name, value in exact.items() if value is not None)
        return f"sampled, {self.num_tasks} prompts" + (f"; closed form: {closed}" if closed else "")

    def mean(self) -> float:
        """The mean risk: `exact_risk`, where it is known."""
        return self.exact_mean[0] if self.exact_mean else float(self._after.mean())

    def var(self) -> float:
        """The variance of the risk."""
        known = self.known.var
        return float(self._after.var(ddof=1)) if known is None else known

    def std(self) -> float:
        """The standard deviation of the risk; over sqrt(num_tasks), the standard error of a simulated mean."""
        return math.sqrt(self.var())

    def cdf(self, x: ArrayLike) -> Any:
        """P(risk <= x), for a number or an array."""
        at = real_array("x", x)
        share = np.where(np.isnan(at), np.nan, np.searchsorted(self._sorted, at, side="right") / len(self._sorted))
        return share if np.ndim(x) else float(share)

    def quantile(self, q: ArrayLike) -> Any:
        """The risk that a share q of the prompts does not exceed, for a number or an array."""
        levels = real_array("q", q)
        if not np.all((levels > 0) & (levels < 1)):
            raise ValueError(f"q must be between 0 and 1, got {shown(q)}")
        value = np.quantile(self._sorted, levels)
        return value if np.ndim(q) else float(value)

    ppf = quantile

    def prob_hurt(self) -> float:
        """The probability that the procedure makes the risk of a prompt larger than it was before."""
        if self.known.prob_hurt is not None:
            return self.known.prob_hurt
        return float(np.mean(self._prompts[:, 1] > self._prompts[:, 0]))

    def stderr(self, quantity: str, at: float | None = None) -> float:
        """The standard error of an answer; 0 where it is in closed form.

        Args:
            quantity: "mean", "var", "std", "prob_hurt", "cdf" or "quantile".
            at: the x of a cdf, the q of a quantile.
        """
        choice("quantity", quantity, ("mean", "var", "std", "prob_hurt", "cdf", "quantile"))
        if (at is None) == (quantity in ("cdf", "quantile")):
            raise ValueError(f"at must be given for a cdf or a quantile and no other, got {shown(at)}")
        if at is not None:
            (level_number if quantity == "quantile" else finite_number)("at", at)
        count = self.num_tasks
        if quantity == "mean":
            return self.exact_mean[1] if self.exact_mean else self.std() / math.sqrt(count)
        if quantity in ("var", "std"):
            error = 0.0 if self.known.var is not None else variance_of_sample(self._after)[1]
            return error if quantity == "var" or not error else error / (2 * self.std())
        if self.known.find_risks or (quantity == "prob_hurt" and self.known.prob_hurt is not None):
            return 0.0
        if quantity == "quantile":
            return quantile_of_sample(self._sorted, level_number("at", at))[1]
        share = self.prob_hurt() if quantity == "prob_hurt" else self.cdf(finite_number("at", at))
        return math.sqrt(share * (1 - share) / count)

    def sample(self, num: int, seed: int = 0) -> Float[np.ndarray, " num"]:
        """Risks of this many independent prompts."""
        return self._sampled(positive_integer("num", num), seed_integer(seed))[:, 1]

    def _sampled(self, num: int, seed: int) -> Float[np.ndarray, "num 2"]:
        sampler = "law" if self.problem.feature_law == "gaussian" else "data"
        return prompt_risks(self.problem, self.weights, self.procedure, num_tasks=num, seed=seed, sampler=sampler)

    @cached_property
    def _prompts(self) -> Float[np.ndarray, "T 2"]:
        return self._sampled(self.num_tasks, self.seed)

    @property
    def _after(self) -> Float[np.ndarray, " T"]:
        return self._prompts[:, 1]

    @cached_property
    def _sorted(self) -> Float[np.ndarray, " T"]:
        return np.sort(self._after) if self.known.risks is None else self.known.risks


def risk_law(
    problem: Problem,
    start: Any,
    procedure: Procedure | float | str = "optimal",
    *,
    num_tasks: int = 20_000,
    seed: int = 0,
) -> RiskLaw:
    """The law of the risk of single prompts after one gradient step.

    In closed form, for one task:

        everything      Sx = c I, W = w I, no noise, the context of TTT: a function of four chi-squares
        var, prob_hurt  the same with any W
        var             every matrix a multiple of I; with noise, and any law at inference
        mean            wherever `exact_risk` knows it

    The rest is from sampled prompts, of some fifteen random numbers each where every matrix is a multiple of I. A cdf
    from the four chi-squares is right to about 1e-4, and so is the level of a quantile.

    Args:
        problem: the test-time problem.
        start: the weights W before the step, a scalar (times the identity), (d,) or (d, d).
        procedure: a `GradientStep`; a number is its step size, "optimal" the step of the smallest mean risk.
        num_tasks: prompts to sample for what is not known.
        seed: of them.

    Returns:
        A `RiskLaw`: mean, var, std, cdf, quantile, prob_hurt, sample; `source` says where they come from, `stderr` how
        precise they are.

    Raises:
        ValueError: if an argument is invalid; for "optimal" where there is no exact risk.
        NotApplicable: for other procedures, and for models.

    Example:
        >>> problem = Problem(n=20, k=40, task=np.ones(20) / np.sqrt(20), evaluation="same")
        >>> law = risk_law(problem, 1 / 41)
        >>> law.source, round(law.mean(), 3), round(law.quantile(0.9), 3), round(law.prob_hurt(), 4)
        ('closed form', 0.254, 0.408, 0.0173)

    Reference: this project.
    """
    step = procedure_for(problem, procedure)
    require_linear(problem, "risk_law")
    if isinstance(start, tuple) and len(start) == 2 and callable(start[0]):
        raise NotApplicable("risk_law is known for linear attention from W, not for a model with parameters")
    weights = weights_array(start, problem.d, "start")
    if positive_integer("num_tasks", num_tasks) < 2:
        raise ValueError("num_tasks must be at least 2 for a standard error, got 1")
    seed, mean, reason = seed_integer(seed), None, None
    curve: Any = None
    try:
        curve = exact_risk(problem, weights, step, seed=seed)
    except NotApplicable as error:
        reason = str(error)
    step = resolved(step, curve, None, reason)
    if curve is not None and isinstance(step, GradientStep):
        mean = curve.after(step), curve.stderr(float(step.lr))
    return RiskLaw(problem, weights, step, mean, known_law(step, problem, weights), num_tasks, seed)
