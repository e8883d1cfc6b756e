"""Isotropic, noiseless, approximate: the warm start beats the cold one iff k/d < (a+1)^2/(a+2), a = n/d."""

import sympy as sp

from proofs_check.kinds.switch import switch_claim
from proofs_check.setting import isotropic
from ttt_jax.theory.paper import corollary_4_6_switch


def ratio(c, setting):
    a = sp.cancel(sp.sympify(setting.n) / setting.d)
    return c[0] * (a + c[1]) ** 2 / (a + c[2])


def lead(setting):
    a = sp.cancel(sp.sympify(setting.n) / setting.d)
    return setting.norm2 * a * (a + 2) / (a + 1) ** 3


def scaled(size, k):
    return isotropic(size // 2, k, size, weight=sp.Rational(1, size // 2 + size + 1))


def long_context(size, k):
    return isotropic(3 * size, k, size, weight=sp.Rational(1, 4 * size + 1))


a, g, d = sp.Symbol("a", positive=True), sp.Symbol("g", positive=True), sp.Symbol("d")
CLAIM = switch_claim(
    "Warm or cold start",
    "Corollary 4.6",
    (1, 1, 2),
    ratio,
    lead,
    [scaled, long_context],
    isotropic(a * d, g * d, d, weight=1 / (a * d + d + 1)),
    lambda setting: corollary_4_6_switch(setting.n / setting.d),
)
