"""The mean density of the eigenvalues of a real Wishart matrix, on which the exact risk of ridge regression rests:

    rho = sum_{j < m-1} u_j^2 - sqrt((m-1)(m-1+a))/2 psi_{m-1} e + [m odd] psi_{m-1} / int psi_{m-1},

as in `ttt_jax.theory.wishart_density`. It is proved by its moments, for odd a = |N - d|, where all integrals are
rational. With penalty l the excess risk of ridge is the mean of sum_i (B l^2/d + s2 s_i) / (s_i + l)^2.
"""

from math import factorial

import numpy as np
import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import judge_samples
from proofs_check.evidence.wishart import wishart_moment
from ttt_jax.problem import Problem
from ttt_jax.theory.wishart_density import eigenvalue_sum
from ttt_jax.theory.yardsticks import ridge_risk

S = sp.Symbol("s")
COEFFICIENTS = (1, sp.Rational(1, 2), 1)
CASES = (7, 2), (6, 3), (4, 7)
"""N and d, with |N - d| = 3 or 5."""


def integral(polynomial, rate):
    """int_0^oo polynomial e^(-rate s) ds."""
    terms = sp.Poly(polynomial, S).terms()
    return sum((c * factorial(p) / rate ** (p + 1) for (p,), c in terms), sp.Integer(0))


def formula(c, rows, d, power):
    """E tr S^power over the nonzero eigenvalues; psi_j is a polynomial times e^(-s/2), not normalised."""
    m, a = min(rows, d), abs(rows - d)
    psi = [sp.expand(S ** ((a - 1) // 2) * sp.assoc_laguerre(j, a, S)) for j in range(m)]
    norms = [sp.Rational(factorial(j + a), factorial(j)) for j in range(m)]
    weight, half, last = S**power, sp.Rational(1, 2), psi[m - 1]
    total = sum(c[0] * integral(sp.expand(weight * S * psi[j] ** 2), 1) / norms[j] for j in range(m - 1))
    # e = q(0)/2 - q e^(-s/2) for the antiderivative -q e^(-s/2) of psi_{m-2}
    q = sum(2 ** (i + 1) * sp.diff(psi[m - 2], S, i) for i in range(sp.degree(psi[m - 2], S) + 1))
    spread = q.subs(S, 0) / 2 * integral(sp.expand(weight * last), half) - integral(sp.expand(weight * last * q), 1)
    total -= c[1] * (m - 1) * spread / norms[m - 2]
    if m % 2:
        total += c[2] * integral(sp.expand(weight * last), half) / integral(last, half)
    return total


def prove(c):
    """The mass, and the trace of the inverse Wishart matrix."""
    claimed = {(rows, d, power): formula(c, rows, d, power) for rows, d in CASES for power in (0, -1)}
    derived = {
        (rows, d, power): sp.Rational(min(rows, d), abs(rows - d) - 1 if power else 1) for rows, d, power in claimed
    }
    return identities({f"N, d, power {key}": (value, derived[key]) for key, value in claimed.items()})


def independent(c):
    """The moments of a Wishart matrix by Wick pairings."""
    k, d = sp.symbols("k d")
    moments = {
        (rows, size, power): wishart_moment(power).subs({k: rows, d: size}) * size
        for rows, size in CASES
        for power in (1, 2, 3)
    }
    rational = same_numbers((formula(c, *key), value) for key, value in moments.items())
    package = [
        (eigenvalue_sum(lambda s, p=power: s**p, rows, size, pole=1.0), value)
        for (rows, size, power), value in moments.items()
    ]
    return both(rational, same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    """Sampled traces, and the distance of ridge regression on sampled pairs from the task."""
    rng = np.random.default_rng(effort.seed)
    samples, claimed = [], []
    for rows, d in CASES:
        x = rng.standard_normal((effort.num_small, rows, d))
        samples.append(np.sum(x**2, axis=(1, 2)))
        claimed.append(float(formula(c, rows, d, 1)))
    for rows, d, penalty in ((6, 4, 2.0), (4, 5, 0.3)):
        task = np.full(d, d**-0.5)
        x = rng.standard_normal((2 * effort.num_small, rows, d))
        y = x @ task + np.sqrt(0.5) * rng.standard_normal((2 * effort.num_small, rows))
        gram = np.einsum("tnd,tne->tde", x, x) + penalty * np.eye(d)
        fitted = np.linalg.solve(gram, np.einsum("tnd,tn->td", x, y)[..., None])[..., 0]
        samples.append(0.5 + np.sum((task - fitted) ** 2, axis=1))
        claimed.append(ridge_risk(Problem(1, rows - 1, task, 1.0, 0.5, evaluation="same"), penalty))
    return judge_samples(samples, claimed)


CLAIM = Claim("Ridge regression", "Adler et al. (2000)", COEFFICIENTS, prove, independent, empirical)
