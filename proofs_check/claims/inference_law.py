"""Other laws at inference, exact: a context of n_e pairs with Se, se2, and a query with Sq, sq2, for a plain step.

With u, r of training and u_e, r_e = b - W u_e of inference, M = E u r', M_e = E u_e r_e', C_e = E u_e u_e',
Q = k (k+1) Sx Sq Sx + k tr(Sx Sq) Sx and q = s2 k tr(Sx Sq):

    c0 = sq2 + E r_e'Sq r_e,   c1 = 4 k tr(Sx Sq M_e'M),   c2 = 4 E[u'C_e u (r'Q r + q)]          (fresh context)
                               c1 = 4 k E[|u|^2 r'Sx Sq r],   c2 = 4 E[|u|^4 (r'Q r + q)]         (same context)

With the same context only the query has a law of its own. A summary u_e times n/n_e is part of the claim.
"""

import random

import numpy as np
from sympy import QQ

from proofs_check.claims.exact_risk import COEFFICIENTS, LONG, SHORT, parabola_claim, random_covariance
from proofs_check.setting import AtInference


def elsewhere(case, n_e, rescale=False):
    """The case with other, correlated features and other noise in the context and in the query at inference."""
    rng, one = random.Random(n_e), np.eye(len(case.task), dtype=int)
    context, query = (random_covariance(rng, len(case.task)) / 4 + one * QQ(1, 2) for _ in range(2))
    law = AtInference(n_e, QQ(1, 3), QQ(1, 5), QQ(case.n, n_e) if rescale else 1)
    return case._replace(law=law, se=context, sq=query)


CLAIM = parabola_claim(
    "Exact risk, own law at inference",
    "this project",
    COEFFICIENTS,
    ["fresh", "same"],
    ("n k w0 w1 n_e e0 e1 q0 q1 t2 q2", {"b0": 1, "b1": QQ(2, 3), "x0": 2, "x1": QQ(1, 3), "s2": QQ(1, 5)}),
    [elsewhere(case, n_e, rescale) for case, n_e, rescale in zip(SHORT, (2, 1, 4, 7), (0, 0, 1, 0), strict=True)],
    [elsewhere(LONG[0], 150), elsewhere(LONG[1], 400, rescale=True)],
)
