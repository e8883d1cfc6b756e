"""Practical questions about TTT, answered by the exact risk at the exact optimal step size.

As a function of k the curve is c0 - alpha k lr + (beta k + gamma k^2) lr^2 (E S Sx S has that form for a sample
covariance S of k rows), so the gain of the best step is a hyperbola in k, and questions about k have closed answers:

    gain(k) = k alpha^2 / [4 (beta + gamma k)],    rising from 0 to alpha^2 / (4 gamma).

Nothing of the kind holds in n (Corollary 4.4: more context may hurt), so n is scanned. In the scale c of a start c W
all three coefficients are quadratic, so the best c is a root of a quintic. Random tasks are averaged as `exact_risk`
does it, but over 1,000 sampled ones where the average is not exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.linalg import Scalar
from ttt_jax._internal.mapping import map_rows
from ttt_jax._internal.validate import finite_number, positive_integer
from ttt_jax.problem import Problem, require_gaussian, require_problem, require_training_law
from ttt_jax.theory.exact import risk_coefficients
from ttt_jax.theory.paper import misalignment
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.theory.risk import exact_risk
from ttt_jax.theory.task_average import draw_tasks, find_quadrature

__all__ = [
    "Alignment",
    "BestScale",
    "SampleComplexity",
    "StartComparison",
    "alignment",
    "best_context",
    "best_scale",
    "best_split",
    "sample_complexity",
    "warm_or_cold",
]

NUM_TASKS = 1000
"""Random tasks that are sampled where no average is exact."""

Weights = ArrayLike | Callable[[int], ArrayLike] | str


class Alignment(NamedTuple):
    """How W fits a task, each value relative to B = |b|^2.

    Args:
        misalignment: A/B, 0 for a W that reproduces the task on average.
        spread: n |W|_F^2, what W adds by its size.
        initial: the exact risk without TTT.
        gain: what the best TTT step takes off it.
    """

    misalignment: float
    spread: float
    initial: float
    gain: float


def alignment(problem: Problem, weights: ArrayLike) -> Alignment:
    """How well W suits the task, and what that leaves for TTT to gain.

        A = b'(I - nW)^2 b;   the gain is about k/(k+d) A^2 / (A + spread): the worse the alignment, the larger

    Args:
        problem: with Sx = I, no noise and one task.
        weights: diagonal W.

    Raises:
        ValueError: outside these conditions.

    Example:
        >>> aligned, reverse = (Problem(20, 40, task) for task in ([1.0] * 20 + [0.0] * 20, [0.0] * 20 + [1.0] * 20))
        >>> weights = [1 / 40] * 20 + [0.0] * 20
        >>> [[round(x, 4) for x in alignment(problem, weights)] for problem in (aligned, reverse)]
        [[0.25, 0.25, 0.5125, 0.0364], [1.0, 0.25, 1.25, 0.298]]

    Reference: Definition 5.1 of Gozeten et al. (ICML 2025).
    """
    a, spread = misalignment(problem, weights)
    norm2 = float(problem.task @ problem.task)
    curve = exact_risk(problem, weights)
    return Alignment(*(x / norm2 for x in (a, spread, curve.initial, curve.initial - curve.optimal)))


class StartComparison(NamedTuple):
    """Warm against cold start.

    Args:
        warm, cold: the exact risks after the best step from W and from 0.
        better: "warm" or "cold".
        switch: the smallest k >= 1 from which the other start than at k = 1 is at least as good; None if there is none.
    """

    warm: float
    cold: float
    better: str
    switch: int | None


def warm_or_cold(problem: Problem, start: Weights = "pretrained") -> StartComparison:
    """Whether to start TTT from the pretrained W or from 0, and from which k on the answer changes.

    The two risks, each c0 minus a hyperbola in k, are equal at the roots of a quadratic.

    Args:
        problem: the test-time problem.
        start: W as an array, or "pretrained" for isotropic tasks under the law of the problem.

    Raises:
        ValueError: for W that does not fit.
        NotApplicable: for features that are not Gaussian, or another law at inference.

    Example:
        >>> problem = Problem(n=200, k=800, task=np.ones(400) / 20)      # Figure 1b at k = 2 d
        >>> answer = warm_or_cold(problem)
        >>> answer.better, answer.switch, answer.switch / 400            # Corollary 4.6 says .9
        ('cold', 380, 0.95)

    Reference: Corollary 4.6 of Gozeten et al. (ICML 2025) is the leading order.
    """
    require_problem(problem)
    warm, cold = (_in_k(problem, w, [problem.n])[0] for w in (start, "zero"))
    risks = warm.risk(problem.k), cold.risk(problem.k)
    sign = warm.risk(1) - cold.risk(1)
    # (c0 difference) D_w D_c = k (alpha_w^2 D_c - alpha_c^2 D_w) / 4 with D = beta + gamma k
    gap = warm.c0 - cold.c0
    x, y = warm.alpha**2 / 4, cold.alpha**2 / 4
    roots = np.roots(
        [
            gap * warm.gamma * cold.gamma - x * cold.gamma + y * warm.gamma,
            gap * (warm.beta * cold.gamma + warm.gamma * cold.beta) - x * cold.beta + y * warm.beta,
            gap * warm.beta * cold.beta,
        ]
    )
    candidates = sorted(math.ceil(root.real) for root in roots if abs(root.imag) == 0 and root.real > 1)
    switch = next((k for k in candidates if sign * (warm.risk(k) - cold.risk(k)) <= 0), None) if sign else None
    return StartComparison(*risks, "warm" if risks[0] <= risks[1] else "cold", switch)


def best_context(problem: Problem, start: Weights = "pretrained", *, max_n: int) -> int:
    """The context length n in 1, ..., max_n with the smallest risk after the best TTT step on k queries.

    Args:
        problem: gives k, the task, features and noise; its n is not used.
        start: W as an array for every n, as a function of n, "pretrained" (at each n anew) or "zero".
        max_n: largest context length to consider.

    Raises:
        ValueError: for W that does not fit.
        NotApplicable: for features that are not Gaussian, or another law at inference.

    Example:
        >>> problem = Problem(n=1, k=40_000, task=np.ones(400) / 20)
        >>> best_context(problem, max_n=300), best_context(problem, max_n=2000)     # a dip at 68, a hump at 300
        (68, 2000)

    Reference: Corollary 4.4 of Gozeten et al. (ICML 2025) says where more context hurts.
    """
    curves = _in_k(problem, start, range(1, positive_integer("max_n", max_n) + 1))
    return 1 + int(np.argmin([curve.risk(problem.k) for curve in curves]))


def best_split(problem: Problem, start: Weights = "pretrained") -> int:
    """The context length n for which N = n + k labelled pairs give the smallest risk after the best TTT step.

    Args:
        problem: gives N = n + k, the task, features and noise.
        start: W in the forms of `best_context`.

    Raises:
        ValueError: for W that does not fit.
        NotApplicable: for features that are not Gaussian, or another law at inference.

    Example:
        >>> problem = Problem(n=20, k=80, task=np.ones(40) / 40**0.5, noise_var=0.5, evaluation="same")
        >>> best_split(problem), best_split(problem, "zero")
        (63, 20)
    """
    require_problem(problem)
    total = problem.n + problem.k
    curves = _in_k(problem, start, range(1, total))
    return 1 + int(np.argmin([curve.risk(total - n) for n, curve in enumerate(curves, start=1)]))


class BestScale(NamedTuple):
    """The best of all starts c W.

    Args:
        scale: c.
        risk: after the best step from c W.
    """

    scale: float
    risk: float


def best_scale(problem: Problem, start: Weights = "pretrained") -> BestScale:
    """The best of all starts c W: between the cold one, c = 0, and the warm one, c = 1, or beyond.

        risk(c) = c0 - c1^2 / (4 c2) with c0, c1, c2 quadratic in c is stationary where
        4 c0' c2^2 - 2 c1 c1' c2 + c1^2 c2' = 0

    Args:
        problem: the test-time problem.
        start: W, not 0, in the forms of `best_context`.

    Raises:
        ValueError: for W that does not fit, or is 0.
        NotApplicable: for features that are not Gaussian, or another law at inference.

    Example:
        >>> problem = Problem(n=20, k=80, task=np.ones(40) / 40**0.5, noise_var=0.5, evaluation="same")
        >>> scale, risk = best_scale(problem, 1 / 81)  # W* of tasks b ~ N(0, I/d)
        >>> round(scale, 4), round(risk, 5), round(exact_risk(problem, 1 / 81).optimal, 5)
        (1.0074, 0.91715, 0.91716)
    """
    require_training_law(problem, "the best scale")
    weights = starting_weights(start(problem.n) if callable(start) else start, problem, problem.n)
    if not np.any(weights):
        raise ValueError("start must not be 0 to be scaled")
    unit = 1 / (problem.n * np.abs(weights).max() * np.abs(problem.feature_cov).max())  # so that no digit of c2 is lost
    curves = [exact_risk(problem, c * unit * weights) for c in (-1, 0, 1)]
    below, zero, above = np.array([[curve.c0, curve.c1, curve.c2] for curve in curves])
    c0, c1, c2 = (np.poly1d(q) for q in np.transpose([(above + below) / 2 - zero, (above - below) / 2, zero]))
    slope = 4 * c0.deriv() * c2**2 - 2 * c1 * c1.deriv() * c2 + c1**2 * c2.deriv()
    candidates = slope.roots.real  # the real part of a complex root is a start too, if not a stationary one
    risks = c0(candidates) - c1(candidates) ** 2 / (4 * c2(candidates))
    best = int(np.argmin(risks))
    return BestScale(float(unit * candidates[best]), float(risks[best]))


class SampleComplexity(NamedTuple):
    """Labelled pairs needed for a target risk; None where max_n is not enough.

    Args:
        without_ttt: smallest n for the pretrained model without TTT.
        context: smallest n with TTT and unlimited k.
        n, k: the context and the training queries of smallest n + k with TTT.
        ratio: without_ttt / (n + k), how many times fewer labelled pairs TTT needs.
    """

    without_ttt: int | None
    context: int | None
    n: int | None
    k: int | None
    ratio: float | None


def sample_complexity(
    problem: Problem, target: float, start: Weights = "pretrained", *, max_n: int
) -> SampleComplexity:
    """The smallest n, and the smallest n + k, that reach a target risk with and without TTT.

    Args:
        problem: gives the task, features and noise; its n and k are not used.
        target: the risk to reach, label noise included, not normalised.
        start: where TTT starts, in the forms of `best_context`.
        max_n: largest context length to consider; time and memory are proportional to it.

    Raises:
        ValueError: for W that does not fit, or a target that is not a finite number.
        NotApplicable: for features that are not Gaussian, or another law at inference.

    Example:
        >>> problem = Problem(n=1, k=1, task=np.ones(100) / 10)
        >>> answer = sample_complexity(problem, target=0.21, start="zero", max_n=1000)
        >>> answer.without_ttt, answer.context, answer.n + answer.k
        (380, 29, 587)

    Reference: the abstract of Gozeten et al. (ICML 2025).
    """
    finite_number("target", target)
    lengths = range(1, positive_integer("max_n", max_n) + 1)
    plain = _in_k(problem, "pretrained", lengths)
    curves = plain if isinstance(start, str) and start == "pretrained" else _in_k(problem, start, lengths)
    without = next((n for n, curve in zip(lengths, plain, strict=True) if curve.smallest_k(target) == 0), None)
    needed = [(n, k) for n, curve in zip(lengths, curves, strict=True) if math.isfinite(k := curve.smallest_k(target))]
    if not needed:
        return SampleComplexity(without, None, None, None, None)
    n, k = min(needed, key=sum)
    return SampleComplexity(without, needed[0][0], n, int(k), without / (n + k) if without else None)


class _InK(NamedTuple):
    """The risk of the best step as a function of k: c0 - k alpha^2 / [4 (beta + gamma k)]."""

    c0: float
    alpha: float
    beta: float
    gamma: float

    def risk(self, k: float) -> float:
        return self.c0 - k * self._gain_per_query(k) if self.alpha > 0 else self.c0

    def _gain_per_query(self, k: float) -> float:
        return self.alpha**2 / (4 * (self.beta + self.gamma * k))

    def smallest_k(self, target: float) -> float:
        """Smallest k >= 0 with risk(k) <= target, up to rounding; inf if there is none."""
        gain = self.c0 - target
        if gain <= 1e-12 * self.c0:
            return 0
        rest = self.alpha**2 / 4 - gain * self.gamma
        return math.ceil(gain * self.beta / rest) if rest > 0 else math.inf


def _in_k(problem: Any, start: Weights, lengths: Sequence[int]) -> list[_InK]:
    """The risk as a function of k for every context length."""
    require_gaussian(problem, "the exact risk as a function of k")
    require_training_law(problem, "the exact risk as a function of k")
    starts = (start(n) if callable(start) else start for n in lengths)
    stack = np.stack([starting_weights(one, problem, n) for n, one in zip(lengths, starts, strict=True)])
    sx = linalg.simplest(problem.feature_cov)
    quadrature = find_quadrature(problem.task, isotropic=stack.ndim == 1 and not sx.ndim, num_tasks=NUM_TASKS)
    tasks, probabilities = quadrature or (draw_tasks(problem.task, NUM_TASKS, 0), np.full(NUM_TASKS, 1 / NUM_TASKS))
    rows = tuple(index.ravel() for index in np.indices((len(lengths), len(tasks))))
    fixed = {
        "stack": stack,
        "lengths": np.array(lengths),
        "tasks": tasks,
        "feature_cov": sx,
        "noise_var": problem.noise_var,
    }
    values = map_rows(_line_in_k, rows, fixed, evaluation=problem.inference.context)
    means = probabilities @ values.reshape(len(lengths), len(tasks), -1)
    return [_InK(*row) for row in means.tolist()]


def _line_in_k(row: tuple[Any, Any], *, stack: Any, lengths: Any, tasks: Any, **law: Any) -> tuple[Scalar, ...]:
    """The fields of `_InK`, of one length and one task."""
    i, j = row
    at_one_and_two = (risk_coefficients(tasks[j], weights=stack[i], n=lengths[i], k=k, **law) for k in (1.0, 2.0))
    (c0, c1, one), (_, _, two) = at_one_and_two
    gamma = (two - 2 * one) / 2
    return c0, c1, one - gamma, gamma
