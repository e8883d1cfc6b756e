"""Any Sx, W and noise, plain step, fresh context, approximate: gain = k A_1^2/D at lr* = A_1/(2 n^2 |p|^2 D).

With e = R (b - n W p), V = R W R, R = Sx^(1/2): A_j = e'Sx^j e, R_j = A_j + n tau tr(Sx^j V V'),
D = k R_2 + tr(Sx^2) (R_0 + s2); the initial risk is R_0 + s2.

Claims `inference_law_leading` and `projected_step_leading` say what becomes of it with other laws and other steps.
"""

from dataclasses import replace

import numpy as np
import sympy as sp

from proofs_check.claim import both
from proofs_check.claims import exact_risk
from proofs_check.claims.theorem_5_3 import two_halves
from proofs_check.evidence.equality import FLOAT64, same_numbers
from proofs_check.kinds.leading import leading_claim
from ttt_jax._internal import linalg
from ttt_jax.theory.risk import asymptotic_risk

FEATURES = sp.Rational(1, 2), sp.Rational(3, 2)
NOISE_VAR = sp.Rational(1, 4)
SAME_COEFFICIENTS = (1, 1, 1, 1, 1, 1, 1, sp.Rational(1, 2), 1)
"""Of s2 in tau; n W p in e; the spread; k R_2; the other part of D; s2 in it; the initial risk; lr*; the gain."""
COEFFICIENTS = (*SAME_COEFFICIENTS, 1, 1, 1)
"""And those of s2 in tau, n W p in e and the spread for a new context, in the initial risk and in A_1."""


def formula(c, setting):
    n, k, s2, law = setting.n, setting.k, setting.noise_var, setting.at_inference()
    groups = [group.filled() for group in setting.groups]
    tau = sum(g.feature * g.task**2 for g in groups) + c[0] * s2

    def total(function):
        return sum(g.multiplicity * function(g) for g in groups)

    def residual(g):
        return g.task * (1 - c[1] * n * g.weight * g.feature)

    def misfit(matrix):
        """E r'matrix r."""
        spread = c[2] * n * tau * total(lambda g: matrix(g) * g.feature * g.weight**2)
        return sum(matrix(g) * residual(g) ** 2 for g in groups) + spread

    def metric(g):
        return g.feature * g.left**2 * g.query

    square = total(metric)
    curvature = c[3] * k * misfit(lambda g: metric(g) * g.feature) + c[4] * square * (
        misfit(lambda g: g.feature) + c[5] * s2
    )
    if setting.evaluation == "fresh":
        tau_e = sum(g.context * g.task**2 for g in groups) + c[9] * law.noise_var

        def residual_e(g):
            return g.task * (1 - c[10] * law.scale * law.n * g.weight * g.context)

        spread = c[11] * law.scale**2 * law.n * tau_e * total(lambda g: g.query * g.context * g.weight**2)
        initial = sum(g.query * residual_e(g) ** 2 for g in groups) + spread
        slope = sum(g.feature * g.left * g.query * residual(g) * residual_e(g) for g in groups)
        size = law.scale * n * law.n * sum(g.right * g.feature * g.context * g.task**2 for g in groups)
    else:
        initial = misfit(lambda g: g.query)
        slope = misfit(lambda g: g.feature * g.left * g.query)
        size = n**2 * sum(g.right * (g.feature * g.task) ** 2 for g in groups) + n * tau * total(
            lambda g: g.right * g.feature
        )
    return {
        "initial": c[6] * initial + law.query_noise_var,
        "optimal_lr": c[7] * slope / (size * curvature),
        "gain": c[8] * k * slope**2 / curvature,
    }


def package_on_matrices(evaluation):
    """The package on correlated features and W that are not symmetric, against the formula with R = Sx^(1/2)."""
    pairs = []
    for case in exact_risk.LONG:
        problem, w, _ = exact_risk.in_floats(case, evaluation)
        b, sx, s2, n, k = problem.task, problem.feature_cov, problem.noise_var, problem.n, problem.k
        root = linalg.sqrt(sx)
        p = sx @ b
        v, e, tau = root @ w @ root, root @ (b - n * w @ p), b @ p + s2
        powers = [np.eye(len(b)), sx, sx @ sx]
        misfit = [e @ power @ e for power in powers]
        r = [a + n * tau * np.trace(power @ v @ v.T) for a, power in zip(misfit, powers, strict=True)]
        curvature = k * r[2] + np.trace(sx @ sx) * (r[0] + s2)
        fresh = evaluation == "fresh"
        slope, size = (misfit[1], n**2 * p @ p) if fresh else (r[1], n**2 * p @ p + n * tau * np.trace(sx))
        curve = asymptotic_risk(problem, w)
        pairs += [(curve.initial, r[0] + s2), (curve.optimal_lr, slope / (2 * size * curvature))]
        pairs.append((curve.c1 * curve.optimal_lr / 2, k * slope**2 / curvature))
    return same_numbers(pairs, tolerance=FLOAT64)


def package(setting):
    curve = asymptotic_risk(setting.problem(), setting.column("weight"), setting.procedure())
    return {"initial": curve.initial, "optimal_lr": curve.optimal_lr, "gain": curve.initial - curve.optimal}


def claim_for(evaluation, number, coefficients):
    def scaled(size):
        return two_halves(size // 2, 2 * size, size, features=FEATURES, noise_var=NOISE_VAR, evaluation=evaluation)

    a, g = sp.symbols("a g", positive=True)
    d = sp.Symbol("d")
    claim = leading_claim(
        f"Any start, plain step, {evaluation} context",
        number,
        coefficients,
        formula,
        [scaled],
        [two_halves(a * d, g * d, d, features=FEATURES, noise_var=NOISE_VAR, evaluation=evaluation)],
        package,
    )
    return replace(claim, independent=lambda c: both(claim.independent(c), package_on_matrices(evaluation)))


CLAIM = claim_for("fresh", "this project, for Theorem C.4", COEFFICIENTS)
