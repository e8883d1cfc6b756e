"""A catalogue of distribution shifts: what the weights were trained under against what they are tested under, by name.

Every entry is a function (n, k, d, noise_var, **parameters) -> (Pretraining, Problem). Unless the shift is about it,
both laws have the same n, noise and features x ~ N(0, I), and the test task has |b|^2 = 1 = tr(task_cov), so that
"none" is no shift at all. Spectra live on the coordinate axes; "halves" are the first and the second half of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_jax._internal.validate import choice, finite_number, non_negative, positive_integer, require_parameters
from ttt_jax.problem import Pretraining, Problem

__all__ = [
    "SHIFTS",
    "aligned",
    "features",
    "low_rank",
    "make_shift",
    "noise",
    "none",
    "orthogonal",
    "power_law",
    "rademacher",
    "reverse",
    "rotated",
    "scale",
    "spiked",
    "student_t",
]

Pair = tuple[Pretraining, Problem]


def make_shift(name: str, *, n: int, k: int, d: int, noise_var: float = 0.0, **parameters: Any) -> Pair:
    """The pretraining law and the test problem of a named shift.

    Args:
        name: an entry of `SHIFTS`.
        n: number of context pairs.
        k: number of training queries of the TTT step.
        d: number of features.
        noise_var: variance of the label noise.
        parameters: those of the entry, by keyword; each has a default.

    Raises:
        ValueError: if the shift is unknown, or a parameter or size is out of range; the message names it.

    Example:
        >>> pretraining, problem = make_shift("reversed", n=20, k=40, d=4, ratio=0.25)
        >>> pretraining.task_cov.tolist()
        [0.1, 0.1, 0.4, 0.4]
        >>> make_shift("reversed", n=20, k=40, d=4, angle=30)
        Traceback (most recent call last):
        ValueError: shift 'reversed' takes ratio, got angle
    """
    shift = SHIFTS[choice("shift", name, tuple(SHIFTS))]
    require_parameters("shift", name, shift, parameters)
    positive_integer("d", d)
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            return shift(n, k, d, noise_var, **parameters)
    except ArithmeticError as error:
        values = ", ".join(f"{parameter} = {value}" for parameter, value in parameters.items())
        raise ValueError(f"shift {name!r} has no finite task of length 1 at d = {d} and {values}: {error}") from None


def none(n: int, k: int, d: int, noise_var: float) -> Pair:
    """No shift: isotropic tasks in pretraining, b along (1, ..., 1)."""
    return _tasks(n, k, noise_var, np.ones(d), np.ones(d))


def aligned(n: int, k: int, d: int, noise_var: float, *, ratio: float = 0.5) -> Pair:
    """Task variances (1, ratio) on the halves in pretraining, b along (1, ratio): Figure 2a, aligned."""
    spectrum = _halves(1.0, non_negative("ratio", ratio), d)
    return _tasks(n, k, noise_var, spectrum, spectrum)


def reverse(n: int, k: int, d: int, noise_var: float, *, ratio: float = 0.5) -> Pair:
    """Task variances (ratio, 1) on the halves in pretraining, b along (1, ratio): Figure 2a, misaligned."""
    non_negative("ratio", ratio)
    return _tasks(n, k, noise_var, _halves(ratio, 1.0, d), _halves(1.0, ratio, d))


def orthogonal(n: int, k: int, d: int, noise_var: float, *, rank: int = 1) -> Pair:
    """b in the span of the first `rank` axes, pretraining tasks orthogonal to it: Figure 2b, worst case."""
    inside = _span(rank, d)
    return _tasks(n, k, noise_var, 1 - inside, inside)


def low_rank(n: int, k: int, d: int, noise_var: float, *, rank: int = 1) -> Pair:
    """b and all pretraining tasks in the span of the first `rank` axes: Figure 2b, best case."""
    inside = _span(rank, d)
    return _tasks(n, k, noise_var, inside, inside)


def power_law(n: int, k: int, d: int, noise_var: float, *, exponent: float = 1.0, test_exponent: float = 0.0) -> Pair:
    """Task variances j^(-exponent) in pretraining, b_j^2 proportional to j^(-test_exponent), j = 1, ..., d."""
    rank = np.arange(1, d + 1, dtype=float)
    variances = rank ** -finite_number("exponent", exponent)
    return _tasks(n, k, noise_var, variances, rank ** (-finite_number("test_exponent", test_exponent) / 2))


def spiked(n: int, k: int, d: int, noise_var: float, *, strength: float = 10.0, angle: float = 90.0) -> Pair:
    """Task covariance I + strength e_1 e_1' in pretraining, b at `angle` degrees from the spike e_1."""
    if d < 2:
        raise ValueError(f"d must be at least 2 for the shift 'spiked', got {d}")
    angle = np.deg2rad(finite_number("angle", angle))
    spike = np.eye(d)[0]
    task = np.cos(angle) * spike + np.sin(angle) * (1 - spike) / np.sqrt(d - 1)
    return _tasks(n, k, noise_var, 1 + non_negative("strength", strength) * spike, task)


def rotated(n: int, k: int, d: int, noise_var: float, *, angle: float = 45.0, ratio: float = 0.5) -> Pair:
    """Task variances (1, ratio) on halves turned by `angle` degrees (j towards j + d/2), b on the first half."""
    half, angle = d // 2, np.deg2rad(finite_number("angle", angle))
    turn = np.eye(d)
    for i, j in zip(range(half), range(d - half, d), strict=True):
        turn[np.ix_([i, j], [i, j])] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    spectrum = _halves(1.0, non_negative("ratio", ratio), d)
    return _tasks(n, k, noise_var, (turn * spectrum) @ turn.T, _halves(1.0, 0.0, d))


def features(n: int, k: int, d: int, noise_var: float, *, ratio: float = 0.5) -> Pair:
    """Feature variances (1, ratio) on the halves at test time, with mean 1; isotropic in pretraining."""
    variances = _halves(1.0, non_negative("ratio", ratio), d)
    return _tasks(n, k, noise_var, np.ones(d), np.ones(d), feature_cov=variances / variances.mean())


def scale(n: int, k: int, d: int, noise_var: float, *, factor: float = 2.0) -> Pair:
    """Features `factor` times as long at test time, and so are the labels."""
    if not finite_number("factor", factor):
        raise ValueError("factor must be a number other than 0, got 0")
    return _tasks(n, k, noise_var, np.ones(d), np.ones(d), feature_cov=float(factor) ** 2)


def noise(n: int, k: int, d: int, noise_var: float, *, test_noise_var: float = 1.0) -> Pair:
    """Label noise of variance noise_var in pretraining, test_noise_var at test time."""
    pretraining, _ = none(n, k, d, noise_var)
    return pretraining, none(n, k, d, non_negative("test_noise_var", test_noise_var))[1]


def rademacher(n: int, k: int, d: int, noise_var: float) -> Pair:
    """Features of independent signs at test time, of variance 1; no exact risk."""
    return _tasks(n, k, noise_var, np.ones(d), np.ones(d), feature_law="rademacher")


def student_t(n: int, k: int, d: int, noise_var: float, *, dof: float = 30.0) -> Pair:
    """Features of independent Student-t entries at test time, of variance 1; no exact risk."""
    return _tasks(n, k, noise_var, np.ones(d), np.ones(d), feature_law="student_t", dof=dof)


SHIFTS: dict[str, Callable[..., Pair]] = {
    "none": none,
    "aligned": aligned,
    "reversed": reverse,
    "orthogonal": orthogonal,
    "low_rank": low_rank,
    "power_law": power_law,
    "spiked": spiked,
    "rotated": rotated,
    "features": features,
    "scale": scale,
    "noise": noise,
    "rademacher": rademacher,
    "student_t": student_t,
}
"""Every shift by name."""


def _tasks(n: int, k: int, noise_var: float, task_cov: np.ndarray, task: np.ndarray, **test: Any) -> Pair:
    """Pretraining on this task covariance, scaled to trace 1, and a test on this task, scaled to length 1."""
    trace = np.trace(task_cov) if task_cov.ndim == 2 else task_cov.sum()
    pretraining = Pretraining(n, task_cov=task_cov / trace, noise_var=noise_var)
    return pretraining, Problem(n, k, task / np.linalg.norm(task), noise_var=noise_var, **test)


def _halves(first: float, second: float, d: int) -> np.ndarray:
    return np.repeat([float(first), float(second)], [d - d // 2, d // 2])


def _span(rank: Any, d: int) -> np.ndarray:
    """The indicator of the first `rank` of d coordinates."""
    if positive_integer("rank", rank) >= d:
        raise ValueError(f"rank must be below d = {d}, got {rank}")
    return (np.arange(d) < rank).astype(float)
