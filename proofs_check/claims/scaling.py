"""In other units of the labels, (b, s2) -> (c b, c^2 s2) with W kept, c0, c1, c2 are c^2, c^4, c^6 times as large."""

import sympy as sp

from proofs_check import symbolic
from proofs_check.claim import (
    CONFIDENCE,
    FLOAT64,
    Claim,
    Setting,
    both,
    coefficients_of_oracle,
    identities,
    of_check,
    quantities,
    same_numbers,
    simulate,
)
from proofs_check.oracle import Group
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.claim import check

FACTOR = sp.Rational(3, 2)


def setting(factor, evaluation):
    group = Group(3, sp.Rational(1, 2), sp.Rational(1, 20), factor)
    return Setting(12, 9, (group,), factor**2 * sp.Rational(1, 3), evaluation)


def scaled(c, factor, coefficients):
    return tuple(factor**power * value for power, value in zip(c, coefficients, strict=True))


def symbolic_verdict(c):
    n, k, d, w, b, s2, factor = sp.symbols("n k d w b s2 c", positive=True)
    pairs = {}
    for evaluation in ("fresh", "same"):
        one, other = (
            symbolic.risk_coefficients([Group(d, 1, w, scale * b)], scale**2 * s2, n, k, evaluation)
            for scale in (1, factor)
        )
        for i, (x, y) in enumerate(zip(scaled(c, factor, one), other, strict=True)):
            pairs[f"c{i} ({evaluation})"] = (sp.powsimp(sp.cancel(y / x)), 1)
    return identities(pairs)


def independent(c):
    pairs, package = [], []
    for evaluation in ("fresh", "same"):
        one, other = (coefficients_of_oracle(setting(scale, evaluation)) for scale in (1, FACTOR))
        pairs += zip(scaled(c, FACTOR, one), other, strict=True)
        large = setting(FACTOR, evaluation)
        curve = exact_risk(large.problem(), large.column("weight"))
        package += zip((curve.c0, curve.c1, curve.c2), other, strict=True)
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64))


def constant(value):
    return lambda problem: value


def empirical(c, effort):
    large = setting(FACTOR, "fresh")
    claimed = quantities(*scaled(c, FACTOR, coefficients_of_oracle(setting(1, "fresh"))))
    results = [
        check(
            constant(float(value)),
            [large.problem()],
            start=lambda problem: large.column("weight"),
            quantity=key,
            num_tasks=effort.num_small,
            seed=effort.seed,
            confidence=CONFIDENCE,
            simulate=simulate,
        )
        for key, value in claimed.items()
    ]
    return of_check(results)


CLAIM = Claim("Scaling of task and noise", "this project", (2, 4, 6), symbolic_verdict, independent, empirical)
