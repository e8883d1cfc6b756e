"""The TTT step is of rank one: W_TT = W + 2 lr Xt'(yt - Xt W u) u', u = X'y, for any data."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from proofs_check.claim import Claim, Verdict
from proofs_check.evidence.equality import identities, same_numbers
from ttt_jax.training.models import LinearAttention, Prompt, functional
from ttt_jax.training.steps import ttt_step


def step(c, w, context_x, context_y, query_x, query_y, lr):
    u = context_x.T * context_y
    return w + c[0] * lr * query_x.T * (query_y - query_x * w * u) * u.T


def loss(w, context_x, context_y, query_x, query_y):
    return ((query_y - query_x * w * context_x.T * context_y).T * (query_y - query_x * w * context_x.T * context_y))[0]


def symbolic(c):
    """The derivative of the loss, all entries symbols, n = k = d = 2."""
    w, x, xt = (sp.Matrix(2, 2, sp.symbols(f"{name}:4")) for name in ("w", "x", "xt"))
    y, yt = (sp.Matrix(sp.symbols(f"{name}:2")) for name in ("y", "yt"))
    lr = sp.Symbol("lr")
    gradient = sp.Matrix(2, 2, lambda i, j: sp.diff(loss(w, x, y, xt, yt), w[i, j]))
    difference = step(c, w, x, y, xt, yt, lr) - (w - lr * gradient)
    return identities({f"entry {i}": (entry, 0) for i, entry in enumerate(difference)})


def independent(c):
    """The loss is quadratic, so its central differences are its derivative, here in rational numbers."""
    rng = random.Random(0)
    n, k, d, lr = 4, 3, 3, sp.Rational(1, 7)

    def matrix(rows, columns):
        return sp.Matrix(rows, columns, lambda i, j: sp.Rational(rng.randint(-5, 5), 3))

    w, data = matrix(d, d), (matrix(n, d), matrix(n, 1), matrix(k, d), matrix(k, 1))

    def derivative(i, j):
        unit = sp.Matrix(d, d, lambda a, b: int((a, b) == (i, j)))
        return (loss(w + unit, *data) - loss(w - unit, *data)) / 2

    return same_numbers(zip(step(c, w, *data, lr), w - lr * sp.Matrix(d, d, derivative), strict=True))


def empirical(c, effort):
    """`jax.grad` of the Flax model on random data; no sampling error, so no z."""
    with jax.enable_x64(True):
        x, y, xt, yt = (
            jax.random.normal(jax.random.key(i), shape, jnp.float64)
            for i, shape in enumerate(((5, 3), (5,), (7, 3), (7,)))
        )
        w, lr = np.arange(9.0).reshape(3, 3) / 90, 1e-3
        model, params = functional(LinearAttention(jnp.asarray(w)))
        taken = np.asarray(ttt_step(model, params, Prompt(x, y, xt, yt), lr).weights[...]) - w
    x, y, xt, yt = (np.asarray(array) for array in (x, y, xt, yt))
    u = y @ x
    claimed = float(c[0]) * lr * np.outer(xt.T @ (yt - xt @ w @ u), u)
    error = np.abs(claimed - taken).max() / np.abs(taken).max()
    return Verdict(bool(error < 1e-12), f"relative error {error:.0e} to jax.grad, nothing random")


CLAIM = Claim("The step has rank one", "Proposition 3.1", (2,), symbolic, independent, empirical)
