"""Cold start, isotropic, noiseless, unlimited training queries, exact: risk -> B (4n+3+d)/(n^2+4n+3+d).

So n >> sqrt(d) is enough, where a model without TTT needs n >> d.
"""

from fractions import Fraction

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import after_best_step, judge
from proofs_check.evidence.symbolic import leading
from proofs_check.setting import isotropic
from ttt_jax.problem import Problem
from ttt_jax.theory import decisions as questions


def formula(c, n, d, norm2):
    return norm2 * (c[0] * n + c[1] + c[2] * d) / (n**2 + c[3] * n + c[4] + c[5] * d)


def prove(c):
    n, k, d, task = sp.symbols("n k d beta", positive=True)
    q = symbolic.quantities(isotropic(n, k, d, task))
    return identities({"limit in k": (formula(c, n, d, task**2), leading(q["initial"] - q["gain"], k))})


def independent(c):
    """c1 is linear in k and c2 quadratic, so that the limit follows from their values at k = 1 and 2."""

    def limit(n, d):
        (c0, c1, first), (_, _, second) = (oracle.parabola(isotropic(n, k, d, sp.Rational(3, 2))) for k in (1, 2))
        return c0 - c1**2 / (2 * (second - 2 * first))

    limits = same_numbers(
        (formula(c, n, sp.Integer(d), sp.Rational(9, 4)), limit(n, d)) for n, d in ((1, 1), (3, 2), (5, 40))
    )
    return both(limits, same_numbers(zip(fewest_pairs(), fewest_pairs_by_search(), strict=True)))


D, TARGET, MAX_N = 100, Fraction(21, 100), 400


def fewest_pairs():
    """The answers of the package for the cold start: n without TTT, n with, n + k with, and the best n for k = D."""
    problem = Problem(1, D, np.ones(D) / np.sqrt(D))
    answer = questions.sample_complexity(problem, float(TARGET), "zero", max_n=MAX_N)
    return answer.without_ttt, answer.context, answer.n + answer.k, questions.best_context(problem, "zero", max_n=MAX_N)


def fewest_pairs_by_search():
    """The same from Proposition 4.1 and Theorem 4.5, every n and k one by one."""
    lengths = range(1, MAX_N + 1)

    def gain(n, k):
        return Fraction(k, k + D + 1) * Fraction(n**2, n**2 + 4 * n + 3 + D)

    def smallest_k(n):
        return next((k for k in range(1, 10 * D) if 1 - gain(n, k) <= TARGET), 10 * D)

    without = next(n for n in lengths if Fraction(D + 1, n + D + 1) <= TARGET)
    context = next(n for n in lengths if 1 - gain(n, 10**9) <= TARGET)
    total = min(n + smallest_k(n) for n in range(context, context + D))
    return without, context, total, max(lengths, key=lambda n: gain(n, D))


def empirical(c, effort):
    """The sampler "law" at k = 10^6, where the risk is within 1/5000 of its limit, far below what can be seen."""
    settings = [isotropic(n, 10**6, 4) for n in (40, 80)]
    found = [after_best_step(s, 4 * effort.num_large, effort.seed + i, "law") for i, s in enumerate(settings)]
    claimed = [float(formula(c, s.n, s.d, 1)) for s in settings]
    return judge([[one._replace(claimed=value) for one, value in zip(found, claimed, strict=True)]])


CLAIM = Claim(
    "Sample complexity of the cold start",
    "Theorem 4.5, k -> infinity",
    (4, 3, 1, 4, 3, 1),
    prove,
    independent,
    empirical,
)
