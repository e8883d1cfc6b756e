"""Von Oswald et al.: a layer of linear self-attention is one step of gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from proofs_check.claim import Paper, Statement, Verdict
from proofs_check.evidence.equality import identities


def layer(c, tokens, weights, rate, features):
    """The change P V K'q_j of every token, with the construction of appendix A.1; arrays of numbers or of symbols."""
    count, size = tokens.shape
    key = np.diag([1] * features + [0] * (size - features))
    value = np.zeros((size, size), tokens.dtype)
    value[features:, :features] = c[0] * weights
    value[features:, features:] = -c[1] * np.eye(size - features, dtype=int)
    attention = (tokens @ key.T) @ (tokens @ key.T).T
    return c[2] * (attention @ (tokens @ value.T)) * rate / count


def data(draw, count, features, labels):
    x, y = draw(count, features), draw(count, labels)
    return x, y, draw(labels, features)


def symbols(letter, rows, columns):
    return np.array([[sp.Symbol(f"{letter}{i}{j}") for j in range(columns)] for i in range(rows)], dtype=object)


def exact(c):
    """In symbols: two pairs, two features, one label; the gradient by differentiation."""
    x, y, w = symbols("x", 2, 2), symbols("y", 2, 1), symbols("w", 1, 2)
    rate = sp.Symbol("eta")
    loss = sum((w[0] @ x[i] - y[i, 0]) ** 2 for i in range(2)) / (2 * sp.Integer(2))
    step = np.array([[-rate * sp.diff(loss, one) for one in w[0]]], dtype=object)
    change = layer(c, np.hstack([x, y]), w, rate, 2)
    wanted = np.hstack([np.zeros((2, 2), dtype=int), -(x @ step.T)])
    return identities({f"token {i}, entry {j}": (change[i, j], wanted[i, j]) for i in range(2) for j in range(3)})


def simulated(c, effort):
    """Random data of any law; the gradient by jax.grad, in float32."""
    rng = np.random.default_rng(effort.seed)
    x, y, w = rng.uniform(-1, 1, (9, 4)), rng.standard_t(5, (9, 2)), rng.standard_normal((2, 4))
    gradient = jax.grad(lambda w: ((jnp.asarray(x) @ w.T - y) ** 2).sum() / (2 * len(x)))(jnp.asarray(w))
    wanted = 0.7 * x @ np.asarray(gradient).T
    change = layer([float(one) for one in c], np.hstack([x, y]), w, 0.7, 4)
    off = float(abs(change[:, 4:] - wanted).max() / abs(wanted).max())
    return Verdict(off < ROUNDING, f"largest difference {off:.0e} of the largest change", ROUNDING)


ROUNDING = 1e-5
"""Of float32."""

PAPER = Paper(
    "von Oswald et al. (2212.07677)",
    "the full text with its equations in a transcription (arXiv 2212.07677)",
    "any data; loss (1/2N) sum_i |W x_i - y_i|^2. At W_0 = 0 and one label our W is (eta/N) I; the layer returns "
    "minus the prediction",
    (
        Statement(
            "Proposition 1, appendix A.1",
            "W_K = W_Q = diag(I_x, 0), W_V = [[0, 0], [W_0, -I_y]], P = (eta/N) I: e_j <- e_j + (0, -DeltaW x_j), "
            "DeltaW = -(eta/N) sum_i (W_0 x_i - y_i) x_i'",
            (1, 1, 1),
            exact,
            simulated,
            "nowhere: an identity for any data. That trained weights are these is Ahn et al., Theorem 1, up to the "
            "step size",
        ),
    ),
)
