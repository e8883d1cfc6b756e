"""What the labelled pairs give without a transformer: least squares and ridge beside a TTT step of linear attention.

    python examples/yardstick.py

Isotropic features, one task of length 1. A TTT step sees n + k pairs, and with a new context at inference n more. Least
squares (minimum norm) is exact; ridge, with the best penalty for tasks b ~ N(0, I/d), is its exact risk given X,
s2 + s2 tr (X'X + s2 d I)^-1, averaged over 2,000 sampled X.
"""

from dataclasses import replace

import numpy as np

import ttt_jax as ttt


def least_squares(pairs: int, d: int, noise_var: float) -> float:
    """The risk of least squares for |b| = 1, label noise included."""
    if abs(pairs - d) <= 1 and noise_var:
        return np.inf
    if pairs >= d:
        return noise_var + (noise_var * d / (pairs - d - 1) if noise_var else 0.0)
    return noise_var + 1 - pairs / d + (noise_var * pairs / (d - pairs - 1) if noise_var else 0.0)


def ridge(pairs: int, d: int, noise_var: float) -> tuple[float, float]:
    """The risk of the best ridge for |b| = 1, label noise included, and the standard error of its simulation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, pairs, d))
    eigenvalues = np.linalg.eigvalsh(np.swapaxes(x, 1, 2) @ x)
    risks = noise_var + noise_var * np.sum(1 / (eigenvalues + noise_var * d), axis=1)
    return risks.mean(), risks.std(ddof=1) / np.sqrt(len(risks))


d, n, k = 40, 20, 80
for noise_var, task_cov in ((0.0, 1.0), (0.5, 1 / d)):
    W = ttt.pretrained_weights(ttt.Pretraining(n=n, d=d, task_cov=task_cov, noise_var=noise_var))
    problem = ttt.Problem(n=n, k=k, task=np.ones(d) / d**0.5, noise_var=noise_var)
    fresh, same = ttt.exact_risk(problem, W), ttt.exact_risk(replace(problem, evaluation="same"), W)
    print(f"d = {d}, n = {n}, k = {k}, noise variance {noise_var}, risk including noise")
    print(f"  attention before TTT                      {fresh.initial:.3f}")
    print(f"  after the best TTT step, new context      {fresh.optimal:.3f}   ({2 * n + k} labelled pairs)")
    print(f"  after the best TTT step, same context     {same.optimal:.3f}   ({n + k})")
    for pairs in (n, n + k):
        print(f"  least squares                             {least_squares(pairs, d, noise_var):.3f}   ({pairs})")
    if noise_var:
        risk, stderr = ridge(n + k, d, noise_var)
        print(f"  ridge                                     {risk:.3f}   ({n + k}; +- {stderr:.4f})")
