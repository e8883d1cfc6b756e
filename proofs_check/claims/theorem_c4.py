"""Commuting Sx and W, noiseless, approximate: Theorem 5.3 with b~ = Sx^(1/2) b, W~ = Sx^(1/2) W Sx^(1/2), for one step.

The step is W - lr Sx^-1 grad Sx^-1, for which whitening the features turns it into the plain step. The paper states the
result for the plain step, of which it is not true: see `leading_order`.
"""

from dataclasses import replace

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check import oracle
from proofs_check.claim import FLOAT64, both, leading_claim, same_numbers
from proofs_check.claims import theorem_5_3
from ttt_jax.problem import Problem
from ttt_jax.theory import paper

FEATURE_VARIANCES = 4, sp.Rational(1, 4)


def package(problem, weights):
    """The theorem for features of variance 4 and 1/4 whose whitened problem is the given one."""
    sx = np.repeat([float(x) for x in FEATURE_VARIANCES], problem.d // 2)
    coloured = Problem(problem.n, problem.k, problem.task / np.sqrt(sx), sx)
    curve = paper.theorem_c4(coloured, weights / sx)
    return {"optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}


def whitening():
    """The preconditioned step on coloured features has the coefficients of the plain step on white ones."""
    n, k, s2 = 3, 2, QQ(1, 3)
    white = oracle.risk_coefficients([1, QQ(1, 2)], [[1, 0], [0, 1]], s2, [[QQ(1, 5), 0], [0, QQ(1, 9)]], n, k)
    coloured = oracle.risk_coefficients(
        [QQ(1, 2), 1], [[4, 0], [0, QQ(1, 4)]], s2, [[QQ(1, 20), 0], [0, QQ(4, 9)]], n, k,
        preconditioner=[[QQ(1, 4), 0], [0, 4]],
    )  # fmt: skip
    return same_numbers((QQ.to_sympy(x), QQ.to_sympy(y)) for x, y in zip(coloured, white, strict=True))


def rotated():
    """The package on the same problem in other axes, where Sx and W are matrices."""
    d = 4
    basis = np.linalg.qr(np.vander(np.arange(1.0, d + 1)))[0]
    sx, w, b = np.array([4.0, 4.0, 0.25, 1.0]), np.array([0.02, 0.01, 0.1, 0.05]), np.array([1.0, 0.5, 2.0, -1.0])
    problems = Problem(6, 9, b, sx), Problem(6, 9, basis @ b, basis * sx @ basis.T)
    curves = [paper.theorem_c4(*x) for x in zip(problems, (w, basis * w @ basis.T), strict=True)]
    return same_numbers(zip(*((x.initial, x.c1, x.c2) for x in curves), strict=True), tolerance=FLOAT64)


def independent(c):
    return both(whitening(), rotated(), leading.independent(c))


leading = leading_claim(
    "Any start, preconditioned step",
    "Theorem C.4",
    theorem_5_3.CLAIM.coefficients,
    theorem_5_3.formula,
    theorem_5_3.scaled,
    theorem_5_3.CLAIM_SYMBOLS,
    package,
)
CLAIM = replace(leading, independent=independent)
