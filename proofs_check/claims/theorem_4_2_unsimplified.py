"""Warm start before simplification, as drawn in Figure 1; isotropic, noiseless, approximate.

gain(lr) = 4 lr k n^2 d^2 B^2/(n+d+1)^2 - 4 lr^2 k (k+d+1) n^2 d (n+d) (n^2+d) B^3/(n+d+1)^2, here at its maximum.
"""

import sympy as sp

from proofs_check.claims.theorem_4_2 import scaled
from proofs_check.kinds.leading import leading_claim
from proofs_check.setting import isotropic
from ttt_jax.theory.paper import theorem_4_2


def formula(c, setting):
    n, k, d, b = setting.n, setting.k, setting.d, setting.norm2
    common = 4 * k * n**2 * d / (n + c[0] * d + 1) ** 2
    c1, c2 = c[1] * common * d * b**2, common * (k + c[2] * d + 1) * (n + c[3] * d) * (c[4] * n**2 + d) * b**3
    return {"optimal_lr": c1 / (2 * c2), "gain": c1**2 / (4 * c2)}


def package(setting):
    curve = theorem_4_2(setting.n, setting.k, int(setting.d), float(setting.norm2), simplified=False)
    return {"optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}


a, g, task = sp.symbols("a g beta", positive=True)
d = sp.Symbol("d")
CLAIM = leading_claim(
    "Warm start, unsimplified",
    "Theorem 4.2, proof",
    (1, 1, 1, 1, 1),
    formula,
    [scaled],
    [isotropic(a * d, g * d, d, task, weight=1 / (a * d + d + 1))],
    package,
)
