"""Several steps on one batch and context, Sx = I, that context again at evaluation, approximate.

risk = s2 + (A + S) int phi^2 + s2 int psi^2/m over Marchenko and Pastur's law: see `one_batch`.
"""

from proofs_check.claims.one_batch import claim_for

CLAIM = claim_for("same", (1, 1, 1, 1, 1, 1))
