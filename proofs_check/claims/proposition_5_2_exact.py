"""Diagonal W, Sx = I, noiseless: the risk without TTT is A + S + n b'W^2 b exactly.

The last term, left out by Proposition 5.2, matters where W is nearly optimal.
"""

import sympy as sp

from proofs_check.claim import Setting, exact_claim
from proofs_check.claims import theorem_5_3
from proofs_check.oracle import Group
from ttt_jax.asymptotic import lemma_b2


def formula(c, setting):
    a, spread = theorem_5_3.misalignment(c, setting)
    return {"initial": a + spread + c[2] * setting.n * sum((g.task * g.weight) ** 2 for g in setting.groups)}


def package(problem, weights):
    return {"initial": lemma_b2(problem, weights)}


n, k, d1, d2, w1, w2, b1, b2 = sp.symbols("n k d1 d2 w1 w2 b1 b2", positive=True)
CLAIM = exact_claim(
    "Risk of any diagonal start, exact",
    "Proposition 5.2, this project",
    (1, 1, 1),
    formula,
    Setting(n, k, (Group(d1, 1, w1, b1), Group(d2, 1, w2, b2))),
    [
        Setting(rows, 2, (Group(1, 1, sp.Rational(1, 9), 1), Group(2, 1, sp.Rational(1, 20), sp.Rational(1, 2))))
        for rows in (2, 6)
    ],
    package,
)
