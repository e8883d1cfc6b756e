"""Other laws at inference, approximate: gain = k a^2/D at lr* = a/(2 U D), with a = e'Sx Sq e_e, U = n n_e p'p_e.

With e = b - n W p, e_e = b - n_e W p_e, p_e = Se b and R(M) = e'M e + n tau tr(M W Sx W'):
D = k R(Sx Sq Sx) + tr(Sx Sq) (R(Sx) + s2); the initial risk is sq2 + e_e'Sq e_e + n_e tau_e tr(Sq W Se W').
With the same context a = R(Sx Sq), U = n^2 |p|^2 + n tau tr Sx and the initial risk is sq2 + R(Sq).
"""

from dataclasses import replace

import sympy as sp

from proofs_check.claims.leading_order import COEFFICIENTS, FEATURES, NOISE_VAR, formula, package
from proofs_check.claims.theorem_5_3 import two_halves
from proofs_check.kinds.leading import leading_claim
from proofs_check.setting import AtInference

CONTEXT, QUERY = (sp.Rational(3, 4), sp.Integer(1)), (sp.Rational(1, 2), sp.Integer(2))


def elsewhere(n, k, d, n_e, evaluation, scale=1):
    training = two_halves(n, k, d, features=FEATURES, noise_var=NOISE_VAR, evaluation=evaluation)
    contexts = CONTEXT if evaluation == "fresh" else FEATURES
    law = (
        AtInference(n_e, sp.Rational(1, 2), sp.Rational(1, 3), scale)
        if evaluation == "fresh"
        else AtInference(n, NOISE_VAR, sp.Rational(1, 3))
    )
    groups = (
        group._replace(context=context, query=query)
        for group, context, query in zip(training.groups, contexts, QUERY, strict=True)
    )
    return replace(training, groups=tuple(groups), inference=law)


def longer(size):
    return elsewhere(size // 2, 2 * size, size, 3 * size // 4, "fresh")


def rescaled(size):
    return elsewhere(size // 2, 2 * size, size, size, "fresh", sp.Rational(1, 2))


def same(size):
    return elsewhere(size // 2, 2 * size, size, None, "same")


a, g, a_e = sp.symbols("a g a_e", positive=True)
d = sp.Symbol("d")
CLAIM = leading_claim(
    "Own law at inference",
    "this project",
    COEFFICIENTS,
    formula,
    [longer, rescaled, same],
    [elsewhere(a * d, g * d, d, a_e * d, "fresh"), elsewhere(a * d, g * d, d, None, "same")],
    package,
)
