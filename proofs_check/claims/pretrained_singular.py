"""The pretrained optimum of any law: W* = R^+ T [(n+1) T + (tr T + s2) I]^-1 R^+, R = Sx^(1/2), T = R Sb R, exact.

Of all minimisers it is the one of least norm, which vanishes off the range of Sx. Where Sx is nonsingular it is the
only one, also if Sb has deficient rank: for Sx = I and s2 = 0 it is Proposition 5.2's [(n+1) I_r + tr(Sb) Sb^+]^+.
"""

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.claims.pretrained_optimum import scale_verdict
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from ttt_jax.problem import Pretraining
from ttt_jax.theory.paper import proposition_5_2_weights
from ttt_jax.theory.pretrained import pretrained_weights

NOISE_VAR, N = sp.Rational(1, 3), 4
LAWS = {
    "singular Sx": (sp.Matrix([[1, 2], [2, 4]]) / 5, sp.Matrix([1, 0])),
    "Sb of rank 1": (sp.Matrix([[2, 1], [1, 1]]), sp.Matrix([1, -1])),
    "both": (sp.Matrix([[1, 0], [0, 0]]), sp.Matrix([1, 3])),
}
"""R and a root of Sb, a column."""


def formula(c, root, task_root, s2, n):
    inverse = root.pinv()
    t = root * task_root * task_root.T * root
    return inverse * t * ((n + c[0]) * t + (c[1] * t.trace() + c[2] * s2) * sp.eye(t.rows)).inv() * inverse


def symbolic(c):
    """The gradient of Lemma B.2 averaged over b ~ N(0, Sb) is 0, and W is its own projection; n and s2 symbols."""
    n, s2 = sp.symbols("n s2", positive=True)
    pairs = {}
    for name, (root, task_root) in LAWS.items():
        w, sx, sb = formula(c, root, task_root, s2, n), root**2, task_root * task_root.T
        gradient = (n + 1) * sx * w * sx * sb * sx + ((sx * sb).trace() + s2) * sx * w * sx - sx * sb * sx
        beyond = (sp.eye(2) - root * root.pinv()) * w
        pairs |= {f"{name} {i}": (entry, 0) for i, entry in enumerate([*gradient, *beyond])}
    verdict = identities(pairs)
    return verdict._replace(detail=f"gradient 0 and least norm: {', '.join(LAWS)}") if verdict.ok else verdict


def independent(c):
    """Central differences of the oracle's risk, and the package."""
    stationary, package = [], []
    for root, task_root in LAWS.values():
        sx, w = root**2, formula(c, root, task_root, NOISE_VAR, N)

        def averaged(weights, sx=sx, task_root=task_root):
            """Over b ~ N(0, r r'): the risk is a quadratic in b without linear term, so it is that of b = r."""
            return oracle.risk_coefficients(list(task_root), sx.tolist(), NOISE_VAR, weights.tolist(), N, 1)[0]

        for i, j in np.ndindex(2, 2):
            unit = sp.Matrix(2, 2, lambda a, b, i=i, j=j: int((a, b) == (i, j)))
            stationary.append((averaged(w + unit) - averaged(w - unit), 0))
        law = Pretraining(N, np.array(sx, float), np.array(task_root * task_root.T, float), float(NOISE_VAR))
        package += zip(pretrained_weights(law).ravel(), w, strict=True)
    compact = formula(c, sp.eye(3), sp.diag(2, 1, 0), 0, N).diagonal()
    package += zip(proposition_5_2_weights(N, [4.0, 1.0, 0.0]), compact, strict=True)
    return both(same_numbers(stationary), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    root, task_root = LAWS["Sb of rank 1"]
    return scale_verdict(formula(c, root, task_root, NOISE_VAR, N), root, task_root, NOISE_VAR, N, effort)


CLAIM = Claim(
    "Pretrained optimum, singular laws", "Proposition 5.2, this project", (1, 1, 1), symbolic, independent, empirical
)
