"""The best one-layer W for one task, Sx = I, noiseless: risk 2B/(n+2), at W = bb'/[(n+2) B], exact.

L is a convex quadratic in W, so a point where its gradient vanishes is a minimum.
"""

from dataclasses import replace

import sympy as sp

from proofs_check.claim import both
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.kinds.exact import exact_claim
from proofs_check.setting import Group, Setting
from ttt_jax.problem import Problem
from ttt_jax.theory.paper import lemma_c1
from ttt_jax.theory.risk import exact_risk


def formula(c, setting):
    return {"initial": c[0] * setting.norm2 / (setting.n + c[1])}


def package(setting):
    return {"initial": lemma_c1(setting.n, setting.problem().task)[0]}


def at_optimum(n, k, rest, task):
    return Setting(n, k, (Group(1, 1, 1 / sp.sympify(n + 2), task), Group(rest, 1, 0, 0)))


def stationary():
    """The gradient of Lemma B.2, 2 [W C - n b b'] with C = n(n+1) bb' + n B I, at the claimed W; d = 2."""
    n = sp.Symbol("n", positive=True)
    b = sp.Matrix(sp.symbols("b0 b1", real=True))
    norm2 = (b.T * b)[0]
    second = n * (n + 1) * b * b.T + n * norm2 * sp.eye(2)
    gradient = b * b.T / ((n + 2) * norm2) * second - n * b * b.T
    return identities({f"gradient {i}": (entry, 0) for i, entry in enumerate(gradient)})


def reached():
    """The weights of the package have the risk that it says."""
    task = [1.0, -2.0, 0.5]
    risk, weights = lemma_c1(6, task)
    return same_numbers([(exact_risk(Problem(6, 1, task), weights).initial, risk)], tolerance=FLOAT64)


n, k, rest, task = sp.symbols("n k rest beta", positive=True)
value = exact_claim(
    "Best one-layer attention",
    "Lemma C.1",
    (2, 2),
    formula,
    at_optimum(n, k, rest, task),
    [at_optimum(rows, 2, 2, task) for rows, task in ((1, 1), (6, sp.Rational(3, 2)))],
    [at_optimum(rows, 2, 2, task) for rows, task in ((6, sp.Rational(3, 2)), (20, 1))],
    package,
)
CLAIM = replace(
    value,
    symbolic=lambda c: both(stationary(), value.symbolic(c)),
    independent=lambda c: both(value.independent(c), reached()),
)
