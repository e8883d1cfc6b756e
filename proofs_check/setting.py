"""A problem and a start whose matrices are diagonal with few different entries, in numbers or in symbols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from ttt_jax.problem import Inference, Problem
from ttt_jax.procedures import GradientStep


class Group(NamedTuple):
    """Coordinates that share one entry of every matrix; the task lies along the first of them.

    The entries are those of Sx, W, L, R, Se (None for that of Sx) and Sq (None for that of Se).
    """

    multiplicity: Any
    feature: Any
    weight: Any
    task: Any
    left: Any = 1
    right: Any = 1
    context: Any = None
    query: Any = None

    def filled(self) -> Group:
        """With Se and Sq in numbers or symbols of their own."""
        context = self.feature if self.context is None else self.context
        return self._replace(context=context, query=context if self.query is None else self.query)


class AtInference(NamedTuple):
    """The numbers of the law at inference: context pairs, noise of context and query, the factor on the summary."""

    n: Any
    noise_var: Any = 0
    query_noise_var: Any = 0
    scale: Any = 1


@dataclass(frozen=True)
class Setting:
    """n, k, the diagonals, s2, "fresh" or "same", and the numbers at inference; None for those of training."""

    n: Any
    k: Any
    groups: tuple[Group, ...]
    noise_var: Any = 0
    evaluation: str = "fresh"
    inference: AtInference | None = None

    def __str__(self) -> str:
        """What a reader of a failed verdict needs to try it again."""
        words = [f"n = {self.n}", f"k = {self.k}", f"d = {self.d}", f"B = {self.norm2}", f"s2 = {self.noise_var}"]
        for field, default in {
            "feature": 1,
            "weight": 0,
            "left": 1,
            "right": 1,
            "context": None,
            "query": None,
        }.items():
            values = [getattr(group, field) for group in self.groups]
            if any(value != default for value in values):
                words.append(f"{field} = {', '.join(map(str, values))}")
        if self.inference:
            words.append(f"at inference {', '.join(f'{x} = {y}' for x, y in self.inference._asdict().items())}")
        return ", ".join([*words, f"{self.evaluation} context"])

    @property
    def d(self):
        return sp.sympify(sum(group.multiplicity for group in self.groups))

    @property
    def norm2(self):
        """B = |b|^2."""
        return sp.sympify(sum(group.task**2 for group in self.groups))

    def total(self, function: Callable[[Group], Any]):
        """The sum of a function of the group over all coordinates: a trace."""
        return sum(group.multiplicity * function(group) for group in self.groups)

    def at_inference(self) -> AtInference:
        return self.inference or AtInference(self.n, self.noise_var, self.noise_var)

    def problem(self) -> Problem:
        task = np.concatenate([[group.task] + [0] * (group.multiplicity - 1) for group in self.groups]).astype(float)
        return Problem(self.n, self.k, task, self.column("feature"), float(self.noise_var), evaluation=self._law())

    def _law(self) -> str | Inference:
        if not self.inference:
            return self.evaluation
        law, query = self.inference, self.column("query")
        query_law: dict[str, Any] = {"query_feature_cov": query, "query_noise_var": float(law.query_noise_var)}
        if self.evaluation == "same":
            return Inference("same", **query_law)
        context_law: dict[str, Any] = {
            "n": int(law.n),
            "feature_cov": self.column("context"),
            "noise_var": float(law.noise_var),
        }
        return Inference(**context_law, **query_law, rescale=law.scale != 1)

    def procedure(self, lr: float | str = "optimal") -> GradientStep:
        """The gradient step, with its factors where it has some."""
        plain = all(group.left == group.right == 1 for group in self.groups)
        return GradientStep(lr) if plain else GradientStep(lr, self.column("left"), self.column("right"))

    def column(self, field: str) -> np.ndarray:
        """The diagonal of a matrix, (d,)."""
        groups = [group.filled() for group in self.groups]
        return np.repeat([float(getattr(g, field)) for g in groups], [g.multiplicity for g in groups])

    def padded(self, sizes: tuple[int, ...]) -> Setting:
        """With features that are always 0 up to the next of the sizes: the same risk, and fewer compilations."""
        size = next((size for size in sizes if size >= self.d), self.d)
        nothing = Group(int(size - self.d), 0, 0, 0)
        return replace(self, groups=(*self.groups, nothing)) if nothing.multiplicity else self


setting_problem = lru_cache(None)(Setting.problem)


def isotropic(n, k, d, task=1, noise_var=0, weight=0, evaluation="fresh") -> Setting:
    """Sx = I, W = weight I and B = task^2."""
    return Setting(n, k, (Group(d, 1, weight, task),), noise_var, evaluation)


def of_parabola(c0, c1, c2) -> dict[str, Any]:
    """What a claim may be about, from the parabola."""
    return {"initial": c0, "optimal_lr": c1 / (2 * c2), "gain": c1**2 / (4 * c2)}
