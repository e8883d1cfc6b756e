"""In the number k of training queries the gain of the best step is a hyperbola, rising from 0 to a finite limit, exact.

c1 = k c1(1) and c2 = k (2-k) c2(1) + k (k-1)/2 c2(2), so that gain = c1^2/(4 c2) = k alpha^2/[4 (beta + gamma k)] with
alpha = c1(1), gamma = c2(2)/2 - c2(1) and beta = c2(1) - gamma. The answers of
`ttt_jax.theory.decisions` about k rest on it.
"""

from dataclasses import replace

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check import oracle
from proofs_check.claim import (
    CONFIDENCE,
    FLOAT64,
    Claim,
    Verdict,
    both,
    coefficients_of_oracle,
    identities,
    isotropic,
    of_check,
    quantities_in_symbols,
    same_numbers,
    setting_problem,
    simulate,
)
from proofs_check.claims import exact_risk
from proofs_check.symbolic import risk_coefficients
from ttt_jax.theory.decisions import warm_or_cold
from ttt_jax.verdict.claim import check

QUERIES = 7
SWITCHING = isotropic(60, 1, 120, weight=sp.Rational(1, 181))


def formula(c, one, two, k):
    """The gain at k from (c0, c1, c2) at k = 1 and 2."""
    return (c[2] * k * one[1]) ** 2 / (4 * k * ((c[0] - k) * one[2] + c[1] * (k - 1) * two[2]))


def symbolic(c):
    n, k, d, task, s2, w = sp.symbols("n k d beta s2 w", positive=True)
    setting = isotropic(n, k, d, task, s2, w)
    one, two = (risk_coefficients(setting.groups, s2, n, sp.Integer(queries)) for queries in (1, 2))
    return identities({"gain": (formula(c, one, two, k), quantities_in_symbols(setting)["gain"])})


def independent(c):
    pairs, package = [], []
    for evaluation in ("fresh", "same"):
        for problem, given in zip(exact_risk.SIMULATED_PROBLEMS, exact_risk.PROBLEMS, strict=True):
            one, two, many = (
                [QQ.to_sympy(x) for x in oracle.risk_coefficients(*problem[:5], queries, evaluation)]
                for queries in (1, 2, QUERIES)
            )
            gain = many[1] ** 2 / (4 * many[2])
            pairs.append((formula(c, one, two, QUERIES), gain))
            answer = warm_or_cold(replace(given, k=QUERIES, evaluation=evaluation), exact_risk.ARGUMENTS[given][3])
            package.append((answer.warm, many[0] - gain))
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64), switch_verdict(c))


def switch_verdict(c) -> Verdict:
    """The risks change places between the package's switch point and the k before it."""
    switch = warm_or_cold(setting_problem(SWITCHING), SWITCHING.column("weight")).switch
    cold = replace(SWITCHING, groups=tuple(group._replace(weight=0) for group in SWITCHING.groups))
    starts = [[coefficients_of_oracle(replace(start, k=k)) for k in (1, 2)] for start in (SWITCHING, cold)]

    def gap(k):
        warm_risk, cold_risk = (one[0] - formula(c, one, two, k) for one, two in starts)
        return warm_risk - cold_risk

    changes = switch is not None and gap(switch - 1) < 0 <= gap(switch)
    return Verdict(bool(changes), f"switch at k = {switch}")  # sympy's false is not False


def empirical(c, effort):
    """Correlated features, noise and non-symmetric W at k = QUERIES, from the oracle at k = 1 and 2."""
    problems = {
        replace(given, k=QUERIES): p
        for given, p in zip(exact_risk.PROBLEMS, exact_risk.SIMULATED_PROBLEMS, strict=True)
    }

    def claimed(problem):
        one, two = (oracle.risk_coefficients(*problems[problem][:5], queries) for queries in (1, 2))
        return float(formula(c, *([float(x) for x in values] for values in (one, two)), QUERIES))

    result = check(
        claimed,
        problems,
        start=lambda problem: np.array(problems[problem][3], dtype=float),
        quantity="gain",
        num_tasks=effort.num_small,
        seed=effort.seed,
        confidence=CONFIDENCE,
        simulate=simulate,
    )
    return of_check([result])


CLAIM = Claim(
    "The gain as a function of k", "this project", (2, sp.Rational(1, 2), 1), symbolic, independent, empirical
)
