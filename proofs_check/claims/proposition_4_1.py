"""Isotropic, with noise, exact: W* = I/N, N = n+d+1+s2, has risk B [(d+1+s2) N - s2 n]/N^2 + s2 n d/N^2 + s2."""

import sympy as sp

from proofs_check.kinds.exact import LONG, SHORT, exact_claim, isotropic_settings
from proofs_check.setting import isotropic
from ttt_jax.theory.paper import proposition_4_1_risk


def formula(c, setting):
    n, d, b, s2 = setting.n, setting.d, setting.norm2, setting.noise_var
    total = n + d + 1 + s2
    signal = (c[0] * d + c[1] + c[2] * s2) * total - c[3] * s2 * n
    return {"initial": b * signal / total**2 + c[4] * s2 * n * d / total**2 + c[5] * s2}


def package(setting):
    return {"initial": proposition_4_1_risk(setting.n, int(setting.d), float(setting.norm2), float(setting.noise_var))}


def weight(n, d, s2):
    return 1 / sp.sympify(n + d + 1 + s2)


n, k, d, task, s2 = sp.symbols("n k d beta s2", positive=True)
CLAIM = exact_claim(
    "Pretrained risk",
    "Proposition 4.1",
    (1, 1, 1, 1, 1, 1),
    formula,
    isotropic(n, k, d, task, s2, weight(n, d, s2)),
    isotropic_settings(SHORT, weight),
    isotropic_settings(LONG, weight),
    package,
)
