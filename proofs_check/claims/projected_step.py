"""Projected, preconditioned and low-rank steps, exact: W - lr L grad R for any L and R, symmetric or not.

With A = L'Sx L, Q = k (k+1) Sx A Sx + k tr(Sx A) Sx, q = s2 k tr(Sx A) and r, C, M as in `exact_risk`:

    c1 = 4 k tr(Sx L'Sx M'R'M),         c2 = 4 E[u'R C R'u (r'Q r + q)]         (fresh context)
    c1 = 4 k E[(u'R u) r'Sx L'Sx r],    c2 = 4 E[(u'R u)^2 (r'Q r + q)]         (same context)

A gradient step on V from V = 0 in W + U V A is such a step, with L = UU' and R = A'A: LoRA's first step in B for
U = I, a projection onto r directions for orthonormal ones. A preconditioner K is L = R = K.
"""

import random
from dataclasses import replace
from functools import lru_cache

import jax
import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check.claim import Verdict, both
from proofs_check.claims import proposition_3_1
from proofs_check.claims.exact_risk import COEFFICIENTS, LONG, SHORT, parabola_claim, quarter
from proofs_check.evidence.equality import identities
from ttt_jax.training.models import Prompt
from ttt_jax.training.steps import ttt_step


def factors(case, rank=None, lora=False):
    """The case with random L and R: any, or UU' and A'A of a rank, U = I for LoRA."""
    d, rng = len(case.task), random.Random(case.n)

    def matrix(rows, columns):
        return np.array([[quarter(rng) / 2 + (i == j) for j in range(columns)] for i in range(rows)], dtype=object)

    if rank is None:
        return case._replace(left=matrix(d, d), right=matrix(d, d))
    u, a = np.eye(d, dtype=int).astype(object) * QQ(1) if lora else matrix(d, rank), matrix(rank, d)
    return case._replace(left=u @ u.T, right=a.T @ a)


@lru_cache(None)
def low_rank_step():
    """The derivative with respect to V at 0, all entries symbols: n = k = d = 2, rank 1."""
    shapes = {"w": (2, 2), "u": (2, 1), "a": (1, 2), "x": (2, 2), "y": (2, 1), "xt": (2, 2), "yt": (2, 1)}
    w, u, a, *data = (sp.Matrix(*shape, sp.symbols(f"{name}:{shape[0] * shape[1]}")) for name, shape in shapes.items())
    v, lr = sp.Symbol("v"), sp.Symbol("lr")
    slope = sp.diff(proposition_3_1.loss(w + u * v * a, *data), v).subs(v, 0)
    plain = proposition_3_1.step(proposition_3_1.CLAIM.coefficients, w, *data, lr) - w
    difference = u * (-lr * slope) * a - u * u.T * plain * a.T * a
    return identities({f"low-rank step {i}": (entry, 0) for i, entry in enumerate(difference)})


def low_rank_gradient(effort):
    """`jax.grad` of attention with V as its parameter, on random data; no sampling error, so no z."""
    rng = np.random.default_rng(effort.seed)
    w, u, a, x, y, xt, yt = (
        rng.standard_normal(shape) for shape in ((3, 3), (3, 2), (2, 3), (5, 3), (5,), (7, 3), (7,))
    )

    def model(v, prompt):
        return prompt.query_x @ (w + u @ v @ a) @ (prompt.context_x.T @ prompt.context_y)

    with jax.enable_x64(True):
        step = jax.jit(lambda v, prompt: ttt_step(model, v, prompt, 1e-3))
        taken = u @ np.asarray(step(np.zeros((2, 2)), Prompt(x, y, xt, yt))) @ a
    summary = x.T @ y
    claimed = 2e-3 * u @ u.T @ np.outer(xt.T @ (yt - xt @ w @ summary), summary) @ a.T @ a
    error = float(abs(claimed - taken).max() / abs(taken).max())
    return Verdict(error < 1e-12, f"relative error {error:.0e} to jax.grad with respect to V")


risk = parabola_claim(
    "Projected and low-rank steps, exact",
    "this project",
    COEFFICIENTS,
    ["fresh", "same"],
    ("n k w0 w1 s2 l0 l1 r0 r1", {"b0": 1, "b1": QQ(2, 3), "x0": 2, "x1": QQ(1, 3)}),
    [*map(factors, SHORT), factors(SHORT[-1], 2), factors(SHORT[-1], 1, lora=True)],
    [factors(LONG[0]), factors(LONG[1], 2), factors(LONG[2], 1, lora=True)],
)
CLAIM = replace(
    risk,
    symbolic=lambda c: both(low_rank_step(), risk.symbolic(c)),
    empirical=lambda c, effort: both(low_rank_gradient(effort), risk.empirical(c, effort)),
)
