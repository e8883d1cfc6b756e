"""Theorem C.4 at finite size, for the step that it is true of, W - lr Sx^-1 grad Sx^-1; any W and noise, exact.

The risk is that of the plain step on white features with b~ = R b and W~ = R W R, R = Sx^(1/2). It depends on the
problem through d, n, k, s2, B = b'Sx b, x = p'W p, y = (W p)'Sx W p and z = tr(W'Sx W Sx) alone, p = Sx b, and with
these it is one step of the recursion of `new_context`.
"""

from dataclasses import replace

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check.claim import both
from proofs_check.claims import new_context
from proofs_check.claims.exact_risk import in_floats, of_oracle, random_case
from proofs_check.evidence import symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import compare_problems, judge
from proofs_check.kinds.exact import exact_claim
from proofs_check.setting import Group, Setting, of_parabola
from ttt_jax.theory.risk import exact_risk


def parabola(c, n, k, d, s2, norm2, state):
    """(c0, c1, c2) from the risks at lr = 0, 1 and 2."""
    zero, one, two = (
        new_context.risk(n, norm2, s2, new_context.recursion(c, n, k, d, norm2, s2, state, lr)) for lr in (0, 1, 2)
    )
    c2 = (two - 2 * one + zero) / 2
    return zero, zero - one + c2, c2


def on_diagonals(c, setting):
    norm2 = sum(g.feature * g.task**2 for g in setting.groups)
    x, y = (sum(g.feature * g.task**2 * (g.feature * g.weight) ** m for g in setting.groups) for m in (1, 2))
    z = setting.total(lambda g: (g.feature * g.weight) ** 2)
    return parabola(c, setting.n, setting.k, setting.d, setting.noise_var, norm2, (x, y, z))


def formula(c, setting):
    return of_parabola(*on_diagonals(c, setting))


def on_matrices(c, case):
    p = case.sx @ case.task
    state = p @ case.w @ p, (case.w @ p) @ case.sx @ (case.w @ p), np.trace(case.w.T @ case.sx @ case.w @ case.sx)
    return parabola(c, case.n, case.k, len(case.task), case.s2, case.task @ p, state)


def preconditioned(case):
    """With L = R = Sx^-1."""
    inverse = np.array(sp.Matrix(case.sx.tolist()).applyfunc(QQ.to_sympy).inv().tolist(), dtype=object)
    inverse = np.vectorize(QQ.from_sympy, otypes=[object])(inverse)
    return case._replace(left=inverse, right=inverse)


def setting(n, k, groups, noise_var):
    """Sx^-1 on both sides."""
    return Setting(n, k, tuple(g._replace(left=1 / g.feature, right=1 / g.feature) for g in groups), noise_var)


def two_groups(n, k, *weights):
    """Features of variance 4 and 1/2, noise."""
    groups = (Group(2, sp.Integer(4), weights[0], 1), Group(2, sp.Rational(1, 2), weights[1], 1))
    return setting(n, k, groups, sp.Rational(1, 3))


n, k, d, s, w, b, f, v, s2 = sp.symbols("n k d s w b f v s2", positive=True)
SYMBOLS = setting(n, k, (Group(1, s, w, b), Group(d - 1, f, v, 0)), s2)
SHORT = [preconditioned(random_case(seed, 2, *sizes)) for seed, sizes in ((1, (3, 2)), (2, (1, 4)))]
LONG = [preconditioned(random_case(7, 3, 120, 90))]
exact = exact_claim(
    "Any start, preconditioned step, exact",
    "Theorem C.4, this project",
    new_context.COEFFICIENTS,
    formula,
    SYMBOLS,
    [two_groups(3, 2, sp.Rational(1, 9), 1)],
    [two_groups(80, 60, sp.Rational(1, 1200), sp.Rational(1, 150))],
)


def prove(c):
    """The coefficients, not the gain: with nine symbols their quotients are large."""
    derived = symbolic.risk_coefficients(SYMBOLS)
    return identities({f"c{i}": pair for i, pair in enumerate(zip(on_diagonals(c, SYMBOLS), derived, strict=True))})


def independent(c):
    c = [QQ.convert(value) for value in c]
    rational = [pair for case in SHORT for pair in zip(on_matrices(c, case), of_oracle(case), strict=True)]
    package = []
    for case in SHORT:
        curve = exact_risk(*in_floats(case))
        package += zip((curve.c0, curve.c1, curve.c2), of_oracle(case), strict=True)
    return both(exact.independent(c), same_numbers(rational), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    """On matrices as well."""
    claimed = [on_matrices([QQ.convert(value) for value in c], case) for case in LONG]
    given = [in_floats(case) for case in LONG]
    return both(exact.empirical(c, effort), judge(compare_problems(given, claimed, effort)))


CLAIM = replace(exact, symbolic=prove, independent=independent, empirical=empirical)
