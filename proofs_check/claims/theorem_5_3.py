"""Diagonal W, Sx = I, noiseless, approximate, with A = b'(I - nW)^2 b and spread S = n B |W|_F^2.

lr* = A/[2 (k+d) n^2 B (A+S)] and gain = k/(k+d) A^2/(A+S).

Proved for two halves of the coordinates with any weights and any part of the task in each. That is every diagonal W
whose entries are of order 1/d: for Sx = I the exact risk depends on W only through b'Wb, |Wb|^2 and |W|_F^2, linearly
(claim `new_context`), and the two weights and the division of the task move these three independently.
"""

import sympy as sp

from proofs_check.kinds.leading import leading_claim
from proofs_check.setting import Group, Setting
from ttt_jax.theory.paper import theorem_5_3

WEIGHTS = sp.Rational(6, 5), sp.Rational(2, 5)
TASK = sp.Rational(3, 5), sp.Rational(4, 5)


def misalignment(c, setting):
    """A and the spread."""
    n = setting.n
    a = sum(group.task**2 * (1 - c[0] * n * group.weight) ** 2 for group in setting.groups)
    return a, c[1] * n * setting.norm2 * setting.total(lambda group: group.weight**2)


def formula(c, setting):
    n, k, d, b = setting.n, setting.k, setting.d, setting.norm2
    a, spread = misalignment(c, setting)
    return {
        "optimal_lr": c[2] * a / ((k + c[3] * d) * n**2 * b * (a + spread)),
        "gain": c[4] * k / (k + c[5] * d) * a**2 / (a + spread),
    }


def two_halves(n, k, d, weights=WEIGHTS, features=(1, 1), noise_var=0, evaluation="fresh", task=TASK):
    """Two halves of the coordinates, with weights of order 1/d and a part of the task in each."""
    groups = tuple(Group(d / sp.Integer(2), s, w / d, b) for s, w, b in zip(features, weights, task, strict=True))
    if isinstance(d, int):
        groups = tuple(group._replace(multiplicity=d // 2) for group in groups)
    return Setting(n, k, groups, noise_var, evaluation)


def scaled(size):
    return two_halves(size // 2, 2 * size, size)


def low_rank(n, k, d):
    """W of rank d/2, as after pretraining on half of the coordinates, the larger part of the task in the others."""
    return two_halves(n, k, d, weights=(sp.Rational(2, 5), sp.Integer(0)))


def scaled_low_rank(size):
    return low_rank(2 * size, size // 2, size)


FAMILIES = scaled, scaled_low_rank


def package(setting):
    curve = theorem_5_3(setting.problem(), setting.column("weight"))
    return {"optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}


a, g, w1, w2, b1, b2 = sp.symbols("a g w1 w2 b1 b2", positive=True)
d = sp.Symbol("d")
CLAIM_SYMBOLS = two_halves(a * d, g * d, d, weights=(w1, w2), task=(b1, b2))
CLAIM = leading_claim(
    "Any diagonal start",
    "Theorem 5.3",
    (1, 1, sp.Rational(1, 2), 1, 1, 1),
    formula,
    FAMILIES,
    [CLAIM_SYMBOLS],
    package,
)
