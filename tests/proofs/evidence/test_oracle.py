"""The oracle against the expansion of a whole data set, and exact_risk against the oracle."""

import math
import random

import numpy as np
import pytest
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.evidence import oracle
from proofs_check.setting import Group, Setting
from ttt_jax.problem import Problem
from ttt_jax.theory.risk import exact_risk


def rational(rng: random.Random) -> QQ:
    return QQ(rng.randint(-6, 6), rng.randint(1, 6))


def random_problem(seed: int, d: int) -> tuple:
    """Task, correlated feature covariance, noise and non-symmetric weights, all rational."""
    rng = random.Random(seed)
    root = [[rational(rng) for _ in range(d)] for _ in range(d)]
    feature_cov = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in root] for x in root]
    weights = [[rational(rng) / 5 for _ in range(d)] for _ in range(d)]
    return [rational(rng) for _ in range(d)], feature_cov, rng.choice([QQ(0), QQ(1, 3)]), weights


def relative_errors(problem: tuple, n: int, k: int, evaluation: str) -> list[float]:
    task, feature_cov, noise_var, weights = problem
    reference = oracle.risk_coefficients(task, feature_cov, noise_var, weights, n, k, evaluation)
    dense_cov, dense_weights = (np.array(m, dtype=float) for m in (feature_cov, weights))
    given = Problem(n, k, [float(b) for b in task], dense_cov, float(noise_var), evaluation=evaluation)
    curve = exact_risk(given, dense_weights)
    return [
        abs(value / float(exact) - 1) if exact else abs(value)
        for value, exact in zip((curve.c0, curve.c1, curve.c2), reference, strict=True)
    ]


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize(
    ("d", "n", "k"), [(1, 1, 1), (1, 3, 2), (2, 1, 4), (2, 6, 1), (2, 40, 900), (3, 1, 1), (3, 4, 3)]
)
def test_exact_risk_on_random_problems(d, n, k, evaluation):
    for seed in range(8 if d < 3 else 3):
        assert max(relative_errors(random_problem(seed, d), n, k, evaluation)) < 1e-12


def test_the_oracle_against_the_expansion_of_every_entry():
    """d = 1, n = 2, k = 2: the risk as one polynomial in the 13 Gaussian entries and the step size."""
    names = "x1 x2 z1 z2 e1 e2 f1 f2 t1 t2 s1 s2 lr"
    _, *symbols = ring(names.split(), QQ)
    (x1, x2, z1, z2, e1, e2, f1, f2, t1, t2, s1, s2, lr) = symbols
    b, variance, noise_var, w = QQ(2, 3), QQ(4, 9), QQ(1, 4), QQ(1, 7)
    scale, noise = QQ(2, 3), QQ(1, 2)  # square roots of the variances

    def summary(rows):
        return sum((scale * x) * (scale * x * b + noise * z) for x, z in rows)

    u, u_fresh, training = summary([(x1, z1), (x2, z2)]), summary([(e1, f1), (e2, f2)]), [(t1, s1), (t2, s2)]
    gradient = sum(-2 * (scale * x * (b - w * u) + noise * s) * scale * x * u for x, s in training)
    for evaluation, u_eval in (("fresh", u_fresh), ("same", u)):
        risk = noise_var + variance * (b - (w - lr * gradient) * u_eval) ** 2
        moments = [QQ(0)] * 3
        for powers, c in risk.terms():
            *entries, degree = powers
            if all(m % 2 == 0 for m in entries):
                moments[degree] += c * math.prod(math.prod(range(1, m, 2)) for m in entries)
        c0, c1, c2 = oracle.risk_coefficients([b], [[variance]], noise_var, [[w]], 2, 2, evaluation)
        assert moments == [c0, -c1, c2]


def test_grouped_coefficients_are_those_of_the_written_out_problem():
    groups = Group(3, QQ(2), QQ(1, 9), QQ(1, 2), QQ(1, 3), QQ(2)), Group(1, QQ(1, 3), QQ(1, 5), QQ(1), QQ(3), QQ(1, 2))
    diagonal = [[QQ(2), QQ(1, 9), QQ(1, 3), QQ(2)]] * 3 + [[QQ(1, 3), QQ(1, 5), QQ(3), QQ(1, 2)]]
    sx, w, left, right = (
        [[row[c] if i == j else 0 for j in range(4)] for i, row in enumerate(diagonal)] for c in range(4)
    )
    task = [QQ(1, 2), 0, 0, QQ(1)]
    grouped = oracle.grouped_coefficients(Setting(3, 2, groups, QQ(1, 4), "same"))
    assert grouped == oracle.risk_coefficients(task, sx, QQ(1, 4), w, 3, 2, "same", left=left, right=right)
