"""The switch: the size at which the first of two arms stops, or begins, to have the smaller risk."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ttt_jax.verdict.cases import Case, at_size
from ttt_jax.verdict.measured import Exact, Question, Simulated, exact_value, means_on_same_tasks, stderr_along

RANGE = 6
"""A switch is looked for up to 2^RANGE times below and above the claimed one."""

CLOSE = 1e-6
"""Relative distance of the sizes that a switch is found between, where sizes are real numbers."""

BESIDE = 0.8, 1.0, 1.25
"""Multiples of the claimed switch at which the risks are simulated."""

SEEN = 3.0
"""Standard errors from 0 at which a slope is seen."""


def exact_switch(case: Case, question: Question) -> Exact:
    """The switch nearest to the claimed one by the exact risk; inf where there is none.

    It is interpolated. Its rounding error is what a claim may be off by and still lie between the two sizes where the
    sign changes, so that it has the better arm right at every size: at most 1 for n and k.
    """
    if any(arm.curve is None for arm in case.arms):
        return Exact()
    along = question.along

    def difference(size: float) -> float:
        found = exact_value(at_size(case, along, size), question)
        return found.value if abs(found.value) > found.rounding else 0.0

    claimed = float(case.claimed)
    found = nearest_crossing(difference, claimed, whole=_whole(along))
    if found is None:
        return Exact(math.inf)
    switch, width = found
    low, there, high = beside(switch, along)
    stderr = exact_value(at_size(case, along, there), question).stderr
    if stderr:  # of sampled tasks, by the slope of the difference
        stderr *= (high - low) / abs(difference(high) - difference(low))
    if _whole(along) and not switch.is_integer():  # an integer is a size of equal risks, with a sign on either side
        width = switch - math.floor(switch) if claimed < switch else math.ceil(switch) - switch
    return Exact(switch, stderr, width)


def beside(switch: float, along: str | None) -> list[float]:
    """A size below a switch, one at it and one above."""
    sizes: list[float] = [multiple * switch for multiple in BESIDE]
    return [max(1, math.floor(sizes[0])), max(1, round(switch)), math.ceil(sizes[2])] if _whole(along) else sizes


def _whole(along: str | None) -> bool:
    """Whether a size is an integer."""
    return along in ("n", "k")


def nearest_crossing(difference: Callable[[float], float], near: float, *, whole: bool) -> tuple[float, float] | None:
    """Where the difference changes sign, and between values how far apart; None where it does not.

    Args:
        difference: of a size.
        near: the change of sign that is nearest to this size, by ratio, is found.
        whole: for sizes that are integers; between two of them the difference is taken as a line.

    Example:
        >>> nearest_crossing(lambda k: 9.5 - k, 8.0, whole=True)
        (9.5, 1)
        >>> nearest_crossing(lambda x: x + 1.0, 8.0, whole=False) is None
        True
    """
    sizes = [near * 2.0**power for power in range(-RANGE, RANGE + 1)]
    sizes = sorted({max(1, round(size)) for size in sizes}) if whole else sizes
    seen = [(size, sign) for size in sizes if (sign := np.sign(difference(size)))]
    brackets = [(a, b) for (a, s), (b, t) in pairwise(seen) if s != t]
    if not brackets:
        return None
    low, high = min(brackets, key=lambda ends: max(ends[0] / near, near / ends[1]))
    at_low, at_high = difference(low), difference(high)
    while high - low > (1 if whole else CLOSE * high):
        middle = (low + high) // 2 if whole else (low + high) / 2
        at_middle = difference(middle)
        if at_middle * at_low > 0:
            low, at_low = middle, at_middle
        else:
            high, at_high = middle, at_middle
    return low + (high - low) * at_low / (at_low - at_high), high - low


def simulated_switch(case: Case, question: Question) -> Simulated:
    """The switch by simulation: where the parabola through three differences on the same tasks is 0 beside the claim.

    Its standard error is that under the claim, so that z is that of the difference at the claimed switch. Not judged
    where nothing is seen, neither a difference at the claim nor a slope.
    """
    claimed = float(case.claimed)
    sizes = beside(claimed, question.along)
    if not question.num_tasks or len({*sizes}) < len(BESIDE):
        return Simulated()
    arms = [arm for size in sizes for arm in at_size(case, question.along, size)]
    means, covariance, reliable = means_on_same_tasks(arms, question, case.seed)
    differences = np.kron(np.eye(len(sizes)), [1.0, -1.0])
    there, slope = np.linalg.inv(np.vander(np.array(sizes) - claimed, increasing=True))[:2] @ differences
    errors = stderr_along(there, covariance), stderr_along(slope, covariance)
    is_seen = any(abs(way @ means) > SEEN * error for way, error in zip((there, slope), errors, strict=True))
    if not is_seen:
        return Simulated()
    return Simulated(claimed - float(there @ means / (slope @ means)), errors[0] / abs(float(slope @ means)), reliable)
