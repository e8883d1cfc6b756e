"""A formula of your own on trial: `python examples/check_a_formula.py [OUT.png]`.

Three claims about one step from pretrained weights, or from zero, on isotropic data without noise:
1. a wrong one, k/(k+d) in place of k/(k+d+1), that the exact risk and simulation both catch;
2. the right one (Theorem 4.5 of Gozeten et al., 2025), which passes;
3. Theorem 4.2, a leading order: right as d grows, with an error of some 16/d: 25% at d = 64.
"""

import sys

import numpy as np
import sympy as sp

import ttt_jax as ttt
from ttt_jax.plotting import draw_check

n, k, d = sp.symbols("n k d")  # these names, and lr, noise_var and task_norm2, get each problem's numbers
small = [ttt.Problem(n, k, task=np.ones(4) / 2) for n, k in ((40, 8), (60, 4))]

for name, factor in (("wrong", k / (k + d)), ("Theorem 4.5", k / (k + d + 1))):
    gain = factor * n**2 / (n**2 + 4 * n + 3 + d)
    result = ttt.check(gain, small, start="zero", quantity="gain")
    print(f"--- {name}: {'passes' if result else 'is refuted'}\n{result}\n")


def theorem_4_2(n, k, d):
    """Gain of the best step from W = I/(n+d+1), |b| = 1."""
    return k / (k + d) * d**3 / (n + d) ** 3


growing = [ttt.Problem(n=d // 2, k=2 * d, task=np.ones(d) / d**0.5) for d in (64, 128, 256)]
bias = ttt.check(theorem_4_2, growing, quantity="gain", approximate=True, rate=1, num_tasks=1_000)
print(f"--- Theorem 4.2: {'passes as a leading order' if bias else 'is refuted'}\n{bias}")
if sys.argv[1:]:
    draw_check(bias, title="Theorem 4.2 (gain): its error at finite d").savefig(sys.argv[1])
