
import numpy as np
import ttt_jax as ttt

problems = [ttt.Problem(n, k, np.ones(4) / 2) for n, k in ((60, 8), (90, 4))]
cold = {"start": "zero", "quantity": "gain"}


def gain(n, k, d):
    """The best step from W = 0 gains this."""
    return k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d)


theorem_2 = ttt.Claim(gain, problems, **cold)
remark_3 = ttt.Claim(lambda k, d: 0.9 * k / (k + d), problems, relation="<=", **cold)
