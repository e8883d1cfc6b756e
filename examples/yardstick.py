"""What the labelled pairs give without a transformer: least squares, ridge and Bayes beside a TTT step.

    python examples/yardstick.py

Isotropic features, one task of length 1. A TTT step trains on n + k labelled pairs, and with a new context at inference
it sees n more. All numbers are exact.
"""

from dataclasses import replace

import numpy as np

import ttt_jax as ttt
from ttt_jax.theory.yardsticks import least_squares_risk

d, n, k = 40, 20, 80
for noise_var, task_cov in ((0.0, 1.0), (0.5, 1 / d)):
    pretraining = ttt.Pretraining(n=n, d=d, task_cov=task_cov, noise_var=noise_var)
    W = ttt.pretrained_weights(pretraining)
    problem = ttt.Problem(n=n, k=k, task=np.ones(d) / d**0.5, noise_var=noise_var)
    print(f"d = {d}, n = {n}, k = {k}, noise variance {noise_var}, risk including noise")
    print(f"  attention before TTT                  {ttt.exact_risk(problem, W).initial:.3f}")
    print(f"  least squares on the context alone    {least_squares_risk(problem, pairs=n):.3f}")
    for evaluation in ("fresh", "same"):
        given = replace(problem, evaluation=evaluation)
        line = f"  {evaluation} context: after the best TTT step {ttt.exact_risk(given, W).optimal:.3f}"
        others = ", ".join(f"{one.name} {one.risk:.3f}" for one in ttt.yardsticks(given, pretraining))
        print(f"{line}; on the same {2 * n + k if evaluation == 'fresh' else n + k} pairs {others}")
