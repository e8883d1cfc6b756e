"""Linear attention on tokens is x'W X'y: entry (n+1, d+1) of Z W_Q W_K' Z' Z W_V for Z = [[X, y], [x, 0]].

Here W_Q W_K' = diag(W, 0) and W_V = diag(0, 1), for any W.
"""

import random

import jax.numpy as jnp
import numpy as np
import sympy as sp

from proofs_check.claim import Claim, Verdict
from proofs_check.evidence.equality import identities, same_numbers
from ttt_jax.training.models import LinearAttention, Prompt, TokenLinearAttention


def formula(c, w, context_x, context_y, query):
    return c[0] * (query.T * w * context_x.T * context_y)[0]


def attention(w, context_x, context_y, query):
    d = w.rows
    tokens = context_x.row_join(context_y).col_join(query.T.row_join(sp.zeros(1)))
    value = sp.diag(sp.zeros(d), 1)
    return (tokens * sp.diag(w, 0) * tokens.T * tokens * value)[-1, -1]


def symbolic(c):
    """All entries symbols, n = 3, d = 2."""
    w, x, y, query = (
        sp.Matrix(rows, columns, sp.symbols(f"{name}:{rows * columns}"))
        for name, rows, columns in (("w", 2, 2), ("x", 3, 2), ("y", 3, 1), ("q", 2, 1))
    )
    return identities({"entry (n+1, d+1)": (formula(c, w, x, y, query), attention(w, x, y, query))})


def independent(c):
    rng = random.Random(0)

    def data(n, d):
        shapes = (d, d), (n, d), (n, 1), (d, 1)
        return [sp.Matrix(*shape, lambda i, j: sp.Rational(rng.randint(-5, 5), 3)) for shape in shapes]

    cases = [data(n, d) for n, d in ((1, 1), (4, 2), (2, 5))]
    return same_numbers((formula(c, *case), attention(*case)) for case in cases)


def empirical(c, effort):
    """The two Flax models on random data; no sampling error, so no z."""
    rng = np.random.default_rng(effort.seed)
    w, x, y, query = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 3), (5, 3), (5,), (4, 3)))
    prompt = Prompt(*map(jnp.asarray, (x, y, query)), jnp.zeros(4))
    claimed = float(c[0]) * query @ w @ (x.T @ y)
    weights = jnp.asarray(w)
    models = TokenLinearAttention.from_weights(weights), LinearAttention(weights)
    found = np.array([model(prompt) for model in models])
    error = np.abs(found - claimed).max() / np.abs(claimed).max()
    return Verdict(bool(error < 1e-5), f"relative error {error:.0e} of the Flax models, nothing random")


CLAIM = Claim("Attention on tokens", "section 2", (1,), symbolic, independent, empirical)
