"""Random tasks b ~ N(0, v I), cold start, isotropic, noiseless, one step size for all tasks, exact:

    lr* = 1 / [2 v (d+4) (k+d+1) (n^2+4n+3+d)],    gain = v d (d+2) k n^2 / [(d+4) (k+d+1) (n^2+4n+3+d)].

It is the optimum of the averaged parabola, E c1 / (2 E c2); c0, c1 and c2 have degree 2, 4 and 6 in b.
"""

import itertools
from dataclasses import replace
from functools import lru_cache

import jax
import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check.claim import Claim, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import Given, judge, judge_samples, simulate_best
from proofs_check.setting import isotropic, of_parabola
from ttt_jax.problem import GaussianTasks, Problem
from ttt_jax.theory.risk import exact_risk
from ttt_jax.theory.task_average import draw_tasks

NODES = range(-3, 4)
CASES = (3, 4, 1, QQ(1)), (5, 2, 2, QQ(9, 4))
"""n, k, d and v, a rational square."""
FEATURE_COV, WEIGHTS = [[QQ(2), QQ(1, 2)], [QQ(1, 2), QQ(1)]], [[QQ(1, 9), QQ(1, 20)], [QQ(-1, 30), QQ(1, 12)]]
TASK_MEAN, TASK_ROOT, NOISE_VAR = [QQ(1), QQ(0)], [[QQ(1), QQ(0)], [QQ(1, 2), QQ(1, 3)]], QQ(1, 3)
TASKS = GaussianTasks(np.array(TASK_MEAN, float), np.array(TASK_ROOT, float) @ np.array(TASK_ROOT, float).T)


def formula(c, n, k, d, v):
    shared = (d + c[1]) * (k + d + c[2]) * (n**2 + c[3] * n + c[4] + d)
    return {"optimal_lr": c[0] / (v * shared), "gain": c[5] * v * d * (d + c[6]) * k * n**2 / shared}


def prove(c):
    """Every power of B = |b|^2 in the coefficients of a fixed task is replaced by its mean, B ~ v chi2(d)."""
    n, k, d, v, beta = sp.symbols("n k d v beta", positive=True)
    fixed = isotropic(n, k, d, beta)
    averaged = []
    for coefficient in symbolic.risk_coefficients(fixed):
        terms = sp.Poly(coefficient, beta).terms()
        averaged.append(sum(a * v ** (m // 2) * symbolic.chi2_moment(d, m // 2) for (m,), a in terms))
    derived = of_parabola(*averaged)
    return identities({key: (value, derived[key]) for key, value in formula(c, n, k, d, v).items()})


def rule():
    """Weights on the integers -3, ..., 3 with the standard Gaussian's first seven moments."""
    moments = [1, 0, 1, 0, 3, 0, 15]
    return sp.Matrix([[sp.Integer(x) ** m for x in NODES] for m in range(7)]).solve(sp.Matrix(moments))


@lru_cache(None)
def enumerated(n, k, mean, root, feature_cov, noise_var, weights):
    """(c0, c1, c2) of the oracle averaged over b = mean + root z, exactly, by enumeration of z."""
    probabilities = dict(zip(NODES, (QQ.from_sympy(w) for w in rule()), strict=True))
    total = [QQ(0)] * 3
    for z in itertools.product(NODES, repeat=len(mean)):
        task = [m + sum((r * x for r, x in zip(row, z, strict=True)), QQ(0)) for m, row in zip(mean, root, strict=True)]
        probability = QQ(1)
        for x in z:
            probability *= probabilities[x]
        values = oracle.risk_coefficients(task, feature_cov, noise_var, weights, n, k)
        total = [t + probability * value for t, value in zip(total, values, strict=True)]
    return [QQ.to_sympy(t) for t in total]


def of_case(n, k, d, v):
    def scaled(value):
        return tuple(tuple(value if i == j else QQ(0) for j in range(d)) for i in range(d))

    root = QQ.from_sympy(sp.sqrt(QQ.to_sympy(v)))
    return of_parabola(*enumerated(n, k, (QQ(0),) * d, scaled(root), scaled(QQ(1)), QQ(0), scaled(QQ(0))))


def independent(c):
    rational = same_numbers(
        (value, of_case(*case)[key])
        for case in CASES
        for key, value in formula(c, *case[:3], QQ.to_sympy(case[3])).items()
    )
    pairs = []
    for n, k, d, v in CASES:
        curve, case = exact_risk(Problem(n, k, GaussianTasks(cov=float(v), d=d)), 0.0), of_case(n, k, d, v)
        pairs += [
            (curve.initial, case["initial"]),
            (curve.optimal_lr, case["optimal_lr"]),
            (curve.initial - curve.optimal, case["gain"]),
        ]
    matrices = (tuple(map(tuple, m)) for m in (TASK_ROOT, FEATURE_COV, WEIGHTS))
    root, sx, w = matrices
    correlated = Problem(4, 3, TASKS, np.array(sx, float), float(NOISE_VAR)), np.array(w, float)
    off_centre = Problem(4, 3, GaussianTasks([1.0], 0.25), 2.0, float(NOISE_VAR)), 0.1
    for arguments, exact in (
        (correlated, enumerated(4, 3, tuple(TASK_MEAN), root, sx, NOISE_VAR, w)),
        (off_centre, enumerated(4, 3, (QQ(1),), ((QQ(1, 2),),), ((QQ(2),),), NOISE_VAR, ((QQ(1, 10),),))),
    ):
        curve = exact_risk(*arguments)
        pairs += zip((curve.c0, curve.c1, curve.c2), exact, strict=True)
    pairs += sampled(*correlated, enumerated(4, 3, tuple(TASK_MEAN), root, sx, NOISE_VAR, w)[0])
    return both(rational, same_numbers(pairs, tolerance=FLOAT64))


def sampled(problem, weights, initial, num_tasks=10, lr=1e-3):
    """Too few tasks for an exact average: c0 is exact, c1 and c2 are means over these tasks, with their errors."""
    curve = exact_risk(problem, weights, num_tasks=num_tasks)
    with jax.enable_x64(True):
        tasks = np.asarray(draw_tasks(TASKS, num_tasks, 0))
    each = [exact_risk(replace(problem, task=task), weights) for task in tasks]
    c1, c2 = ([getattr(one, name) for one in each] for name in ("c1", "c2"))
    variance = np.var(np.array(c2) * lr**2 - np.array(c1) * lr, ddof=1) / num_tasks
    return [(curve.c0, initial), (curve.c1, np.mean(c1)), (curve.c2, np.mean(c2)), (curve.stderr(lr) ** 2, variance)]


def empirical(c, effort):
    laws = (60, 60, 64, 1 / 64), (60, 40, 64, 1 / 16)
    given = [Given(Problem(n, k, GaussianTasks(cov=v, d=d)), np.zeros(())) for n, k, d, v in laws]
    found = [simulate_best(one, effort.num_large, effort.seed + i) for i, one in enumerate(given)]
    claimed = [formula(c, *law) for law in laws]
    risk = judge(
        [one.compare(key, value[key]) for one, value in zip(found, claimed, strict=True)]
        for key in ("optimal_lr", "gain")
    )
    b = np.asarray(draw_tasks(TASKS, 10 * effort.num_small, effort.seed), float)
    first, second = TASKS.mean, TASKS.cov + np.outer(TASKS.mean, TASKS.mean)
    drawn = judge_samples(
        [b[:, 0], *(b[:, i] * b[:, j] for i, j in ((0, 0), (0, 1), (1, 1)))], [first[0], *second[[0, 0, 1], [0, 1, 1]]]
    )
    return both(risk, drawn)


COEFFICIENTS = (sp.Rational(1, 2), 4, 1, 4, 3, 1, 2)
CLAIM = Claim("Random tasks", "this project", COEFFICIENTS, prove, independent, empirical)
