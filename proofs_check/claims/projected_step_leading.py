"""Projected and preconditioned steps W - lr L grad R, approximate: gain = k a^2/D at lr* = a/(2 U D).

With A = L'Sx L and e, R(M) as in `inference_law_leading`, D = k R(Sx A Sx) + tr(Sx A) (R(Sx) + s2) and

    a = e'Sx L'Sx e,   U = n^2 p'R p  (fresh context),      a = R(Sx L'Sx),   U = n^2 p'R p + n tau tr(R Sx)  (same).

Also for projections, whose rank must grow with d; p'R p must not vanish.
"""

from dataclasses import replace

import sympy as sp

from proofs_check.claims.leading_order import COEFFICIENTS, FEATURES, NOISE_VAR, formula, package
from proofs_check.claims.theorem_5_3 import two_halves
from proofs_check.kinds.leading import leading_claim

LEFT, RIGHT = (sp.Rational(1, 2), sp.Integer(1)), (sp.Rational(1, 2), sp.Rational(3, 2))
HALF, WHOLE = (sp.Integer(0), sp.Integer(1)), (sp.Integer(1), sp.Integer(1))
"""A projection onto half of the coordinates, and none."""


def stepped(n, k, d, left, right, evaluation="fresh"):
    plain = two_halves(n, k, d, features=FEATURES, noise_var=NOISE_VAR, evaluation=evaluation)
    groups = (group._replace(left=l, right=r) for group, l, r in zip(plain.groups, left, right, strict=True))
    return replace(plain, groups=tuple(groups))


def family(left, right, evaluation):
    return lambda size: stepped(size // 2, 2 * size, size, left, right, evaluation)


a, g = sp.symbols("a g", positive=True)
d = sp.Symbol("d")
STEPS = (LEFT, RIGHT), (HALF, HALF), (WHOLE, HALF)
EVALUATIONS = "fresh", "same"
CLAIM = leading_claim(
    "Projected and low-rank steps",
    "this project",
    COEFFICIENTS,
    formula,
    [family(*STEPS[0], "fresh"), family(*STEPS[1], "same"), family(*STEPS[2], "fresh")],
    [stepped(a * d, g * d, d, *step, evaluation) for step in STEPS for evaluation in EVALUATIONS],
    package,
)
