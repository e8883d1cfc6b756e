"""Commuting Sx and W, noiseless, approximate: Theorem 5.3 with b~ = Sx^(1/2) b, W~ = Sx^(1/2) W Sx^(1/2), for one step.

The step is W - lr Sx^-1 grad Sx^-1, for which whitening the features turns it into the plain step. The paper states the
result for the plain step, of which it is not true: see `leading_order`. `preconditioned_step` is its exact form.
"""

from dataclasses import replace

import numpy as np
import sympy as sp

from proofs_check.claim import both
from proofs_check.claims import theorem_5_3
from proofs_check.claims.theorem_5_3 import two_halves
from proofs_check.evidence.equality import FLOAT64, same_numbers
from proofs_check.kinds.leading import leading_claim
from ttt_jax.problem import Problem
from ttt_jax.theory import paper

VARIANCES = sp.Integer(2), sp.Rational(1, 2)


def whitened(setting):
    """The setting with b~ and W~ in place of b and W, and white features."""
    groups = (
        g._replace(feature=1, weight=g.feature * g.weight, task=sp.sqrt(g.feature) * g.task, left=1, right=1)
        for g in setting.groups
    )
    return replace(setting, groups=tuple(groups))


def formula(c, setting):
    return theorem_5_3.formula(c, whitened(setting))


def coloured(n, k, d, variances=VARIANCES, **options):
    plain = two_halves(n, k, d, features=variances, **options)
    return replace(plain, groups=tuple(g._replace(left=1 / g.feature, right=1 / g.feature) for g in plain.groups))


def scaled(size):
    return coloured(size // 2, 2 * size, size, weights=(sp.Rational(2, 5), sp.Rational(4, 5)))


def scaled_low_rank(size):
    return coloured(2 * size, size // 2, size, weights=(sp.Rational(1, 5), sp.Integer(0)))


def package(setting):
    curve = paper.theorem_c4(setting.problem(), setting.column("weight"))
    return {"optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}


def rotated():
    """The package on the same problem in other axes, where Sx and W are matrices."""
    d = 4
    basis = np.linalg.qr(np.vander(np.arange(1.0, d + 1)))[0]
    sx, w, b = np.array([4.0, 4.0, 0.25, 1.0]), np.array([0.02, 0.01, 0.1, 0.05]), np.array([1.0, 0.5, 2.0, -1.0])
    problems = Problem(6, 9, b, sx), Problem(6, 9, basis @ b, basis * sx @ basis.T)
    curves = [paper.theorem_c4(*x) for x in zip(problems, (w, basis * w @ basis.T), strict=True)]
    return same_numbers(zip(*((x.initial, x.c1, x.c2) for x in curves), strict=True), tolerance=FLOAT64)


a, g, w1, w2, b1, b2, s1, s2 = sp.symbols("a g w1 w2 b1 b2 s1 s2", positive=True)
d = sp.Symbol("d")
leading = leading_claim(
    "Any start, preconditioned step",
    "Theorem C.4",
    theorem_5_3.CLAIM.coefficients,
    formula,
    [scaled, scaled_low_rank],
    [coloured(a * d, g * d, d, variances=(s1, s2), weights=(w1, w2), task=(b1, b2))],
    package,
)
CLAIM = replace(leading, independent=lambda c: both(rotated(), leading.independent(c)))
