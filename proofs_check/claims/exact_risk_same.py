"""The exact risk when the context of the TTT step is used again at evaluation: see `exact_risk`."""

from proofs_check.claims.exact_risk import SAME_COEFFICIENTS, claim_for

CLAIM = claim_for("same", SAME_COEFFICIENTS)
