"""In a frame u = X'(X r + xi) has the law of a few numbers; Sx = I. Let f_1 = r/|r|, f_2, ..., f_j be orthonormal.

    u'f_1 = t |r| + sqrt(t s2) g_1,    u'f_i = sqrt(t tau) g_i,    |u beyond f_1, ..., f_j|^2 = t tau chi2(d - j)

with tau = |r|^2 + s2 and independent t ~ chi2(n), chi2(d - j) and standard normals g. The direction of the rest is
uniform and independent: it is the next vector of the frame. One vector, b, is known when the context is drawn, two, b
and u, when the batch is, three when a new context is. The risk depends on inner products alone, so that its law follows
with some ten random numbers at any d: the sampler "law" of problems whose matrices are multiples of I.
"""

from math import comb, isqrt

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check.claim import Claim, both
from proofs_check.claims import law_identity
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import Given, contexts, judge, judge_samples, num_contexts, simulate_best
from proofs_check.evidence.symbolic import chi2_moment
from proofs_check.setting import isotropic
from ttt_jax.problem import Problem

COEFFICIENTS = (1, 1, 1, 1, 1, 1)
"""Of t |r|; of s2 along r; of |r|^2 and of s2 in tau; of d and of j."""

LENGTH, NOISE_VAR, ROWS, FEATURES = QQ(3, 2), QQ(1, 3), 4, 4
POWERS = (
    (1, 0, 0), (2, 0, 0), (3, 0, 0), (0, 2, 0), (0, 0, 1), (1, 2, 0), (1, 0, 1), (2, 2, 0), (2, 0, 1), (0, 2, 1),
    (0, 0, 2), (0, 4, 0), (2, 0, 2), (2, 2, 1), (0, 0, 3),
)  # fmt: skip
"""Of u'f_1, u'f_2 and the squared length of the rest; for j = 1 those without f_2."""


def normal_moment(power):
    return 0 if power % 2 else sp.factorial2(power - 1)


def moment(c, n, d, j, length, noise_var, powers):
    """E of the product of these powers; a number of t's is a power of t, whose mean is that of chi2(n)."""
    first, second, rest = powers
    tau = c[2] * length**2 + c[3] * noise_var
    across = tau ** (second // 2 + rest) * normal_moment(second) * chi2_moment(c[4] * d - c[5] * j, rest)
    return across * sum(
        comb(first, i) * normal_moment(i) * (c[0] * length) ** (first - i) * (c[1] * noise_var) ** (i // 2)
        * chi2_moment(n, first - i // 2 + second // 2 + rest)
        for i in range(0, first + 1, 2)
    )  # fmt: skip


def symbolic(c):
    """The generating function along f_1, f_2 and a direction of the rest against that of u; lengths by additivity."""
    a1, a2, a3, length, s2, d, j = sp.symbols("a1 a2 a3 length s2 d j")
    along = 2 * c[0] * a1 * length + c[1] * s2 * a1**2
    framed = 1 - along - (c[2] * length**2 + c[3] * s2) * (a2**2 + a3**2)
    of_u = law_identity.formula(law_identity.CLAIM.coefficients, a1 * length, a1**2 + a2**2 + a3**2, length**2 + s2)
    pairs = {"generating function": (framed, of_u)}
    for power in (1, 2, 3):  # |z|^2 is that of j coordinates and of the rest
        parts = (
            comb(power, i) * chi2_moment(j, i) * chi2_moment(c[4] * d - c[5] * j, power - i) for i in range(power + 1)
        )
        pairs[f"E |z|^{2 * power}"] = sp.expand(sum(parts)), sp.expand(chi2_moment(d, power))
    return identities(pairs)


def independent(c):
    """Moments from the Gaussian entries of the rows by Wick pairings."""
    identity = [[QQ(int(i == j)) for j in range(FEATURES)] for i in range(FEATURES)]
    of_u = oracle.context_moments([LENGTH] + [QQ(0)] * (FEATURES - 1), identity, NOISE_VAR, ROWS)
    pairs = []
    for j in (1, 2):
        for first, second, rest in POWERS if j == 2 else [powers for powers in POWERS if not powers[1]]:
            exact = sum(
                weight * of_u.get((first, second, *beyond) if j == 2 else (first, *beyond), 0)
                for weight, beyond in squares(FEATURES - j, rest)
            )
            claimed = moment(c, ROWS, FEATURES, j, QQ.to_sympy(LENGTH), QQ.to_sympy(NOISE_VAR), (first, second, rest))
            pairs.append((claimed, QQ.to_sympy(QQ.convert(exact))))
    return same_numbers(pairs)


def squares(size, power):
    """(x_1^2 + ... + x_size^2)^power as coefficients and exponents."""
    if size == 1:
        return [(1, (2 * power,))]
    return [
        (comb(power, i) * w, (2 * i, *beyond)) for i in range(power + 1) for w, beyond in squares(size - 1, power - i)
    ]


def empirical(c, effort):
    """Contexts of sampled rows against the moments; the sampler "law" in the frame against the rational oracle."""
    task = np.array([float(LENGTH), 0, 0, 0])
    u = contexts(task, np.eye(FEATURES), float(NOISE_VAR), ROWS, num_contexts(effort), effort.seed)
    found = [u[:, 0] ** a * u[:, 1] ** b * np.sum(u[:, 2:] ** 2, axis=1) ** m for a, b, m in POWERS[:5]]
    claimed = [float(moment(c, ROWS, FEATURES, 2, LENGTH, NOISE_VAR, powers)) for powers in POWERS[:5]]
    return both(judge_samples(found, claimed), judge([list(sampler(effort))]))


def sampler(effort):
    n, k, d, noise_var, weight = 200, 60, 9, sp.Rational(1, 3), sp.Rational(1, 250)
    for i, evaluation in enumerate(("fresh", "same")):
        c0, c1, c2 = oracle.grouped_coefficients(isotropic(n, k, d, 1, noise_var, weight, evaluation))
        problem = Problem(n, k, np.full(d, 1 / isqrt(d)), noise_var=float(noise_var), evaluation=evaluation)
        given = Given(problem, np.array(float(weight)))
        found = simulate_best(given, 4 * effort.num_small, effort.seed + i, sampler="law")
        yield found.compare("risk", QQ.to_sympy(c0 - c1**2 / (4 * c2)))


CLAIM = Claim("The summary in a frame", "this project", COEFFICIENTS, symbolic, independent, empirical)
