"""A step hurts a prompt, for every W, if and only if lr |u|^2 |v|^2 > L_train; Sx = I, no noise, the same context.

The risk of the prompt changes by 4 lr |u|^2 [lr |u|^2 |v|^2 - L_train], as r'v = L_train for v = Xt'Xt r. And
|u|^2 = B t (t + s) and |v|^2 = L_train x, with independent t ~ chi2(n), s ~ chi2(d-1) and x ~ chi2(k+d-1), so that

    P(hurt) = P(lr B t (t + s) x > 1);

L_train / (|r|^2 x) is Beta(k/2, (d-1)/2), independent of x.
"""

import itertools
from math import comb

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, Verdict, both
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.oracle import gaussian_mean
from proofs_check.evidence.simulation import Comparison, judge, num_contexts
from proofs_check.evidence.symbolic import chi2_moment
from ttt_jax.theory.prompt_law import prob_hurt

POWERS = (0, 1), (1, 0), (1, 1), (2, 0), (0, 3)
"""Of |v|^2 and of L_train."""


def change(c, lr, u2, v2, loss):
    """The risk after the step less that before."""
    return 4 * lr * u2 * (c[0] * lr * u2 * v2 - c[1] * loss)


def beta_moment(degrees, total, power):
    """E of the power of Beta(degrees/2, (total - degrees)/2)."""
    return chi2_moment(degrees, power) / chi2_moment(total, power)


def training_moment(c, k, d, a, j):
    """E |v|^2a L_train^j for |r| = 1: v2 = beta x^2, L = beta x."""
    total = k + c[2] * d - 1
    return beta_moment(k, total, a + j) * chi2_moment(total, 2 * a + j)


def context_moment(c, n, d, norm2, power):
    """E |u|^(2 power)."""
    s = [chi2_moment(d - 1, i) for i in range(power + 1)]
    terms = (comb(power, i) * (c[3] ** i) * s[i] * chi2_moment(n, 2 * power - i) for i in range(power + 1))
    return norm2**power * sum(terms)


def symbolic(c):
    """The change for every symmetric Xt'Xt at d = 3; |v|^2 and L_train by q ~ chi2(k) along r, m ~ chi2(d-1) across."""
    lr, u2, n, k, d, b = sp.symbols("lr u2 n k d b", positive=True)
    r = sp.Matrix(sp.symbols("r:3"))
    entries = sp.symbols("s:6")
    s = sp.Matrix(3, 3, lambda i, j: entries[min(i, j) * (5 - min(i, j)) // 2 + max(i, j)])
    v = s * r
    after = r - 2 * lr * u2 * v
    pairs = {"change": (change(c, lr, u2, v.dot(v), r.dot(v)), sp.expand(after.dot(after) - r.dot(r)))}
    for a, j in POWERS:  # v2^a L^j = q^(a+j) (q + m)^a
        parts = (comb(a, i) * chi2_moment(k, 2 * a + j - i) * chi2_moment(d - 1, i) for i in range(a + 1))
        pairs[f"E v2^{a} L^{j}"] = training_moment(c, k, d, a, j), sum(parts)
    for power in (1, 2):  # S11 = t and its column across b: t s; b'S^2 b
        total = sum(
            comb(power, i) * chi2_moment(n, 2 * (power - i) + i) * chi2_moment(d - 1, i) for i in range(power + 1)
        )
        pairs[f"E u^{2 * power}"] = context_moment(c, n, d, b**2, power), b ** (2 * power) * total
    return identities(pairs)


def independent(c):
    """Moments from the Gaussian entries of the rows by Wick pairings, at k = 2 and d = 2; the change at numbers."""
    _, *x = ring("x0 x1 x2 x3", QQ)
    rows = [x[:2], x[2:]]
    residual = QQ(3, 5), QQ(4, 5)
    along = [sum((row[i] * residual[i] for i in range(2)), 0 * x[0]) for row in rows]
    v = [sum((row[i] * y for row, y in zip(rows, along, strict=True)), 0 * x[0]) for i in range(2)]
    v2, loss = v[0] ** 2 + v[1] ** 2, along[0] ** 2 + along[1] ** 2
    pairs = [(training_moment(c, 2, 2, a, j), QQ.to_sympy(gaussian_mean(v2**a * loss**j))) for a, j in POWERS]
    task, n = [QQ(1), QQ(1, 2)], 5
    of_u = oracle.context_moments(task, [[1, 0], [0, 1]], 0, n)
    for power in (1, 2, 3):
        exact = sum(comb(power, i) * of_u.get((2 * i, 2 * power - 2 * i), 0) for i in range(power + 1))
        pairs.append((context_moment(c, n, 2, sp.Rational(5, 4), power), QQ.to_sympy(exact)))
    for lr, u2 in itertools.product((sp.Rational(1, 7), sp.Rational(2, 3)), (1, 3)):
        r, s = sp.Matrix([1, -2]), sp.Matrix([[3, 1], [1, 2]])
        after = r - 2 * lr * u2 * s * r
        v = s * r
        pairs.append((change(c, lr, u2, v.dot(v), r.dot(v)), after.dot(after) - r.dot(r)))
    return both(same_numbers(pairs), package())


def package() -> Verdict:
    """The package's probability at d = 1 and k = 2, where the tail of x is exp(-x/2), by a sum over log t."""
    y = np.arange(-40.0, 5.0, 1e-3)  # log t
    density = np.exp(2 * y - np.exp(y) / 2)  # t ~ chi2(4)
    exact = np.sum(density * np.exp(-np.exp(-2 * y) / (2 * 0.02))) / np.sum(density)
    return same_numbers([(prob_hurt(4, 2, 1, 0.02), exact)], tolerance=1e-11)


def empirical(c, effort):
    """Sampled rows, a dense W that is not symmetric, the risk before and after; the change of every prompt."""
    n, k, d, lr = 12, 9, 4, 2e-4
    rng, count = np.random.default_rng(effort.seed), num_contexts(effort) // 4
    task, weights = np.array([1.0, 0.5, 0.0, -0.5]), 0.05 * np.eye(d) + 0.03 * rng.standard_normal((d, d))
    x, queries = (rng.standard_normal((count, rows, d)) for rows in (n, k))
    u = np.einsum("cni,cn->ci", x, x @ task)
    r = task - u @ weights.T
    residual = np.einsum("cki,ci->ck", queries, r)
    v = np.einsum("cki,ck->ci", queries, residual)
    u2, v2, loss = np.sum(u**2, 1), np.sum(v**2, 1), np.sum(residual**2, 1)
    risks = [np.sum((task - u @ weights.T - 2 * size * u2[:, None] * v) ** 2, 1) for size in (0.0, lr)]
    claimed = change(np.array(c, float), lr, u2, v2, loss)
    if not np.allclose(claimed, risks[1] - risks[0], rtol=1e-6, atol=1e-12):
        return Verdict(False, "the change of a prompt differs")
    share = prob_hurt(n, k, d, float(c[0] / c[1]) * lr * float(task @ task))
    found = float(np.mean(risks[1] > risks[0]))
    return judge([[Comparison(share, found, float(np.sqrt(share * (1 - share) / count)))]])


CLAIM = Claim("When a step hurts a prompt", "this project", (1, 1, 1, 1), symbolic, independent, empirical)
