"""The exact risk for every W, Sx, b, s2, n, k: risk(lr) = c0 - c1 lr + c2 lr^2.

With r = b - W u, C = E uu', M = E u r', Q = k (k+1) Sx^3 + k tr(Sx^2) Sx and q = s2 k tr(Sx^2):

    c0 = s2 + E r'Sx r,   c1 = 4 k tr(Sx^2 M'M),  c2 = 4 E[u'C u (r'Q r + q)]          (fresh context)
                          c1 = 4 k E[|u|^2 r'Sx^2 r],  c2 = 4 E[|u|^4 (r'Q r + q)]     (same context)
"""

import random
from dataclasses import replace

import numpy as np
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check import oracle, symbolic
from proofs_check.claim import CONFIDENCE, FLOAT64, Claim, Verdict, both, of_check, same_numbers, simulate
from proofs_check.moments import (
    QUADRATIC_LINEAR,
    QUADRATIC_PAIR,
    QUADRATIC_TRIPLE,
    chi2_mean,
    quadratic,
    quadratic_linear,
    quadratic_pair,
    quadratic_triple,
)
from proofs_check.oracle import Group
from ttt_jax.problem import Problem
from ttt_jax.theory import exact_risk
from ttt_jax.verdict.claim import check

COEFFICIENTS = (4, 4, 1, 1, 1, 1, 1, 2)
"""Of c1; of c2; of k(k+1), of k tr(Sx^2) in Q; of q; of n(n+1) and n tau in C; of the cross term in r'Qr."""


def formula(c, task, sx, s2, w, n, k, evaluation):
    """(c0, c1, c2) in any kind of number."""
    p = sx @ task
    tau = task @ p + s2
    g = sx * tau - np.outer(p, p)  # numbers stay on the right of arrays: they may be symbols
    second = np.outer(p, p) * (c[5] * n * (n + 1)) + sx * (c[6] * n * tau)  # C
    cross = np.outer(p, task) * n - second @ w.T  # M
    square = np.trace(sx @ sx)
    q_matrix = sx @ sx @ sx * (c[2] * k * (k + 1)) + sx * (c[3] * k * square)
    q = c[4] * s2 * k * square
    c0 = s2 + task @ p - (p @ w @ p) * (c[7] * n) + np.trace(w.T @ sx @ w @ second)

    def times_residual(scale, matrix):
        """E[u'Fu r'Ar] for F = scale, A = matrix."""
        h, curved = w.T @ matrix @ task, w.T @ matrix @ w
        return (
            (task @ matrix @ task) * chi2_mean(quadratic(scale, p, g), n)
            - c[7] * chi2_mean(quadratic_linear(QUADRATIC_LINEAR, scale, h, p, g), n)
            + chi2_mean(quadratic_pair(QUADRATIC_PAIR, scale, curved, p, g), n)
        )

    if evaluation == "fresh":
        c1 = np.trace(sx @ sx @ cross.T @ cross)
        c2 = times_residual(second, q_matrix) + q * chi2_mean(quadratic(second, p, g), n)
        return c0, c[0] * k * c1, c[1] * c2
    one = np.eye(len(task), dtype=int).astype(object)
    c1 = times_residual(one, sx @ sx)
    h, curved = w.T @ q_matrix @ task, w.T @ q_matrix @ w
    fourth = quadratic_pair(QUADRATIC_PAIR, one, one, p, g)
    pull = quadratic_linear(QUADRATIC_LINEAR, one, g @ h, p, g)  # E[|u|^4 h'u] = t h'p E|u|^4 + 4 t E[|u|^2 (G h)'u]
    linear = {power + 1: (h @ p) * x for power, x in fourth.items()}
    c2 = (task @ q_matrix @ task + q) * chi2_mean(fourth, n)
    c2 -= c[7] * (chi2_mean(linear, n) + chi2_mean({power + 1: 4 * x for power, x in pull.items()}, n))
    c2 += chi2_mean(quadratic_triple(QUADRATIC_TRIPLE, one, one, curved, p, g), n)
    return c0, c[0] * k * c1, c[1] * c2


def random_problem(seed: int, d: int, n: int, k: int) -> tuple:
    """Correlated features, non-symmetric W of the size of a useful one, noise; all rational."""
    rng = random.Random(seed)

    def number():
        return QQ(rng.randint(-4, 4), 4)

    root = [[number() + (i == j) for j in range(d)] for i in range(d)]
    sx = np.array([[sum(x * y for x, y in zip(a, b, strict=True)) for b in root] for a in root], dtype=object)
    w = np.array([[(number() / 2 + (i == j)) / (2 * n + d) for j in range(d)] for i in range(d)], dtype=object)
    return np.array([number() + 1 for _ in range(d)], dtype=object), sx, QQ(rng.randint(0, 2), 2), w, n, k


ORACLE_SIZES = (1, 1, 1), (2, 3, 1), (2, 1, 5), (3, 4, 2)
SIMULATED_SIZES = (60, 60), (100, 30), (80, 80)
"""n and k at which the tails of the risk, also with the same context, are within the reach of a quick simulation."""
ORACLE_PROBLEMS = [random_problem(seed, d, n, k) for seed, (d, n, k) in enumerate(ORACLE_SIZES)]
SIMULATED_PROBLEMS = [random_problem(seed, 3, n, k) for seed, (n, k) in enumerate(SIMULATED_SIZES)]
PACKAGE_PROBLEMS = [tuple(np.array(x, dtype=float) for x in problem) for problem in SIMULATED_PROBLEMS]
PROBLEMS = [Problem(int(n), int(k), b, sx, float(s2)) for b, sx, s2, _, n, k in PACKAGE_PROBLEMS]
ARGUMENTS = dict(zip(PROBLEMS, PACKAGE_PROBLEMS, strict=True))


def claim_for(evaluation: str) -> Claim:
    def prove(c):
        _, *x = ring(["n", "k", "b0", "b1", "x0", "x1", "w0", "w1", "s2"], QQ)
        n, k, b0, b1, x0, x1, w0, w1, s2 = x
        claimed = formula(
            [QQ.convert(a) for a in c],
            np.array([b0, b1]),
            np.array([[x0, 0 * x0], [0 * x0, x1]]),
            s2,
            np.array([[w0, 0 * x0], [0 * x0, w1]]),
            n,
            k,
            evaluation,
        )
        groups = [
            Group(1, x0.as_expr(), w0.as_expr(), b0.as_expr()),
            Group(1, x1.as_expr(), w1.as_expr(), b1.as_expr()),
        ]
        derived = symbolic.risk_coefficients(groups, s2.as_expr(), n.as_expr(), k.as_expr(), evaluation)
        same = all(value == n.ring.from_expr(expr) for value, expr in zip(claimed, derived, strict=True))
        return Verdict(same, "identity at d = 2 for diagonal Sx, W" if same else "a coefficient differs")

    def independent(c):
        c = [QQ.convert(a) for a in c]
        rational = same_numbers(
            (QQ.to_sympy(QQ.convert(x)), QQ.to_sympy(y))
            for problem in ORACLE_PROBLEMS
            for x, y in zip(
                formula(c, *problem, evaluation), oracle.risk_coefficients(*problem, evaluation), strict=True
            )
        )
        package = same_numbers(
            (
                (
                    getattr(exact_risk(replace(given, evaluation=evaluation), ARGUMENTS[given][3]), name),
                    QQ.to_sympy(value),
                )
                for given, problem in zip(PROBLEMS, SIMULATED_PROBLEMS, strict=True)
                for name, value in zip(("c0", "c1", "c2"), oracle.risk_coefficients(*problem, evaluation), strict=True)
            ),
            tolerance=FLOAT64,
        )
        return both(rational, package)

    def empirical(c, effort):
        arguments = {replace(given, evaluation=evaluation): values for given, values in ARGUMENTS.items()}

        def quantity(key):
            def claim(problem):
                c0, c1, c2 = (float(x) for x in formula([float(x) for x in c], *arguments[problem], evaluation))
                return {"initial": c0, "optimal_lr": c1 / (2 * c2), "gain": c1**2 / (4 * c2)}[key]

            return check(
                claim,
                arguments,
                start=lambda problem: arguments[problem][3],
                quantity=key,
                num_tasks=effort.num_small,
                seed=effort.seed,
                confidence=CONFIDENCE,
                simulate=simulate,
            )

        return of_check([quantity(key) for key in ("initial", "optimal_lr", "gain")])

    return Claim(f"Exact risk, {evaluation} context", "this project", COEFFICIENTS, prove, independent, empirical)


CLAIM = claim_for("fresh")
