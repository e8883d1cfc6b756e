"""The pretrained optimum, any noise, exact: W* = Sb [(n+1) Sx Sb + (tr(Sx Sb) + s2) I]^-1 for nonsingular Sx.

The averaged risk is a convex quadratic in W, so a point where its gradient vanishes is a minimum. For Sx = I and s2 = 0
it is the W* of Proposition 5.2.
"""

import math

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import Comparison, judge, num_contexts
from ttt_jax.problem import Pretraining
from ttt_jax.theory.paper import proposition_5_2_weights
from ttt_jax.theory.pretrained import pretrained_weights

FEATURE_COV = sp.Matrix([[2, sp.Rational(1, 2)], [sp.Rational(1, 2), 1]])
TASK_ROOT = sp.Matrix([[1, 0], [1, sp.Rational(1, 2)]])
TASK_COV = TASK_ROOT * TASK_ROOT.T
NOISE_VAR, N = sp.Rational(1, 3), 4


def formula(c, sx, sb, s2, n):
    total = c[1] * (sx * sb).trace() + c[2] * s2
    return sb * ((n + c[0]) * sx * sb + total * sp.eye(sx.rows)).inv()


def symbolic(c):
    """The gradient of Lemma B.2 averaged over b ~ N(0, Sb), n and s2 symbols."""
    n, s2 = sp.symbols("n s2", positive=True)
    sx, sb = FEATURE_COV, TASK_COV
    w = formula(c, sx, sb, s2, n)
    spread = ((sx * sb).trace() + s2) * sx * w * sx
    gradient = (n + 1) * sx * w * sx * sb * sx + spread - sx * sb * sx
    return identities({f"gradient {i}": (entry, 0) for i, entry in enumerate(gradient)})


def independent(c):
    """Central differences of the oracle's risk; E b'H b = sum over the columns r of a root of Sb of r'H r."""
    w = formula(c, FEATURE_COV, TASK_COV, NOISE_VAR, N)

    def averaged(weights):
        columns = [TASK_ROOT.col(j) for j in range(2)]
        at = [risk(list(column), weights) for column in columns]
        nothing = risk([0, 0], weights)
        return sum(value - nothing for value in at) + nothing

    def risk(task, weights):
        return oracle.risk_coefficients(task, FEATURE_COV.tolist(), NOISE_VAR, weights.tolist(), N, 1)[0]

    def derivative(i, j):
        unit = sp.Matrix(2, 2, lambda a, b: int((a, b) == (i, j)))
        return averaged(w + unit) - averaged(w - unit)

    stationary = same_numbers((derivative(i, j), 0) for i in range(2) for j in range(2))
    pretraining = Pretraining(N, np.array(FEATURE_COV, float), np.array(TASK_COV, float), float(NOISE_VAR))
    package = same_numbers(zip(pretrained_weights(pretraining).ravel(), w, strict=True), tolerance=FLOAT64)
    spectrum, features = sp.diag(2, sp.Rational(1, 2)), sp.diag(1, 3)
    compact = [
        (proposition_5_2_weights(N, [2.0, 0.5]), formula(c, sp.eye(2), spectrum, 0, N)),
        (
            pretrained_weights(Pretraining(N, [1.0, 3.0], [2.0, 0.5], float(NOISE_VAR)), dense=False),
            formula(c, features, spectrum, NOISE_VAR, N),
        ),
    ]
    diagonal = [pair for found, exact in compact for pair in zip(found, exact.diagonal(), strict=True)]
    return both(stationary, package, same_numbers(diagonal, tolerance=FLOAT64))


def empirical(c, effort):
    w = formula(c, FEATURE_COV, TASK_COV, NOISE_VAR, N)
    return scale_verdict(w, FEATURE_COV.cholesky().T, TASK_ROOT, NOISE_VAR, N, effort)


def scale_verdict(weights, feature_root, task_root, noise_var, n, effort):
    """At a minimum a change of scale changes nothing: E (y - x'W u) x'W u = 0, on sampled data; Sx = root' root."""
    rng = np.random.default_rng(effort.seed)
    count = num_contexts(effort)
    w, feature_root, task_root = (np.array(matrix, float) for matrix in (weights, feature_root, task_root))
    x = rng.standard_normal((count, n + 1, len(w))) @ feature_root
    task = rng.standard_normal((count, task_root.shape[1])) @ task_root.T
    y = np.einsum("cnd,cd->cn", x, task) + math.sqrt(noise_var) * rng.standard_normal((count, n + 1))
    u = np.einsum("cnd,cn->cd", x[:, :n], y[:, :n])
    prediction = np.einsum("cd,de,ce->c", x[:, n], w, u)
    slope, size = (y[:, n] - prediction) * prediction, np.mean(prediction**2)
    stderr = slope.std() / math.sqrt(count) / size
    return judge([[Comparison(1.0, 1.0 + slope.mean() / size, stderr)]])


CLAIM = Claim("Pretrained optimum", "Li, Rawat, Oymak (2024), Cor. 1", (1, 1, 1), symbolic, independent, empirical)
