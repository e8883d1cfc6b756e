"""Warm start, isotropic, noiseless, approximate: lr* = d/[2 (k+d) n^2 (n+d) B], gain = k/(k+d) d^3/(n+d)^3 B."""

import sympy as sp

from proofs_check.kinds.leading import leading_claim
from proofs_check.setting import isotropic
from ttt_jax.theory.paper import theorem_4_2


def formula(c, setting):
    n, k, d, b = setting.n, setting.k, setting.d, setting.norm2
    return {
        "optimal_lr": c[0] * d / ((k + c[1] * d) * n**2 * (n + c[2] * d) * b),
        "gain": c[3] * k / (k + c[4] * d) * d**3 / (n + c[5] * d) ** 3 * b,
    }


def scaled(size):
    n, k = size // 2, 2 * size
    return isotropic(n, k, size, weight=sp.Rational(1, n + size + 1))


def package(setting):
    curve = theorem_4_2(setting.n, setting.k, int(setting.d), float(setting.norm2))
    return {"optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}


a, g, task = sp.symbols("a g beta", positive=True)
d = sp.Symbol("d")
CLAIM = leading_claim(
    "Warm start",
    "Theorem 4.2",
    (sp.Rational(1, 2), 1, 1, 1, 1, 1),
    formula,
    [scaled],
    [isotropic(a * d, g * d, d, task, weight=1 / (a * d + d + 1))],
    package,
)
