"""Cold start, isotropic, noiseless, unlimited training queries, exact: risk -> B (4n+3+d)/(n^2+4n+3+d).

So n >> sqrt(d) is enough, where a model without TTT needs n >> d.
"""

import sympy as sp
from sympy import QQ

from proofs_check import oracle
from proofs_check.claim import (
    CONFIDENCE,
    Claim,
    identities,
    isotropic,
    of_check,
    quantities_in_symbols,
    same_numbers,
    simulate,
)
from proofs_check.oracle import Group
from proofs_check.symbolic import leading
from ttt_jax.check import check
from ttt_jax.problem import Problem


def formula(c, n, d, norm2):
    return norm2 * (c[0] * n + c[1] + c[2] * d) / (n**2 + c[3] * n + c[4] + c[5] * d)


def symbolic(c):
    n, k, d, task = sp.symbols("n k d beta", positive=True)
    q = quantities_in_symbols(isotropic(n, k, d, task))
    return identities({"limit in k": (formula(c, n, d, task**2), leading(q["initial"] - q["gain"], k))})


def independent(c):
    """c1 is linear in k and c2 quadratic, so that the limit follows from their values at k = 1 and 2."""

    def limit(n, d):
        (c0, c1, first), (_, _, second) = (
            oracle.grouped_coefficients([Group(d, 1, 0, QQ(3, 2))], 0, n, k) for k in (1, 2)
        )
        return QQ.to_sympy(c0 - c1**2 / (2 * (second - 2 * first)))

    return same_numbers(
        (formula(c, n, sp.Integer(d), sp.Rational(9, 4)), limit(n, d)) for n, d in ((1, 1), (3, 2), (5, 40))
    )


def empirical(c, effort):
    """At k = 2000 d, where the risk is within 1/2000 of its limit, far below what can be seen."""
    problems = [Problem(n, 6000, [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]) for n in (2, 6)]
    result = check(
        lambda n, d, task_norm2: float(formula(c, n, d, task_norm2)),
        problems,
        weights=lambda problem: 0.0 * problem.task,
        num_tasks=effort.num_large,
        seed=effort.seed,
        confidence=CONFIDENCE,
        simulate=simulate,
    )
    return of_check([result])


CLAIM = Claim(
    "Sample complexity of the cold start",
    "Theorem 4.5, k -> infinity",
    (4, 3, 1, 4, 3, 1),
    symbolic,
    independent,
    empirical,
)
