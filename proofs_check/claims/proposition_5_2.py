"""Diagonal W, Sx = I, noiseless: the risk without TTT is A + S to leading order, A and S as in Theorem 5.3."""

from proofs_check.claims import theorem_5_3
from proofs_check.kinds.leading import leading_claim
from ttt_jax.theory.paper import proposition_5_2_risk


def formula(c, setting):
    a, spread = theorem_5_3.misalignment(c, setting)
    return {"initial": c[2] * a + spread}


def package(setting):
    return {"initial": proposition_5_2_risk(setting.problem(), setting.column("weight"))}


CLAIM = leading_claim(
    "Risk of any diagonal start",
    "Proposition 5.2",
    (1, 1, 1),
    formula,
    theorem_5_3.FAMILIES,
    [theorem_5_3.CLAIM_SYMBOLS],
    package,
)
