"""Moments of products of quadratic forms in u, given t, as polynomials {power of t: coefficient}.

u | t ~ N(t p, t G) with G = tau Sx - p p'. Matrices are NumPy arrays of any kind of number, F and H symmetric.
"""

from __future__ import annotations

from math import prod

import numpy as np

QUADRATIC_LINEAR = 1, 2
QUADRATIC_PAIR = 1, 4, 1, 2
QUADRATIC_TRIPLE = 1, 4, 1, 2, 4, 8, 1, 2, 8


def chi2_mean(polynomial: dict, n):
    """E of the polynomial for t ~ chi2(n): E t^m = n (n+2) ... (n+2m-2)."""
    return sum(c * prod(n + 2 * i for i in range(power)) for power, c in polynomial.items())


def quadratic(f, p, g) -> dict:
    """E[u'Fu | t]."""
    return {2: p @ f @ p, 1: np.trace(f @ g)}


def quadratic_linear(c, f, h, p, g) -> dict:
    """E[(u'Fu)(h'u) | t]."""
    return {3: (p @ f @ p) * (h @ p), 2: c[0] * (h @ p) * np.trace(f @ g) + c[1] * (p @ f @ g @ h)}


def quadratic_pair(c, f, h, p, g) -> dict:
    """E[(u'Fu)(u'Hu) | t]."""
    af, ah, tf, th = p @ f @ p, p @ h @ p, np.trace(f @ g), np.trace(h @ g)
    return {
        4: af * ah,
        3: c[0] * (af * th + ah * tf) + c[1] * (p @ f @ g @ h @ p),
        2: c[2] * tf * th + c[3] * np.trace(f @ g @ h @ g),
    }


def quadratic_triple(c, f, h, l, p, g) -> dict:
    """E[(u'Fu)(u'Hu)(u'Lu) | t]."""
    forms = [(f, h, l), (h, l, f), (l, f, h)]  # each form once in front, or in the middle
    a = [p @ x @ p for x in (f, h, l)]
    t = [np.trace(x @ g) for x in (f, h, l)]
    bridge = [p @ y @ g @ z @ p for _, y, z in forms]
    loop = [np.trace(y @ g @ z @ g) for _, y, z in forms]
    pairs = [(1, 2), (2, 0), (0, 1)]
    return {
        6: prod(a),
        5: c[0] * sum(a[i] * a[j] * t[m] for m, (i, j) in enumerate(pairs))
        + c[1] * sum(a[m] * bridge[m] for m in range(3)),
        4: sum(a[m] * (c[2] * t[i] * t[j] + c[3] * loop[m]) for m, (i, j) in enumerate(pairs))
        + c[4] * sum(t[m] * bridge[m] for m in range(3))
        + c[5] * sum(p @ y @ g @ x @ g @ z @ p for x, y, z in forms),
        3: c[6] * prod(t) + c[7] * sum(t[m] * loop[m] for m in range(3)) + c[8] * np.trace(f @ g @ h @ g @ l @ g),
    }
