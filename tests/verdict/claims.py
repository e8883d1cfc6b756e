"""Claims, right and wrong, and problems to try them on."""

import numpy as np
import sympy as sp

from ttt_jax.problem import Problem
from ttt_jax.theory.paper import theorem_4_5
from ttt_jax.theory.risk import asymptotic_risk

PROBLEMS = [Problem(40, 12, np.ones(6), noise_var=0.5), Problem(30, 20, np.ones(8), noise_var=0.1)]
N, K, D, LR, NORM2 = sp.symbols("n k d lr task_norm2")


def isotropic(d, a=0.5, g=2.0):
    return Problem(round(a * d), round(g * d), np.ones(d) / np.sqrt(d))


def leading_order(factor=1.0):
    return lambda problem, weights: factor * asymptotic_risk(problem, weights).optimal


def of_theorem_4_5(field, factor=1.0):
    def claim(n, k, d, task_norm2, noise_var):
        curve = theorem_4_5(n, k, d, task_norm2, noise_var)
        values = {"gain": curve.initial - curve.optimal, "optimal_lr": curve.optimal_lr, "initial": curve.initial}
        return factor * values[field]

    return claim
