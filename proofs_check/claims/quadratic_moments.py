"""Products of up to three quadratic forms in the summary u = X'y have the means of `proofs_check.evidence.moments`.

Given t ~ chi2(n), u ~ N(t p, t G) with p = Sx b, G = tau Sx - p p', tau = b'Sx b + s2; then E t^m = n(n+2)...(n+2m-2).
"""

import itertools
from functools import lru_cache
from math import prod

import numpy as np
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, Verdict
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import same_numbers
from proofs_check.evidence.moments import (
    QUADRATIC_LINEAR,
    QUADRATIC_PAIR,
    QUADRATIC_TRIPLE,
    chi2_mean,
    quadratic_linear,
    quadratic_pair,
    quadratic_triple,
)
from proofs_check.evidence.simulation import contexts, judge_samples, num_contexts

TASK, FEATURE_COV, NOISE_VAR, N = [QQ(1), QQ(1, 2)], [[QQ(2), QQ(1, 2)], [QQ(1, 2), QQ(1)]], QQ(1, 3), 20
F, H, L = (np.array(m, dtype=object) for m in ([[2, 1], [1, -1]], [[1, 0], [0, 3]], [[1, -1], [-1, 2]]))
VECTOR = np.array([3, -1], dtype=object)


def formulas(c, f, h, l, vector, p, g) -> list[dict]:
    return [
        quadratic_linear(c[:2], f, vector, p, g),
        quadratic_pair(c[2:6], f, h, p, g),
        quadratic_triple(c[6:], f, h, l, p, g),
    ]


def products(u, f, h, l, vector) -> list:
    forms = [sum(m[i, j] * u[i] * u[j] for i, j in itertools.product(range(2), repeat=2)) for m in (f, h, l)]
    return [forms[0] * (vector[0] * u[0] + vector[1] * u[1]), forms[0] * forms[1], prod(forms)]


def law():
    sx, b = np.array(FEATURE_COV), np.array(TASK)
    p = sx @ b
    return p, (b @ p + NOISE_VAR) * sx - np.outer(p, p)


def symbolic(c):
    """All entries are symbols, d = 2: the Gaussian moments by E[u_i f] = E[u_i] E f + sum_j Cov_ij E d_j f."""
    names = "p0 p1 g00 g01 g11 f00 f01 f11 h00 h01 h11 l00 l01 l11 v0 v1 t"
    domain, *x = ring(names.split(), QQ)
    p, t = x[:2], x[-1]
    g, f, h, l = (np.array([[x[i], x[i + 1]], [x[i + 1], x[i + 2]]]) for i in (2, 5, 8, 11))
    _, *u = ring("u0 u1", domain)

    @lru_cache(None)
    def moment(powers):
        if not any(powers):
            return domain.one
        i = 0 if powers[0] else 1
        rest = tuple(a - (j == i) for j, a in enumerate(powers))
        lower = ((j, tuple(a - (m == j) for m, a in enumerate(rest))) for j in range(2) if rest[j])
        return t * p[i] * moment(rest) + sum((t * g[i, j] * rest[j] * moment(m) for j, m in lower), domain.zero)

    for polynomial, claimed in zip(
        products(u, f, h, l, x[14:16]),
        formulas([QQ.convert(a) for a in c], f, h, l, np.array(x[14:16]), np.array(p), g),
        strict=True,
    ):
        expected = sum((a * moment(powers) for powers, a in polynomial.terms()), domain.zero)
        if sum((a * t**power for power, a in claimed.items()), domain.zero) != expected:
            return Verdict(False, "a moment differs")
    return Verdict(True, "identity in all entries at d = 2, three moments")


def independent(c):
    moments = oracle.context_moments(TASK, FEATURE_COV, NOISE_VAR, N)
    _, *u = ring("u0 u1", QQ)
    expected = [
        sum((a * moments.get(powers, 0) for powers, a in polynomial.terms()), QQ(0))
        for polynomial in products(u, F, H, L, VECTOR)
    ]
    claimed = [chi2_mean(m, N) for m in formulas([QQ.convert(a) for a in c], F, H, L, VECTOR, *law())]
    return same_numbers(zip(claimed, expected, strict=True))


def empirical(c, effort):
    f, h, l, vector = (m.astype(float) for m in (F, H, L, VECTOR))
    sx = np.array(FEATURE_COV, dtype=float)
    u = contexts(np.array(TASK, dtype=float), sx, float(NOISE_VAR), N, num_contexts(effort), effort.seed)
    claimed = [chi2_mean(m, N) for m in formulas(c, f, h, l, vector, *(x.astype(float) for x in law()))]
    return judge_samples(products(u.T, f, h, l, vector), [float(x) for x in claimed])


CLAIM = Claim(
    "Moments of quadratic forms in u",
    "this project",
    (*QUADRATIC_LINEAR, *QUADRATIC_PAIR, *QUADRATIC_TRIPLE),
    symbolic,
    independent,
    empirical,
)
