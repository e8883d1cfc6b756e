"""Risk without TTT, exact for any W, Sx and noise.

L(W) = b'[Sx - n Sx W Sx - n Sx W'Sx + n(n+1) Sx W'Sx W Sx + n tr(W'Sx W Sx) Sx] b + s2 n tr(W'Sx W Sx) + s2.
"""

import numpy as np
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check import oracle
from proofs_check.claim import CONFIDENCE, FLOAT64, Claim, Verdict, both, of_check, same_numbers, simulate
from proofs_check.claims.exact_risk import ARGUMENTS, ORACLE_PROBLEMS, PROBLEMS, SIMULATED_PROBLEMS
from ttt_jax.theory.paper import lemma_b2
from ttt_jax.verdict.claim import check


def formula(c, task, sx, s2, w, n):
    p = sx @ task
    spread = np.trace(w.T @ sx @ w @ sx) * n
    linear = (p @ w @ p) * (c[1] * n) + (p @ w.T @ p) * (c[2] * n)
    quadratic = (p @ w.T @ sx @ w @ p) * (c[3] * n * (n + 1))
    return c[0] * (task @ p) - linear + quadratic + c[4] * spread * (task @ p) + c[5] * s2 * spread + c[6] * s2


def symbolic(c):
    """W, b and Sx have symbolic entries, d = 2; E u and E uu' follow from the moments of one row, rows independent."""
    _, *x = ring(["n", "s2", "b0", "b1", "x00", "x01", "x11", "w00", "w01", "w10", "w11"], QQ)
    n, s2 = x[:2]
    task, sx, w = np.array(x[2:4]), np.array([[x[4], x[5]], [x[5], x[6]]]), np.array([x[7:9], x[9:11]])
    p = sx @ task
    tau = task @ p + s2
    row = sx * tau + np.outer(p, p) * 2  # E y^2 xx', three pairings
    second = row * n + np.outer(p, p) * (n * (n - 1))
    derived = s2 + task @ p - (p @ w @ p) * (2 * n) + np.trace(w.T @ sx @ w @ second)
    same = formula([QQ.convert(a) for a in c], task, sx, s2, w, n) == derived
    return Verdict(same, "identity in all entries at d = 2" if same else "differs")


def independent(c):
    c = [QQ.convert(a) for a in c]
    rational = same_numbers(
        (
            QQ.to_sympy(QQ.convert(formula(c, b, sx, s2, w, n))),
            QQ.to_sympy(oracle.risk_coefficients(b, sx, s2, w, n, k)[0]),
        )
        for b, sx, s2, w, n, k in ORACLE_PROBLEMS
    )
    package = same_numbers(
        (
            (lemma_b2(problem, ARGUMENTS[problem][3]), QQ.to_sympy(oracle.risk_coefficients(*given)[0]))
            for problem, given in zip(PROBLEMS, SIMULATED_PROBLEMS, strict=True)
        ),
        tolerance=FLOAT64,
    )
    return both(rational, package)


def empirical(c, effort):
    def claim(problem):
        task, sx, s2, w, n, _ = ARGUMENTS[problem]
        return float(formula([float(a) for a in c], task, sx, s2, w, n))

    return of_check(
        [
            check(
                claim,
                PROBLEMS,
                start=lambda problem: ARGUMENTS[problem][3],
                quantity="initial",
                num_tasks=effort.num_small,
                seed=effort.seed,
                confidence=CONFIDENCE,
                simulate=simulate,
            )
        ]
    )


CLAIM = Claim("Risk without TTT", "Lemma B.2", (1,) * 7, symbolic, independent, empirical)
