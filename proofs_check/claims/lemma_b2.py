"""Risk without TTT, exact for any W, Sx and noise.

L(W) = b'[Sx - n Sx W Sx - n Sx W'Sx + n(n+1) Sx W'Sx W Sx + n tr(W'Sx W Sx) Sx] b + s2 n tr(W'Sx W Sx) + s2.
"""

import numpy as np
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, Verdict, both
from proofs_check.claims.exact_risk import GIVEN, LONG, SHORT, of_oracle
from proofs_check.evidence.equality import FLOAT64, same_numbers
from proofs_check.evidence.simulation import judge, simulate_best
from ttt_jax.theory.paper import lemma_b2


def formula(c, task, sx, s2, w, n):
    p = sx @ task
    spread = np.trace(w.T @ sx @ w @ sx) * n
    linear = (p @ w @ p) * (c[1] * n) + (p @ w.T @ p) * (c[2] * n)
    quadratic = (p @ w.T @ sx @ w @ p) * (c[3] * n * (n + 1))
    return c[0] * (task @ p) - linear + quadratic + c[4] * spread * (task @ p) + c[5] * s2 * spread + c[6] * s2


def symbolic(c):
    """W, b and Sx have symbolic entries, d = 2; E u and E uu' follow from the moments of one row, rows independent."""
    _, *x = ring(["n", "s2", "b0", "b1", "x00", "x01", "x11", "w00", "w01", "w10", "w11"], QQ)
    n, s2 = x[:2]
    task, sx, w = np.array(x[2:4]), np.array([[x[4], x[5]], [x[5], x[6]]]), np.array([x[7:9], x[9:11]])
    p = sx @ task
    tau = task @ p + s2
    row = sx * tau + np.outer(p, p) * 2  # E y^2 xx', three pairings
    second = row * n + np.outer(p, p) * (n * (n - 1))
    derived = s2 + task @ p - (p @ w @ p) * (2 * n) + np.trace(w.T @ sx @ w @ second)
    same = formula([QQ.convert(a) for a in c], task, sx, s2, w, n) == derived
    return Verdict(same, "identity in all entries at d = 2" if same else "differs")


def independent(c):
    c = [QQ.convert(a) for a in c]
    rational = [(formula(c, *case[:5]), of_oracle(case)[0]) for case in SHORT]
    package = [(lemma_b2(*one[:2]), of_oracle(case)[0]) for one, case in zip(GIVEN, LONG, strict=True)]
    return both(same_numbers(rational), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    c = [QQ.convert(a) for a in c]
    found = (simulate_best(one, effort.num_small // 2, effort.seed + i) for i, one in enumerate(GIVEN))
    return judge([[x.compare("initial", formula(c, *case[:5])) for x, case in zip(found, LONG, strict=True)]])


CLAIM = Claim("Risk without TTT", "Lemma B.2", (1,) * 7, symbolic, independent, empirical)
