"""Several steps on one batch and context, Sx = I, exact: risk = c0 - 2 sum alpha_p psi_p + sum beta_(i+j) psi_i psi_j.

1 - psi_1 s - ... - psi_T s^T = prod_j (1 - lr_j s), C = E uu' and e_p = E (S^p)_11, S = Xt'Xt: 1, k, k (k + d + 1), ...

same:   alpha_p = 2^p e_p E[|u|^2p |r|^2],    beta_p = alpha_p + s2 d 2^p e_(p-1) E |u|^2p
fresh:  alpha_p = 2^p e_p E[|u|^(2p-2) r'(n bb' - W C) u],
        beta_p = 2^p e_p E[|u|^(2p-4) u'C u |r|^2] + s2 d 2^p e_(p-1) E[|u|^(2p-4) u'C u]
"""

from math import comb, prod

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, both
from proofs_check.evidence import symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.oracle import gaussian_mean
from proofs_check.evidence.simulation import Comparison, exact_curve, judge, simulate_steps
from proofs_check.evidence.wishart import wishart_moment
from proofs_check.setting import Group, Setting, isotropic
from ttt_jax.problem import EVALUATIONS, Problem
from ttt_jax.theory.schedules import one_batch

COEFFICIENTS = (2, 1, 1, 1)
"""Of sum alpha psi; of the signal and the noise in beta; of k^2 in e_2."""


def moments(c, k, d):
    """e_0, ..., e_4."""
    third = k**2 + 3 * k * (d + 1) + d**2 + 3 * d + 4
    fourth = k**3 + 6 * k**2 * (d + 1) + k * (6 * d**2 + 17 * d + 21) + d**3 + 6 * d**2 + 21 * d + 20
    return 1, k, k * (c[3] * k + d + 1), k * third, k * fourth


def formula(c, n, k, d, norm2, weight, s2, lr, evaluation):
    """The risk after one or two steps, W = weight I and B = norm2."""
    tau, e = norm2 + s2, moments(c, k, d)

    def mean(p, j, more=0):
        """E[|u|^2(p + more) (b'u)^j], from |u|^2 = (b'u)^2/B + rho."""
        total = 0
        for i in range(p + more + 1):
            rho, power = p + more - i, 2 * i + j
            for h in range(power // 2 + 1):
                gaussian = comb(power, 2 * h) * prod(range(1, 2 * h, 2)) * norm2 ** (i + j - h) * s2**h
                chi2 = symbolic.chi2_moment(n, power - h + rho) * symbolic.chi2_moment(d - 1, rho)
                total += comb(p + more, i) * gaussian * tau**rho * chi2
        return total

    def residual(p, j):
        return norm2 * mean(p, j) - 2 * weight * mean(p, j + 1) + weight**2 * mean(p, j, 1)

    def overlap(p, f):
        return n * (n + 1) * f(p, 2) + n * tau * f(p + 1, 0)

    def cross(p):
        first = n * norm2 - weight * (n * (n + 1) * norm2 + n * tau)
        square = -n * weight + n * (n + 1) * weight**2
        return first * mean(p, 1) + square * mean(p, 2) + n * tau * weight**2 * mean(p, 0, 1)

    start = norm2 - 2 * n * weight * norm2 + weight**2 * (n * (n + 1) * norm2 + n * tau * d)
    same = evaluation == "same"

    def alpha(p):
        return 2**p * e[p] * (residual(p, 0) if same else cross(p - 1))

    def beta(p):
        signal, noise = (residual(p, 0), mean(p, 0)) if same else (overlap(p - 2, residual), overlap(p - 2, mean))
        return 2**p * (c[1] * e[p] * signal + c[2] * s2 * d * e[p - 1] * noise)

    psi = (lr[0],) if len(lr) == 1 else (lr[0] + lr[1], -lr[0] * lr[1])
    linear = sum(alpha(i) * a for i, a in enumerate(psi, start=1))
    square = sum(beta(i + j) * a * b for i, a in enumerate(psi, start=1) for j, b in enumerate(psi, start=1))
    return s2 + start - c[0] * linear + square


def prove(c):
    """One step is the exact parabola, in n, k, d, W, B, s2; e_p by Wick's pairings. More steps are powers of one S."""
    n, k, d, w, b, s2, lr = sp.symbols("n k d w b s2 lr")
    pairs = {f"e_{p}": (moments(c, k, d)[p], wishart_moment(p)) for p in range(1, 5)}
    for evaluation in EVALUATIONS:
        c0, c1, c2 = symbolic.risk_coefficients(Setting(n, k, (Group(d, 1, w, b),), s2, evaluation))
        claimed = formula(c, n, k, d, b**2, w, s2, (lr,), evaluation)
        pairs[f"one step, {evaluation}"] = (claimed, c0 - c1 * lr + c2 * lr**2)
    return identities(pairs)


def by_entries(task, noise, weight, lr, evaluation):
    """The risk after steps on one pair and one query of one feature, from its four Gaussian entries alone."""
    _, x, z, query, other = ring("x z query other", QQ)
    u, b = x * (x * task + z * noise), task
    tau = b**2 + noise**2
    residual, change = b - u * weight, 0 * x  # r and, in b - (W + change u) u_e, the change
    for size in lr:
        now = residual - change * u**2
        change = change + (query * (query * now + other * noise)) * (2 * size)

    if evaluation == "same":
        return noise**2 + gaussian_mean((residual - change * u**2) ** 2)
    second = 2 * b**2 + tau  # E u_e^2, n = 1
    kept = b**2 - 2 * b * weight * b + weight**2 * second  # E r_e^2
    cross = b * b - weight * second  # E r_e u_e
    return noise**2 + kept + gaussian_mean(change**2 * u**2 * second - 2 * change * u * cross)


def independent(c):
    task, noise, weight, lr = QQ(3, 2), QQ(1, 2), QQ(1, 7), (QQ(1, 50), QQ(1, 30))
    pairs, package = [], []
    for evaluation in EVALUATIONS:
        exact = by_entries(task, noise, weight, lr, evaluation)
        numbers = [QQ.to_sympy(x) for x in (task**2, weight, noise**2, *lr)]
        pairs.append((formula(c, 1, 1, 1, *numbers[:3], numbers[3:], evaluation), exact))
        problem = Problem(4, 6, np.array([1.5, 0.0]), noise_var=0.25, evaluation=evaluation)
        sizes = [1e-4, 2e-4]
        rational = [sp.Rational(size) for size in sizes]
        claimed = formula(
            COEFFICIENTS, 4, 6, 2, sp.Rational(9, 4), sp.Rational(1, 8), sp.Rational(1, 4), rational, evaluation
        )
        package.append((one_batch(problem, 0.125, 2).risks(sizes)[-1], claimed))
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    rows = []
    for i, evaluation in enumerate(EVALUATIONS):
        setting = isotropic(60, 20, 4, 1, sp.Rational(1, 2), sp.Rational(1, 100), evaluation)
        best = exact_curve(setting).optimal_lr
        lr = (best * 0.5, best * 0.3)
        found = simulate_steps(setting, lr, False, effort.num_small, effort.seed + i)
        for t in (1, 2):
            claimed = float(formula(c, 60, 20, 4, 1.0, 0.01, 0.5, lr[:t], evaluation))
            rows.append(Comparison(claimed, float(found.mean[t]), float(found.stderr[t])))
    return judge([rows])


CLAIM = Claim("Several steps, one batch, exact", "this project", COEFFICIENTS, prove, independent, empirical)
