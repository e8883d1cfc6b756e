"""Simulated data against claimed numbers: one step of every problem remembered, and one rule that judges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from proofs_check.claim import Effort, Verdict
from proofs_check.setting import Setting, of_parabola
from ttt_jax.problem import GaussianTasks, Problem
from ttt_jax.procedures import GradientStep, GradientSteps
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation import Estimate, estimate_risk
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.agreement import POWER, critical_z

CONFIDENCE = 1 - 0.01 / 100
"""Of one comparison with simulation: a report has fewer than 100, so a correct one passes for 99 of 100 seeds."""

SIZES = 4, 64, 128, 16000
"""Problems are filled up to the next of these numbers of features, so that they share compilations."""

BLOCK_SIZE = 1024
"""Of every simulation, so that they share compilations."""


class Comparison(NamedTuple):
    """A claimed number, known up to slack, and a simulated one, judged unless its standard error is not reliable."""

    claimed: float
    found: float
    stderr: float
    reliable: bool | None = True
    slack: float = 0.0

    @property
    def z(self) -> float:
        return max(abs(self.found - self.claimed) - self.slack, 0.0) / self.stderr


def judge(quantities: Iterable[Sequence[Comparison]]) -> Verdict:
    """All comparisons together; the error that is detected is common to those of one quantity."""
    quantities = list(quantities)
    judged = [[one for one in group if one.reliable is not False] for group in quantities]
    simulated, compared = (sum(map(len, groups)) for groups in (quantities, judged))
    short = f"{simulated - compared} of {simulated} simulations too short for the tails"
    if not all(judged):
        return Verdict(None, short)
    critical = critical_z(CONFIDENCE, compared)
    worst = max(one.z for group in judged for one in group)
    detects = max(
        min(((critical + POWER) * one.stderr + one.slack) / abs(one.found) for one in group) for group in judged
    )
    detail = f"max |z| {worst:.2f} (critical {critical:.2f}), detects {detects:.1%}"
    return Verdict(bool(worst <= critical), detail if compared == simulated else f"{detail}; {short}", detects)


def judge_samples(samples: Sequence[np.ndarray], claimed: Sequence[float]) -> Verdict:
    """The means of independent samples against the claimed values."""
    return judge(
        [Comparison(float(value), float(np.mean(x)), float(np.std(x)) / math.sqrt(len(x)))]
        for x, value in zip(samples, claimed, strict=True)
    )


def ratio_of_means(above: np.ndarray, below: np.ndarray, claimed: Any) -> Comparison:
    """E above / E below of joint samples, with the standard error of the delta method: a coefficient of regression."""
    found = float(above.mean() / below.mean())
    stderr = float(np.std(above - found * below) / (abs(below.mean()) * math.sqrt(len(above))))
    return Comparison(float(claimed), found, stderr)


def at_most(samples: np.ndarray, bound: Any) -> Verdict:
    """The mean of independent samples against a bound: it fails where the mean is above it for certain."""
    mean, stderr, bound = float(samples.mean()), float(samples.std()) / math.sqrt(len(samples)), float(bound)
    critical = NormalDist().inv_cdf(CONFIDENCE)
    z = (mean - bound) / stderr
    detects = 1 - (mean - (critical + POWER) * stderr) / bound
    return Verdict(z <= critical, f"{mean:.5g} <= {bound:.5g}, z {z:.2f} (critical {critical:.2f})", detects)


def initial_risks(
    problem: Problem, weights: np.ndarray, count: int, seed: int = 0, sampled_numbers: int = 2**22
) -> Float[np.ndarray, " count"]:
    """The risk of W before any step in each of `count` contexts of sampled rows, with diagonal features; in NumPy."""
    law: Any = problem.inference
    rng, d = np.random.default_rng(seed), problem.d
    root, query = (np.broadcast_to(cov, (d,)) for cov in (np.sqrt(law.feature_cov), law.query_feature_cov))
    matrix = weights if weights.ndim == 2 else np.diag(np.broadcast_to(weights, (d,)))
    found = []
    block = max(1, sampled_numbers // (law.n * d))
    for size in [block] * (count // block) + [count % block]:
        random = isinstance(problem.task, GaussianTasks)  # N(0, I)
        task = rng.standard_normal((size, d)) if random else np.broadcast_to(problem.task, (size, d))
        x = rng.standard_normal((size, law.n, d)) * root
        y = np.einsum("tnd,td->tn", x, task) + math.sqrt(law.noise_var) * rng.standard_normal((size, law.n))
        miss = task - np.einsum("tnd,tn->td", x, y) @ matrix.T
        found.append((miss**2 * query).sum(1) + law.query_noise_var)
    return np.concatenate(found)


class Given(NamedTuple):
    """A problem with dense matrices, W and a step whose size is free."""

    problem: Problem
    weights: np.ndarray
    step: GradientStep = GradientStep()


class Simulated(NamedTuple):
    """Means of (c0, c1, c2) with their covariance; lr, the exact optimum; whether 0, 1 and 2 times it are reliable."""

    mean: Float[np.ndarray, " 3"]
    covariance: Float[np.ndarray, "3 3"]
    lr: float
    reliable: tuple[bool | None, ...]

    def compare(self, key: str, claimed: Any, slack: float = 0.0) -> Comparison:
        """A claimed quantity; an optimal_lr has the stderr that it would have under the claim (Fieller)."""
        claimed, (c0, c1, c2), lr = float(claimed), self.mean, self.lr
        steps, value, direction = {
            "initial": (1, c0, (1.0, 0.0, 0.0)),
            "gain": (2, c1 * lr - c2 * lr**2, (0.0, lr, -(lr**2))),
            "risk": (2, c0 - c1 * lr + c2 * lr**2, (1.0, -lr, lr**2)),
            "optimal_lr": (3, c1 / (2 * c2), (0.0, 0.5 / c2, -claimed / c2)),
        }[key]
        stderr = math.sqrt(float(np.array(direction) @ self.covariance @ direction))
        return Comparison(claimed, float(value), stderr, False not in self.reliable[:steps], slack)


_SIMULATED: dict[tuple, Simulated] = {}


def simulate_step(
    problem: Problem, weights: np.ndarray, step: GradientStep, *, num_tasks: int, seed: int, sampler: str = "data"
) -> Simulated:
    """Simulated at 0, 1 and 2 times the step size on the same tasks; remembered, as coefficients change none of it."""
    factors = (None if a is None else a.tobytes() for a in (step.left, step.right))
    key = (problem, weights.tobytes(), step.lr, *factors, num_tasks, seed, sampler)
    if key not in _SIMULATED:
        lr = float(step.lr)
        steps = tuple(GradientStep(m * lr, step.left, step.right) for m in (0, 1, 2))
        joint = estimate_risk(
            problem, weights, steps, num_tasks=num_tasks, seed=seed, sampler=sampler, block_size=BLOCK_SIZE
        )
        solve = np.array([[1.0, 0, 0], [1.5 / lr, -2 / lr, 0.5 / lr], [0.5 / lr**2, -1 / lr**2, 0.5 / lr**2]])
        mean = np.array([one.mean for one in joint.estimates])
        reliable = tuple(one.stderr_reliable for one in joint.estimates)
        _SIMULATED[key] = Simulated(solve @ mean, solve @ joint.covariance @ solve.T, lr, reliable)
    return _SIMULATED[key]


@lru_cache(None)
def given_setting(setting: Setting) -> Given:
    padded = setting.padded(SIZES)
    return Given(padded.problem(), padded.column("weight"), padded.procedure())


@lru_cache(None)
def exact_curve(setting: Setting) -> RiskCurve:
    """`exact_risk` of a setting."""
    return exact_risk(*given_setting(setting))


def compare_settings(
    settings: Sequence[Setting], claimed: Sequence[Mapping[str, Any]], num_tasks: int, seed: int
) -> Iterator[list[Comparison]]:
    """The claimed quantities of each setting with simulations of their own seeds, by quantity."""
    found = [simulate_best(given_setting(setting), num_tasks, seed + i) for i, setting in enumerate(settings)]
    for key in claimed[0]:
        yield [one.compare(key, values[key]) for one, values in zip(found, claimed, strict=True)]


def compare_problems(
    given: Sequence[Given],
    claimed: Sequence[tuple],
    effort: Effort,
    keys: Sequence[str] = ("initial", "optimal_lr", "gain"),
) -> Iterator[list[Comparison]]:
    """Claimed parabolas of dense problems with simulations of their own seeds, by quantity."""
    found = [simulate_best(one, effort.num_small // 2, effort.seed + i) for i, one in enumerate(given)]
    values = [of_parabola(*map(float, parabola)) for parabola in claimed]
    for key in keys:
        yield [one.compare(key, value[key]) for one, value in zip(found, values, strict=True)]


def simulate_best(given: Given, num_tasks: int, seed: int, sampler: str = "data") -> Simulated:
    """`simulate_step` at the vertex of the exact parabola, which may be at a negative step size."""
    curve = exact_risk(*given)
    lr, unit = curve.c1 / (2 * curve.c2), math.sqrt(curve.c0 / curve.c2)
    best = replace(given.step, lr=lr if abs(lr) > 1e-9 * unit else 0.1 * unit)  # from the best W no step helps
    return simulate_step(given.problem, given.weights, best, num_tasks=num_tasks, seed=seed, sampler=sampler)


def after_best_step(setting: Setting, num_tasks: int, seed: int, sampler: str = "data") -> Comparison:
    """The risk after the best step, exact and simulated."""
    found = simulate_best(given_setting(setting), num_tasks, seed, sampler)
    return found.compare("risk", exact_curve(setting).optimal)


@lru_cache(None)
def simulate_steps(
    setting: Setting, step_sizes: tuple[float, ...], new_context: bool, num_tasks: int, seed: int
) -> Estimate:
    """`estimate_risk` of several steps, remembered."""
    problem, weights, _ = given_setting(setting)
    return estimate_risk(problem, weights, GradientSteps(step_sizes, new_context), num_tasks=num_tasks, seed=seed)


def num_contexts(effort: Effort, numbers: int = 1) -> int:
    """Contexts alone are cheap, but they are held in memory, each with so many numbers."""
    return min(16 * effort.num_small, 1_500_000, 2**25 // numbers)


def contexts(task, feature_cov, noise_var, n: int, count: int, seed: int = 0) -> Float[np.ndarray, "contexts d"]:
    """u = X'y of `count` independent contexts of n rows, from sampled rows."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, n, len(task))) @ np.linalg.cholesky(feature_cov).T
    y = x @ task + math.sqrt(noise_var) * rng.standard_normal((count, n))
    return np.einsum("cnd,cn->cd", x, y)
