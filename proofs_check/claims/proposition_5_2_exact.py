"""Diagonal W, Sx = I, noiseless: the risk without TTT is A + S + n b'W^2 b exactly.

The last term, left out by Proposition 5.2, matters where W is nearly optimal.
"""

from dataclasses import replace

import sympy as sp

from proofs_check.claim import both
from proofs_check.claims import theorem_5_3
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import FLOAT64, same_numbers
from proofs_check.kinds.exact import exact_claim
from proofs_check.setting import Group, Setting
from ttt_jax.theory.decisions import alignment
from ttt_jax.theory.paper import lemma_b2


def formula(c, setting):
    a, spread = theorem_5_3.misalignment(c, setting)
    return {"initial": a + spread + c[2] * setting.n * sum((g.task * g.weight) ** 2 for g in setting.groups)}


def package(setting):
    return {"initial": lemma_b2(setting.problem(), setting.column("weight"))}


def alignments():
    """What `ttt_jax.alignment` says, relative to B, against the formula and the oracle."""
    pairs = []
    for setting in SETTINGS:
        exact = oracle.quantities(setting)
        expected = (*theorem_5_3.misalignment((1, 1), setting), exact["initial"], exact["gain"])
        pairs += zip(
            alignment(setting.problem(), setting.column("weight")), (x / setting.norm2 for x in expected), strict=True
        )
    return same_numbers(pairs, tolerance=FLOAT64)


SETTINGS = [
    Setting(rows, 2, (Group(1, 1, sp.Rational(1, 9), 1), Group(2, 1, sp.Rational(1, 20), sp.Rational(1, 2))))
    for rows in (2, 40)
]
n, k, d1, d2, w1, w2, b1, b2 = sp.symbols("n k d1 d2 w1 w2 b1 b2", positive=True)
risk = exact_claim(
    "Risk of any diagonal start, exact",
    "Proposition 5.2, this project",
    (1, 1, 1),
    formula,
    Setting(n, k, (Group(d1, 1, w1, b1), Group(d2, 1, w2, b2))),
    SETTINGS,
    SETTINGS[1:],
    package,
)
CLAIM = replace(risk, independent=lambda c: both(risk.independent(c), alignments()))
