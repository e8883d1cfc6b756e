"""Monte Carlo of what `estimate_risk` does not simulate: contexts alone."""

from __future__ import annotations

import math

import numpy as np

from proofs_check.claim import CONFIDENCE, Verdict
from ttt_jax.verdict.agreement import critical_z
from ttt_jax.verdict.claim import POWER


def contexts(task, feature_cov, noise_var, n: int, count: int, seed: int = 0) -> np.ndarray:
    """u = X'y of `count` independent contexts of n rows, (count, d), from sampled rows."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, n, len(task))) @ np.linalg.cholesky(feature_cov).T
    y = x @ task + math.sqrt(noise_var) * rng.standard_normal((count, n))
    return np.einsum("cnd,cn->cd", x, y)


def z_verdict(samples: list[np.ndarray], claimed: list[float]) -> Verdict:
    """The sample means against the claimed values, all of them together."""
    critical = critical_z(CONFIDENCE, len(claimed))
    mean = np.array([np.mean(x) for x in samples])
    stderr = np.array([np.std(x) / math.sqrt(len(x)) for x in samples])
    z = np.abs(mean - np.array(claimed)) / stderr
    detectable = max((critical + POWER) * stderr / np.abs(mean))
    return Verdict(
        bool(z.max() <= critical), f"max |z| {max(z):.2f} (critical {critical:.2f}), detects {detectable:.1%}"
    )
