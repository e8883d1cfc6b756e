"""Any Sx, W and noise, plain step, fresh context, approximate: gain = k A_1^2/D at lr* = A_1/(2 n^2 |p|^2 D).

With e = R (b - n W p), V = R W R, R = Sx^(1/2): A_j = e'Sx^j e, R_j = A_j + n tau tr(Sx^j V V'),
D = k R_2 + tr(Sx^2) (R_0 + s2); the initial risk is R_0 + s2.
"""

from dataclasses import replace

import numpy as np
import sympy as sp

from proofs_check.claim import FLOAT64, both, leading_claim, same_numbers
from proofs_check.claims import exact_risk
from proofs_check.claims.theorem_5_3 import two_halves
from ttt_jax._internal import linalg
from ttt_jax.theory.risk import asymptotic_risk

FEATURES = sp.Rational(1, 2), sp.Rational(3, 2)
NOISE_VAR = sp.Rational(1, 4)


def formula(c, setting):
    n, k, s2, groups = setting.n, setting.k, setting.noise_var, setting.groups
    tau = sum(g.feature * g.task**2 for g in groups) + c[0] * s2
    p2 = sum((g.feature * g.task) ** 2 for g in groups)

    def misfit(j):
        return sum(g.feature ** (j + 1) * (g.task - c[1] * n * g.weight * g.feature * g.task) ** 2 for g in groups)

    def total_misfit(j):
        return misfit(j) + c[2] * n * tau * setting.total(lambda g: g.feature ** (j + 2) * g.weight**2)

    square = setting.total(lambda g: g.feature**2)
    curvature = c[3] * k * total_misfit(2) + c[4] * square * (total_misfit(0) + c[5] * s2)
    fresh = setting.evaluation == "fresh"
    size = n**2 * p2 if fresh else n**2 * p2 + n * tau * setting.total(lambda g: g.feature)
    slope = misfit(1) if fresh else total_misfit(1)
    return {
        "initial": c[6] * total_misfit(0) + s2,
        "optimal_lr": c[7] * slope / (size * curvature),
        "gain": c[8] * k * slope**2 / curvature,
    }


def package_on_matrices(evaluation):
    """The package on correlated features and W that are not symmetric, against the formula with R = Sx^(1/2)."""
    pairs = []
    for problem, (b, sx, s2, w, n, k) in exact_risk.ARGUMENTS.items():
        root = linalg.sqrt(sx)
        p = sx @ b
        v, e, tau = root @ w @ root, root @ (b - n * w @ p), b @ p + s2
        powers = [np.eye(len(b)), sx, sx @ sx]
        misfit = [e @ power @ e for power in powers]
        r = [a + n * tau * np.trace(power @ v @ v.T) for a, power in zip(misfit, powers, strict=True)]
        curvature = k * r[2] + np.trace(sx @ sx) * (r[0] + s2)
        fresh = evaluation == "fresh"
        slope, size = (misfit[1], n**2 * p @ p) if fresh else (r[1], n**2 * p @ p + n * tau * np.trace(sx))
        curve = asymptotic_risk(replace(problem, evaluation=evaluation), w)
        pairs += [(curve.initial, r[0] + s2), (curve.optimal_lr, slope / (2 * size * curvature))]
        pairs.append((curve.c1 * curve.optimal_lr / 2, k * slope**2 / curvature))
    return same_numbers(pairs, tolerance=FLOAT64)


def claim_for(evaluation, number):
    def scaled(size):
        return two_halves(size // 2, 2 * size, size, features=FEATURES, noise_var=NOISE_VAR, evaluation=evaluation)

    def package(problem, weights):
        curve = asymptotic_risk(problem, weights)
        return {"initial": curve.initial, "optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}

    a, g = sp.symbols("a g", positive=True)
    d = sp.Symbol("d")
    claim = leading_claim(
        f"Any start, plain step, {evaluation} context",
        number,
        (1, 1, 1, 1, 1, 1, 1, sp.Rational(1, 2), 1),
        formula,
        [scaled],
        two_halves(a * d, g * d, d, features=FEATURES, noise_var=NOISE_VAR, evaluation=evaluation),
        package,
    )
    return replace(claim, independent=lambda c: both(claim.independent(c), package_on_matrices(evaluation)))


CLAIM = claim_for("fresh", "this project, for Theorem C.4")
