"""What the claims about several steps share: Wishart moments by enumeration, one-step risks, and simulation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import sympy as sp

from proofs_check.claim import CONFIDENCE, Setting, Verdict, coefficients_of_oracle, padded
from ttt_jax.procedures import GradientSteps
from ttt_jax.simulation import Estimate, estimate_risk
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.claim import POWER
from ttt_jax.verdict.infinity import value_at_infinity


def narayana_moment(j: int, g):
    """int m^j of Marchenko and Pastur's law: sum_i Narayana(j, i) g^i."""
    return sum(sp.binomial(j, i) * sp.binomial(j, i - 1) * g**i for i in range(1, j + 1)) / sp.Integer(j) if j else 1


def pairings(items: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """All ways to pair the items."""
    if not items:
        yield []
        return
    first, *rest = items
    for i, partner in enumerate(rest):
        for others in pairings(rest[:i] + rest[i + 1 :]):
            yield [(first, partner), *others]


@lru_cache(None)
def wishart_moment(j: int) -> sp.Expr:
    """E tr(S^j)/d for S = X'X, X a (k, d) standard Gaussian matrix: Wick pairings of its 2 j entries, exact in k, d.

    tr S^j = sum of x(r1, a1) x(r1, a2) x(r2, a2) x(r2, a3) ... x(rj, aj) x(rj, a1). A pairing identifies the row and
    the column of both entries; each class of rows is a factor k, each class of columns a factor d.
    """
    k, d = sp.symbols("k d")
    if j == 0:
        return sp.Integer(1)
    rows = [i // 2 for i in range(2 * j)]
    columns = [(i + 1) // 2 % j for i in range(2 * j)]
    total: dict[tuple[int, int], int] = {}
    for pairing in pairings(list(range(2 * j))):
        r, c = (_classes(j, [(label[a], label[b]) for a, b in pairing]) for label in (rows, columns))
        total[r, c] = total.get((r, c), 0) + 1
    return sp.expand(sum(count * k**r * d ** (c - 1) for (r, c), count in total.items()))


def _classes(size: int, equal: list[tuple[int, int]]) -> int:
    """The number of classes of 0, ..., size - 1 once these pairs are set equal."""
    label = list(range(size))
    for a, b in equal:
        old, new = label[a], label[b]
        label = [new if x == old else x for x in label]
    return len(set(label))


def after_one_step(setting: Setting, theta, d_u2) -> sp.Expr:
    """The exact risk at lr = theta / (2 d_u2), by the oracle."""
    c0, c1, c2 = coefficients_of_oracle(setting)
    lr = theta / (2 * d_u2)
    return c0 - c1 * lr + c2 * lr**2


@lru_cache(None)
def simulate_steps(setting: Setting, step_sizes: tuple[float, ...], new_context: bool, num_tasks: int, seed: int):
    """`estimate_risk` of several steps on sampled data, remembered."""
    return estimate_risk(
        *padded(setting.problem(), setting.column("weight")),
        GradientSteps(step_sizes, new_context),
        num_tasks=num_tasks,
        seed=seed,
    )


def limit_verdict(sizes: Sequence[int], found: Sequence[Estimate], claimed: float) -> Verdict:
    """The simulated risks after the last step, extrapolated to d = infinity, against the claimed limit."""
    limit, stderr = value_at_infinity(sizes, [f.mean[-1] for f in found], [f.stderr[-1] for f in found])
    critical = critical_z(CONFIDENCE)
    z, detectable = abs(limit - claimed) / stderr, (critical + POWER) * stderr / limit
    return Verdict(bool(z <= critical), f"max |z| {z:.2f} (critical {critical:.2f}), detects {detectable:.1%}")


def exact_verdict(found: Sequence[Estimate], claimed: Sequence[np.ndarray]) -> Verdict:
    """The simulated risks after every step against the claimed ones."""
    z = np.concatenate(
        [(f.mean - np.asarray(c, float))[1:] / f.stderr[1:] for f, c in zip(found, claimed, strict=True)]
    )
    critical = critical_z(CONFIDENCE, len(z))
    detectable = (critical + POWER) * min(min(f.stderr[1:] / f.mean[1:]) for f in found)
    worst = float(np.abs(z).max())
    detail = f"max |z| {worst:.2f} (critical {critical:.2f}), detects {detectable:.1%}"
    return Verdict(bool(worst <= critical and math.isfinite(worst)), detail)
