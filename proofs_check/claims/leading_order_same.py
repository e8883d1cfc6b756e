"""Any Sx, W and noise, plain step, the context used again, approximate: gain = k R_1^2/D at lr* = R_1/(2 U D).

R_j and D as in `leading_order`, U = n^2 |p|^2 + n tau tr Sx.
"""

from proofs_check.claims.leading_order import SAME_COEFFICIENTS, claim_for

CLAIM = claim_for("same", "this project", SAME_COEFFICIENTS)
