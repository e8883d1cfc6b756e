"""A step size for each prompt, lr = L_train / (2 |u|^2 |v|^2), is the best for it; Sx = I, no noise, the same context.

It leaves the fraction 1 - L_train^2 / (|r|^2 |v|^2) of the risk of the prompt, which is Beta((d-1)/2, k/2), independent
of x = |v|^2 / L_train ~ chi2(k+d-1) and of the risk before.
"""

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, both
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.oracle import gaussian_mean
from proofs_check.evidence.simulation import judge_samples, num_contexts
from proofs_check.evidence.symbolic import chi2_moment
from ttt_jax.theory.prompt_step import prompt_step_fraction, prompt_step_size


def step(c, u2, v2, loss):
    return c[0] * loss / (2 * u2 * v2)


def fraction_moment(c, k, d, power):
    """E of the power of the fraction."""
    return chi2_moment(c[1] * d - 1, power) / chi2_moment(c[2] * k + d - 1, power)


def symbolic(c):
    """The slope of the risk at the step is 0, for every symmetric Xt'Xt at d = 2; m = (fraction) (q + m), both chi2."""
    u2, k, d, r0, r1, a, b, e = sp.symbols("u2 k d r0 r1 a b e", positive=True)
    r, s, lr = sp.Matrix([r0, r1]), sp.Matrix([[a, b], [b, e]]), sp.Symbol("lr")
    v = s * r
    risk = (r - 2 * lr * u2 * v).dot(r - 2 * lr * u2 * v)
    best = step(c, u2, v.dot(v), r.dot(v))
    left = 1 - r.dot(v) ** 2 / (r.dot(r) * v.dot(v))
    pairs = {"slope": (sp.diff(risk, lr).subs(lr, best), 0), "left": (risk.subs(lr, best), left * r.dot(r))}
    for power in (1, 2, 3):
        whole = chi2_moment(k + d - 1, power)
        pairs[f"E f^{power}"] = fraction_moment(c, k, d, power) * whole, chi2_moment(d - 1, power)
    return identities(pairs)


def independent(c):
    """E (|v|^2 - L^2)^m L^j for |r| = 1, from the entries of k = 2 rows: f^m (1 - f)^(m+j) x^(2m+j) is its law."""
    _, *x = ring("x0 x1 x2 x3", QQ)
    rows, k, d = [x[:2], x[2:]], 2, 2
    residual = QQ(3, 5), QQ(4, 5)
    along = [row[0] * residual[0] + row[1] * residual[1] for row in rows]
    v = [rows[0][i] * along[0] + rows[1][i] * along[1] for i in range(2)]
    v2, loss = v[0] ** 2 + v[1] ** 2, along[0] ** 2 + along[1] ** 2
    pairs = []
    for m, j in ((1, 0), (1, 1), (2, 0)):
        signs = [sp.binomial(m + j, i) * (-1) ** i * fraction_moment(c, k, d, m + i) for i in range(m + j + 1)]
        claimed = sum(signs) * chi2_moment(k + d - 1, 2 * m + j)
        pairs.append((claimed, QQ.to_sympy(gaussian_mean((v2 - loss**2) ** m * loss**j))))
    u, queries = sp.Matrix([2, 1]), sp.Matrix([[1, 2], [3, -1], [0, 1]])
    r = sp.Matrix([1, 3]) - u / 7
    y = queries * r
    v = queries.T * y
    best = r.dot(v) / (2 * u.dot(u) * v.dot(v))  # the vertex of |r - 2 lr |u|^2 v|^2
    pairs.append((step(c, u.dot(u), v.dot(v), y.dot(y)), best))
    labels = [np.array(queries * sp.Matrix([1, 3]), float).ravel(), np.array([2.0, 1.0])]
    of_package = prompt_step_size(1 / 7, np.eye(2), labels[1], np.array(queries, float), labels[0])
    mean, var = prompt_step_fraction(5, 4)
    first, second = (fraction_moment((1, 1, 1), 5, 4, power) for power in (1, 2))
    package = [(of_package, best), (mean, first), (var, second - first**2)]
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64))


def empirical(c, effort):
    """Sampled rows, a dense W: the fraction of the risk that the claimed step leaves."""
    n, k, d = 8, 9, 5
    rng, count = np.random.default_rng(effort.seed), num_contexts(effort) // 4
    task, weights = np.array([1.0, 0.5, 0.0, -0.5, 2.0]), 0.05 * np.eye(d) + 0.03 * rng.standard_normal((d, d))
    x, queries = (rng.standard_normal((count, rows, d)) for rows in (n, k))
    u = np.einsum("cni,cn->ci", x, x @ task)
    residual = np.einsum("cki,ci->ck", queries, task - u @ weights.T)
    v = np.einsum("cki,ck->ci", queries, residual)
    u2, v2, loss = np.sum(u**2, 1), np.sum(v**2, 1), np.sum(residual**2, 1)
    change = 2 * (step(np.array(c, float), u2, v2, loss) * u2)[:, None] * v
    before, after = np.sum((task - u @ weights.T) ** 2, 1), np.sum((task - u @ weights.T - change) ** 2, 1)
    left = after / before
    claimed = [float(fraction_moment(c, k, d, power)) for power in (1, 2)]
    return judge_samples([left, left**2], claimed)


CLAIM = Claim("The best step of each prompt", "this project", (1, 1, 1), symbolic, independent, empirical)
