"""K-fold TTT, exact: the step is a sum of steps of rank one, W + 2 lr sum_f X_f'(y_f - X_f W u_f) u_f'.

u_f = X'y over the pairs outside fold f, and a new context of that length follows. A fold and the rest of N pairs are a
prompt with n = N - N/K and k = N/K; so at lr = 0 the risk falls K times as fast as in one step on such a prompt.
"""

import random

import jax.numpy as jnp
import numpy as np
import sympy as sp

from proofs_check.claim import Claim, Verdict, both
from proofs_check.claims import proposition_3_1
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import Comparison, judge
from proofs_check.setting import isotropic
from ttt_jax.procedures import Folds
from ttt_jax.simulation import estimate_curve
from ttt_jax.training.models import LinearAttention, functional
from ttt_jax.training.prompts import fold_prompts
from ttt_jax.training.steps import ttt_step

SETTING = isotropic(10, 5, 4, noise_var=1, weight=sp.Rational(1, 30))  # a prompt of K = 3 folds of 5 pairs


def parts(x, y, folds):
    """(X, y) outside each fold and inside it."""
    size = x.rows // folds
    for f in range(folds):
        inside = range(f * size, (f + 1) * size)
        outside = [i for i in range(x.rows) if i not in inside]
        yield tuple(
            matrix.extract(list(rows), list(range(matrix.cols))) for rows in (outside, inside) for matrix in (x, y)
        )


def step(c, w, x, y, folds, lr):
    changes = (proposition_3_1.step(c, w, *part, lr) - w for part in parts(x, y, folds))
    return sum(changes, w)


def loss(w, x, y, folds):
    return sum(proposition_3_1.loss(w, *part) for part in parts(x, y, folds))


def symbolic(c):
    """The derivative of the loss over all folds, all entries symbols, N = 4, K = d = 2."""
    w, x = (sp.Matrix(rows, 2, sp.symbols(f"{name}:{2 * rows}")) for name, rows in (("w", 2), ("x", 4)))
    y, lr = sp.Matrix(sp.symbols("y:4")), sp.Symbol("lr")
    gradient = sp.Matrix(2, 2, lambda i, j: sp.diff(loss(w, x, y, 2), w[i, j]))
    difference = step(c, w, x, y, 2, lr) - (w - lr * gradient)
    return identities({f"entry {i}": (entry, 0) for i, entry in enumerate(difference)})


def rational_case(rng):
    return [sp.Matrix(*shape, lambda i, j: sp.Rational(rng.randint(-5, 5), 3)) for shape in ((2, 2), (6, 2), (6, 1))]


def independent(c):
    """The loss is quadratic, so its central differences are its derivative, here in rational numbers; K = 3 and 6."""
    w, x, y = rational_case(random.Random(0))
    lr, pairs = sp.Rational(1, 7), []
    for folds in (3, 6):

        def derivative(i, j, folds=folds):
            unit = sp.Matrix(2, 2, lambda a, b: int((a, b) == (i, j)))
            return (loss(w + unit, x, y, folds) - loss(w - unit, x, y, folds)) / 2

        pairs += zip(step(c, w, x, y, folds, lr), w - lr * sp.Matrix(2, 2, derivative), strict=True)
    return same_numbers(pairs)


def empirical(c, effort):
    """`jax.grad` on stacked prompts; and the simulated risk and its slope at lr = 0 against the oracle."""
    w, x, y = rational_case(random.Random(1))
    arrays = [jnp.asarray(np.array(matrix, float), jnp.float32) for matrix in (w, x, y)]
    model, params = functional(LinearAttention(arrays[0]))
    prompts = fold_prompts(arrays[1], arrays[2][:, 0], 3)
    taken = np.asarray(ttt_step(model, params, prompts, 1e-3).weights[...], float) - np.array(w, float)
    claimed = np.array(step(c, w, x, y, 3, sp.Rational(1, 1000)) - w, float)
    error = np.abs(claimed - taken).max() / np.abs(claimed).max()
    jax_grad = Verdict(bool(error < 1e-3), f"relative error {error:.0e} to jax.grad")

    curve = estimate_curve(
        SETTING.problem(), SETTING.column("weight"), Folds(3), num_tasks=effort.num_small, seed=effort.seed
    )
    c0, c1, _ = oracle.parabola(SETTING)
    stderr = np.sqrt(np.diag(curve.covariance))
    slope = judge(
        [Comparison(float(claimed), found, error)]
        for claimed, found, error in ((c0, curve.c0, stderr[0]), (c[0] / 2 * 3 * c1, curve.c1, stderr[1]))
    )
    return both(jax_grad, slope)


CLAIM = Claim("K-fold step", "this project", (2,), symbolic, independent, empirical)
