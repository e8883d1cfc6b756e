"""What the paper's proofs use of Gaussian matrices, for X with n independent rows N(0, I) (Lemmas B.1 and B.3).

u = X'X b has mean n b and covariance n (bb' + |b|^2 I), exactly; the proofs replace it by a Gaussian of mean n b and
covariance n |b|^2 I. And E X'X A X'X = n^2 A + n A' + n tr(A) I for every A, so that E (X'X)^2 = n (n+d+1) I.
"""

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check.claim import Claim
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import judge_samples, num_contexts

TASK, MATRIX, N = sp.Matrix([1, sp.Rational(3, 2)]), sp.Matrix([[2, 1], [-1, 3]]), 12


def covariance(c, b, n):
    return n * (c[0] * b * b.T + c[1] * b.dot(b) * sp.eye(len(b)))


def square(c, a, n):
    return c[2] * n**2 * a + c[3] * n * a.T + c[4] * n * a.trace() * sp.eye(a.rows)


def symbolic(c):
    """Rows are independent: n times the pairings of one row xx'Axx', and n (n-1) times A; entries symbols, d = 3."""
    n = sp.Symbol("n")
    b, a = sp.Matrix(sp.symbols("b:3")), sp.Matrix(3, 3, sp.symbols("a:9"))
    eye = sp.eye(3)

    def one_row(m):
        """E xx'Mxx': the sum over l, m of E x_i x_l x_m x_j M_lm, three pairings each."""
        entries = [(l, k) for l in range(3) for k in range(3)]

        def entry(i, j):
            pairings = (eye[i, l] * eye[k, j] + eye[i, k] * eye[l, j] + eye[i, j] * eye[l, k] for l, k in entries)
            return sum(x * m[l, k] for x, (l, k) in zip(pairings, entries, strict=True))

        return sp.Matrix(3, 3, entry)

    of_u = n * one_row(b * b.T) - n * b * b.T
    derived = n * one_row(a) + n * (n - 1) * a
    pairs = {"Cov X'Xb": (covariance(c, b, n), of_u), "E X'XAX'X": (square(c, a, n), derived)}
    return identities({f"{name} {i}": pair for name, m in pairs.items() for i, pair in enumerate(zip(*m, strict=True))})


def independent(c):
    """Moments of whole contexts by Wick pairings: u for one b, and u of b1 against u of b2 by polarisation."""

    def second(b):
        """E uu' for the task b."""
        moments = oracle.context_moments(list(b), [[1, 0], [0, 1]], 0, N)
        m20, m11, m02 = (QQ.to_sympy(QQ.convert(moments.get(power, 0))) for power in ((2, 0), (1, 1), (0, 2)))
        return sp.Matrix([[m20, m11], [m11, m02]])

    pairs = list(zip(covariance(c, TASK, N) + N**2 * TASK * TASK.T, second(TASK), strict=True))
    symmetric = (MATRIX + MATRIX.T) / 2
    root = [sp.Matrix(v) for v in ([1, 0], [0, 1], [1, 1])]  # S = s00 e0e0' + s11 e1e1' + s01 (vv' - e0e0' - e1e1')
    s00, s01, s11 = symmetric[0, 0], symmetric[0, 1], symmetric[1, 1]
    total = (s00 - s01) * second(root[0]) + (s11 - s01) * second(root[1]) + s01 * second(root[2])
    pairs += zip(square(c, symmetric, N), total, strict=True)
    return same_numbers(pairs)


def empirical(c, effort):
    rng = np.random.default_rng(effort.seed)
    x = rng.standard_normal((num_contexts(effort), N, 2))
    s = np.einsum("cni,cnj->cij", x, x)
    b, a = np.array(TASK, float).ravel(), np.array(MATRIX, float)
    u = s @ b - N * b
    claimed = [*covariance(c, TASK, N), *square(c, MATRIX, N)]
    samples = [*np.einsum("ci,cj->ijc", u, u).reshape(4, -1), *np.einsum("cij,jk,ckl->ilc", s, a, s).reshape(4, -1)]
    return judge_samples(samples, [float(value) for value in claimed])


CLAIM = Claim("Gaussian matrices", "Lemmas B.1, B.3", (1, 1, 1, 1, 1), symbolic, independent, empirical)
