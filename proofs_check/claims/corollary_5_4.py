"""Diagonal W, Sx = I, noiseless, approximate: warm beats cold iff k/d < (s - s^2)/[c2 (2 c1 + c2)].

c1 = A/B and c2 = S/B with A and S as in Theorem 5.3, s = c1 + c2 < 1.
"""

import sympy as sp

from proofs_check.claims.theorem_5_3 import CLAIM_SYMBOLS, low_rank, misalignment, two_halves
from proofs_check.kinds.switch import switch_claim
from ttt_jax.theory.paper import corollary_5_4_switch


def ratio(c, setting):
    a, spread = misalignment((1, 1), setting)
    c1, c2 = sp.cancel(a / setting.norm2), sp.cancel(spread / setting.norm2)
    s = c1 + c2
    return (c[0] * s - c[1] * s**2) / (c2 * (c[2] * c1 + c[3] * c2))


def lead(setting):
    a, spread = misalignment((1, 1), setting)
    return spread * (2 * a + spread) / (a + spread)


def scaled(size, k):
    return two_halves(size // 2, k, size)


def scaled_low_rank(size, k):
    return low_rank(2 * size, k, size)


def package(setting):
    return corollary_5_4_switch(setting.problem(), setting.column("weight"))


CLAIM = switch_claim(
    "Warm or cold start, any diagonal W",
    "Corollary 5.4",
    (1, 1, 2, 1),
    ratio,
    lead,
    [scaled, scaled_low_rank],
    CLAIM_SYMBOLS,
    package,
)
