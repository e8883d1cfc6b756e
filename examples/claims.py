"""Claims on trial: `ttt-jax check examples/claims.py --out out/claims`; copy this file and put your own there.

Isotropic data without noise, |b| = 1; the best gradient step, from the pretrained W* or from W = 0.
"""

import numpy as np

import ttt_jax as ttt


def unit(n, k, d):
    return ttt.Problem(n, k, task=np.ones(d) / d**0.5)


def gain_from_zero(n, k, d):
    """Theorem 4.5 of Gozeten et al. (2025): the gain of the best step from W = 0."""
    return k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d)


def at_most(k, d):
    """Whatever the context, the step from W = 0 gains no more than k / (k + d)."""
    return k / (k + d)


def gain_from_pretrained(n, k, d):
    """Theorem 4.2: the gain of the best step from W*, to leading order."""
    return k / (k + d) * d**3 / (n + d) ** 3


def warm_until(n, d):
    """Corollary 4.6: to leading order W* is the better start until k / d = (1 + n/d)^2 / (2 + n/d)."""
    return d * (1 + n / d) ** 2 / (2 + n / d)


small = [unit(60, 8, 4), unit(90, 4, 4)]
growing = [unit(d // 2, 2 * d, d) for d in (64, 128, 256)]
leading = {"approximate": True, "rate": 1, "num_tasks": 0}

theorem_4_5 = ttt.Claim(gain_from_zero, small, start="zero", quantity="gain")
upper_bound = ttt.Claim(at_most, small, relation="<=", start="zero", quantity="gain")
theorem_4_2 = ttt.Claim(gain_from_pretrained, growing, quantity="gain", **leading)
corollary_4_6 = ttt.Claim(warm_until, growing, quantity="switch", along="k", against={"start": "zero"}, **leading)
