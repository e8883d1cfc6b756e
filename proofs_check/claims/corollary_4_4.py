"""Isotropic warm start, approximate: for g = k/d > 1/2 the risk is largest at a = n/d = sqrt(3g/(g+1)) - 1."""

import sympy as sp

from proofs_check.claim import (
    ORACLE_SIZES,
    Claim,
    Verdict,
    falls_like_1_over_d,
    identities,
    isotropic,
    not_applicable,
    quantities_in_symbols,
    quantities_of_oracle,
)
from proofs_check.symbolic import leading
from ttt_jax.theory.paper import corollary_4_4_turning_point


def turning_point(c, g):
    return sp.sqrt(c[0] * g / (g + c[1])) - c[2]


def warm(n, k, d):
    return isotropic(n, k, d, weight=1 / sp.sympify(n + d + 1))


def symbolic(c):
    a, g, d = sp.Symbol("a", positive=True), sp.Symbol("g", positive=True), sp.Symbol("d")
    q = quantities_in_symbols(warm(a * d, g * d, d))
    slope = sp.diff(leading(q["initial"] - q["gain"], d), a)
    return identities({"slope of the limit": (sp.simplify(slope.subs(a, turning_point(c, g))), 0)})


def independent(c):
    """d/2 times the difference between n+1 and n-1, at g = 3, where the turning point is 1/2."""

    def slope(d):
        n = round(turning_point(c, 3) * d)
        above, below = (quantities_of_oracle(warm(rows, 3 * d, d)) for rows in (n + 1, n - 1))
        return (above["initial"] - above["gain"] - below["initial"] + below["gain"]) * d / 2

    if abs(corollary_4_4_turning_point(3.0) - 0.5) > 1e-12:
        return Verdict(False, "the package differs")
    return falls_like_1_over_d(ORACLE_SIZES, [slope(d) for d in ORACLE_SIZES])


def empirical(c, effort):
    return not_applicable("the maximum is too flat to be located by simulation; Theorem 4.2 simulates the risk")


CLAIM = Claim("Where more context hurts", "Corollary 4.4", (3, 1, 1), symbolic, independent, empirical)
