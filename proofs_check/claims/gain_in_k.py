"""In the number k of training queries the gain of the best step is a hyperbola, rising from 0 to a finite limit, exact.

c1 = k c1(1) and c2 = k (2-k) c2(1) + k (k-1)/2 c2(2), so that gain = c1^2/(4 c2) = k alpha^2/[4 (beta + gamma k)] with
alpha = c1(1), gamma = c2(2)/2 - c2(1) and beta = c2(1) - gamma. The answers of
`ttt_jax.theory.decisions` about k rest on it.
"""

from dataclasses import replace

import sympy as sp
from sympy import QQ

from proofs_check.claim import Claim, Verdict, both
from proofs_check.claims import exact_risk
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import judge, simulate_best
from proofs_check.setting import isotropic, setting_problem
from ttt_jax.theory.decisions import warm_or_cold

QUERIES = 7
GIVEN = [exact_risk.in_floats(case._replace(k=QUERIES)) for case in exact_risk.LONG]
SWITCHING = isotropic(60, 1, 120, weight=sp.Rational(1, 181))


def formula(c, one, two, k):
    """The gain at k from (c0, c1, c2) at k = 1 and 2."""
    return (c[2] * k * one[1]) ** 2 / (4 * k * ((c[0] - k) * one[2] + c[1] * (k - 1) * two[2]))


def prove(c):
    n, k, d, task, s2, w = sp.symbols("n k d beta s2 w", positive=True)
    setting = isotropic(n, k, d, task, s2, w)
    one, two = (symbolic.risk_coefficients(replace(setting, k=sp.Integer(queries))) for queries in (1, 2))
    return identities({"gain": (formula(c, one, two, k), symbolic.quantities(setting)["gain"])})


def independent(c):
    pairs, package = [], []
    for evaluation in ("fresh", "same"):
        for case in exact_risk.LONG:
            one, two, many = (
                [QQ.to_sympy(x) for x in exact_risk.of_oracle(case._replace(k=queries), evaluation)]
                for queries in (1, 2, QUERIES)
            )
            gain = many[1] ** 2 / (4 * many[2])
            pairs.append((formula(c, one, two, QUERIES), gain))
            problem, weights, _ = exact_risk.in_floats(case._replace(k=QUERIES), evaluation)
            package.append((warm_or_cold(problem, weights).warm, many[0] - gain))
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64), switch_verdict(c))


def switch_verdict(c) -> Verdict:
    """The risks change places between the package's switch point and the k before it."""
    switch = warm_or_cold(setting_problem(SWITCHING), SWITCHING.column("weight")).switch
    cold = replace(SWITCHING, groups=tuple(group._replace(weight=0) for group in SWITCHING.groups))
    starts = [[oracle.parabola(replace(start, k=k)) for k in (1, 2)] for start in (SWITCHING, cold)]

    def gap(k):
        warm_risk, cold_risk = (one[0] - formula(c, one, two, k) for one, two in starts)
        return warm_risk - cold_risk

    changes = switch is not None and gap(switch - 1) < 0 <= gap(switch)
    return Verdict(bool(changes), f"switch at k = {switch}")  # sympy's false is not False


def empirical(c, effort):
    """Correlated features, noise and non-symmetric W at k = QUERIES, from the oracle at k = 1 and 2."""
    comparisons = []
    for i, case in enumerate(exact_risk.LONG):
        one, two = ([QQ.to_sympy(x) for x in exact_risk.of_oracle(case._replace(k=queries))] for queries in (1, 2))
        found = simulate_best(GIVEN[i], effort.num_small, effort.seed + i)
        comparisons.append(found.compare("gain", formula(c, one, two, QUERIES)))
    return judge([comparisons])


CLAIM = Claim("The gain as a function of k", "this project", (2, sp.Rational(1, 2), 1), prove, independent, empirical)
