"""In other units of the labels, (b, s2) -> (c b, c^2 s2) with W kept, c0, c1, c2 are c^2, c^4, c^6 times as large."""

import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import compare_settings, judge
from proofs_check.setting import Group, Setting, isotropic, of_parabola
from ttt_jax.theory.risk import exact_risk

FACTOR = sp.Rational(3, 2)


def setting(factor, evaluation):
    group = Group(3, sp.Rational(1, 2), sp.Rational(1, 60), factor)
    return Setting(60, 60, (group,), factor**2 * sp.Rational(1, 3), evaluation)


def scaled(c, factor, coefficients):
    return tuple(factor**power * value for power, value in zip(c, coefficients, strict=True))


def symbolic_verdict(c):
    n, k, d, w, b, s2, factor = sp.symbols("n k d w b s2 c", positive=True)
    pairs = {}
    for evaluation in ("fresh", "same"):
        one, other = (
            symbolic.risk_coefficients(isotropic(n, k, d, scale * b, scale**2 * s2, w, evaluation))
            for scale in (1, factor)
        )
        for i, (x, y) in enumerate(zip(scaled(c, factor, one), other, strict=True)):
            pairs[f"c{i} ({evaluation})"] = (x, y)
    return identities(pairs)


def independent(c):
    pairs, package = [], []
    for evaluation in ("fresh", "same"):
        one, other = (oracle.parabola(setting(scale, evaluation)) for scale in (1, FACTOR))
        pairs += zip(scaled(c, FACTOR, one), other, strict=True)
        large = setting(FACTOR, evaluation)
        curve = exact_risk(large.problem(), large.column("weight"))
        package += zip((curve.c0, curve.c1, curve.c2), other, strict=True)
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    large = setting(FACTOR, "fresh")
    claimed = of_parabola(*scaled(c, FACTOR, oracle.parabola(setting(1, "fresh"))))
    return judge(compare_settings([large], [claimed], effort.num_small, effort.seed))


CLAIM = Claim("Scaling of task and noise", "this project", (2, 4, 6), symbolic_verdict, independent, empirical)
