"""Cold start, isotropic, with noise, exact: lr* = B^2/(2PQ) and gain = k n^2 B^4/(PQ).

P = s2 d + (k+d+1) B and Q = s2^2 d + (n^2+4n+3+d) B^2 + 2 s2 (n+d+1) B.
"""

import sympy as sp

from proofs_check.kinds.exact import LONG, SHORT, exact_claim, isotropic_settings
from proofs_check.setting import isotropic
from ttt_jax.theory.paper import theorem_4_5


def formula(c, setting):
    n, k, d, b, s2 = setting.n, setting.k, setting.d, setting.norm2, setting.noise_var
    p = c[0] * s2 * d + (k + c[1] * d + c[2]) * b
    q = c[3] * s2**2 * d + (n**2 + c[4] * n + c[5] + c[6] * d) * b**2 + c[7] * s2 * (n + c[8] * d + c[9]) * b
    return {"optimal_lr": c[10] * b**2 / (p * q), "gain": c[11] * k * n**2 * b**4 / (p * q)}


def package(setting):
    curve = theorem_4_5(setting.n, setting.k, int(setting.d), float(setting.norm2), float(setting.noise_var))
    return {"initial": curve.initial, "optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}


n, k, d, task, s2 = sp.symbols("n k d beta s2", positive=True)
CLAIM = exact_claim(
    "Cold start",
    "Theorem 4.5",
    (1, 1, 1, 1, 4, 3, 1, 2, 1, 1, sp.Rational(1, 2), 1),
    formula,
    isotropic(n, k, d, task, s2),
    isotropic_settings(SHORT),
    isotropic_settings(LONG),
    package,
)
