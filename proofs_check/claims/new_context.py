"""Several steps, Sx = I, all pairs drawn anew before each step, exact: a linear recursion in W's quadratic forms.

With x = b'W b, y = |W b|^2, z = |W|_F^2, r = b - W u, v = Xt'(yt - Xt W u), C = E uu' and the risk
s2 + B - 2 n x + n(n+1) y + n tau z, the step W + 2 lr v u' adds in expectation

x: 2 lr k E[b'r u'b];   y: 4 lr k E[b'W'r u'b] + 4 lr^2 E[|v|^2 (u'b)^2];   z: 4 lr k E[r'W u] + 4 lr^2 E[|v|^2 |u|^2].
"""

import random

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import Comparison, exact_curve, judge, simulate_steps
from proofs_check.setting import Group, Setting, isotropic
from ttt_jax.problem import Problem
from ttt_jax.theory.several_steps import new_context_risk

COEFFICIENTS = (2, 4, 4, 4, 4, 1, 1, 2, 4, 2)
"""Of the drift of x; drift and square of y; drift and square of z; of |r|^2 and s2 in |v|^2; of moments of u."""

SCHEDULE = 0.5, 0.4, 0.3


def recursion(c, n, k, d, norm2, s2, state, lr):
    """The expectations of (x, y, z) after one step."""
    x, y, z = state
    tau = norm2 + s2
    left = s2 / tau
    t2, t3, t4 = n * (n + 2), n * (n + 2) * (n + 4), n * (n + 2) * (n + 4) * (n + 6)
    along, across = n * (n + 1) * norm2 + n * tau, n * tau

    def residual(f, trace, loop):
        """E[(u'Fu) |r|^2] where F b = f b, tr F = trace and tr(F P W'W P) = loop, P = I - bb'/tau."""
        trace_p, trace_w = trace - f * norm2 / tau, z - y / tau
        size = t2 * f * norm2 + n * tau * trace_p
        linear = t3 * f * norm2 * x + t2 * tau * x * (trace_p + 2 * f * left)
        square = t4 * f * norm2 * y + t2 * tau**2 * (trace_p * trace_w + c[9] * loop)
        square += t3 * tau * (f * norm2 * trace_w + y * trace_p + c[8] * f * left * y)
        return norm2 * size - c[7] * linear + square

    square, noise = c[5] * k * (k + d + 1), c[6] * k * d * s2
    parallel = square * residual(norm2, norm2, left**2 * y) + noise * along * norm2
    whole = square * residual(1, d, z - (1 + left) * y / tau) + noise * (along + (d - 1) * across)
    return (
        x + c[0] * lr * k * (n * norm2**2 - along * x),
        y + c[1] * lr * k * (n * norm2 * x - along * y) + c[2] * lr**2 * parallel,
        z + c[3] * lr * k * (n * x - n * (n + 1) * y - across * z) + c[4] * lr**2 * whole,
    )


def risk(n, norm2, s2, state):
    x, y, z = state
    return s2 + norm2 - 2 * n * x + n * (n + 1) * y + n * (norm2 + s2) * z


def symbolic_verdict(c):
    """One step from a W that treats b and the rest differently: the exact parabola, in n, k, d, W, b, s2."""
    n, k, d, w, rest, b, s2, lr = sp.symbols("n k d w rest b s2 lr")
    c0, c1, c2 = symbolic.risk_coefficients(Setting(n, k, (Group(1, 1, w, b), Group(d - 1, 1, rest, 0)), s2))
    state = w * b**2, (w * b) ** 2, w**2 + (d - 1) * rest**2
    claimed = risk(n, b**2, s2, recursion(c, n, k, d, b**2, s2, state, lr))
    return identities({"one step": (claimed, c0 - c1 * lr + c2 * lr**2)})


def by_pairings(b, w, s2, n, k, lr):
    """(x, y, z) after one step, from the moments of u and of one row by Wick pairings."""
    d = len(b)
    identity = [[QQ(int(i == j)) for j in range(d)] for i in range(d)]
    moments = oracle.context_moments(b, identity, s2, n)
    entry = oracle._pairings(identity)
    _, *u = ring([f"u{i}" for i in range(d)], QQ)

    def mean(polynomial):
        return sum((c * moments.get(a, 0) for a, c in polynomial.terms()), QQ(0))

    def dot(p, q):
        return sum(x * y for x, y in zip(p, q, strict=True))

    wu, wb = ([dot(row, vector) for row in w] for vector in (u, b))
    r = [b[i] - wu[i] for i in range(d)]
    one_row = sum(
        entry(tuple(sorted((i, i, a, e)))) * r[a] * r[e] for i in range(d) for a in range(d) for e in range(d)
    )
    v2 = k * (one_row + s2 * d) + k * (k - 1) * dot(r, r)
    ub = dot(u, b)
    return (
        dot(b, wb) + 2 * lr * k * mean(dot(b, r) * ub),
        dot(wb, wb) + 4 * lr * k * mean(dot(wb, r) * ub) + 4 * lr**2 * mean(v2 * ub**2),
        sum(x**2 for row in w for x in row) + 4 * lr * k * mean(dot(r, wu)) + 4 * lr**2 * mean(v2 * dot(u, u)),
    )


def independent(c):
    c = [QQ.convert(value) for value in c]
    pairs, package = [], []
    for seed, (n, k, d) in enumerate([(1, 1, 2), (3, 2, 2), (2, 4, 3)]):
        rng = random.Random(seed)
        b = [QQ(rng.randint(1, 4), 2) for _ in range(d)]
        w = [[QQ(rng.randint(-4, 4), 20) for _ in range(d)] for _ in range(d)]
        s2, lr, norm2 = QQ(seed, 3), QQ(1, 500 * n * n * k), sum(x**2 for x in b)
        wb = [sum(x * y for x, y in zip(row, b, strict=True)) for row in w]
        state = sum(x * y for x, y in zip(b, wb, strict=True)), sum(x**2 for x in wb), sum(x**2 for r in w for x in r)
        problem = Problem(n, k, np.array(b, float), noise_var=float(s2))
        after = recursion(c, n, k, d, norm2, s2, state, lr)
        pairs += zip(after, by_pairings(b, w, s2, n, k, lr), strict=True)
        exact = recursion(COEFFICIENTS, n, k, d, norm2, s2, recursion(COEFFICIENTS, n, k, d, norm2, s2, state, lr), lr)
        found = new_context_risk(problem, np.array(w, float), [float(lr), float(lr)])
        package.append((found[2], risk(n, norm2, s2, exact)))
    return both(same_numbers(pairs), same_numbers(package, tolerance=FLOAT64))


def after(found, claimed):
    """Claimed and simulated risks after each step, with their standard errors."""
    return zip(claimed[1:].tolist(), found.mean[1:].tolist(), found.stderr[1:].tolist(), strict=True)


def empirical(c, effort):
    settings = [
        isotropic(20, 15, 4, sp.Rational(3, 2), sp.Rational(1, 2), sp.Rational(1, 40)),
        isotropic(30, 6, 4, 1, 0, sp.Rational(1, 60)),
    ]
    found, claimed = [], []
    for i, setting in enumerate(settings):
        n, k, d, norm2, s2 = (float(x) for x in (setting.n, setting.k, setting.d, setting.norm2, setting.noise_var))
        w = float(setting.groups[0].weight)
        best = exact_curve(setting).optimal_lr
        steps = tuple(best * factor for factor in SCHEDULE)
        states = [(w * norm2, w**2 * norm2, w**2 * d)]
        for lr in steps:
            states.append(recursion([float(x) for x in c], n, k, d, norm2, s2, states[-1], lr))
        found.append(simulate_steps(setting, steps, True, effort.num_small, effort.seed + i))
        claimed.append(np.array([risk(n, norm2, s2, state) for state in states]))
    return judge([[Comparison(*row) for one, c in zip(found, claimed, strict=True) for row in after(one, c)]])


CLAIM = Claim(
    "Several steps, new contexts", "this project, for Figure 2c", COEFFICIENTS, symbolic_verdict, independent, empirical
)
