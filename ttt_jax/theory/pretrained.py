"""The weights W* that pretraining tends to, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import choice, require_type, weights_array
from ttt_jax.problem import Pretraining, Problem

__all__ = ["pretrained_weights"]


def pretrained_weights(pretraining: Pretraining, *, dense: bool = True) -> np.ndarray:
    """The weights W* that minimise the expected in-context risk of the pretraining law.

        W* = R^+ T [(n+1) T + (tr T + s2) I]^-1 R^+,     R = Sx^(1/2),  T = R Sb R

    For nonsingular Sx this is Sb [(n+1) Sx Sb + (tr(Sx Sb) + s2) I]^-1, the unique minimiser also for a rank-deficient
    Sb; for singular Sx it is the minimiser of least norm.

    Args:
        pretraining: the law of pretraining.
        dense: False keeps the compact form, () or (d,), where both covariances are scalars or diagonals.

    Returns:
        W*, symmetric, (d, d); or () or (d,) in compact form.

    Example:
        >>> pretrained_weights(Pretraining(n=20, d=3)).diagonal().tolist() == [1 / 24] * 3
        True

    Reference: Li, Rawat, Oymak (2024), Corollary 1; Propositions 4.1 and 5.2 of Gozeten et al. are special cases.
    """
    require_type("pretraining", pretraining, Pretraining)
    sx, sb, n, s2 = pretraining.feature_cov, pretraining.task_cov, pretraining.n, pretraining.noise_var
    d = pretraining.d
    if sx.ndim < 2 and sb.ndim < 2:
        t = sx * sb
        total = np.sum(np.broadcast_to(t, d)) + s2
        live = (t > 0) & (total > 0)
        weights = np.where(live, sb, 0.0) / np.where(live, (n + 1) * t + total, 1.0)
        return linalg.dense(weights, d) if dense else np.asarray(weights)
    sx, sb = linalg.dense(sx, d), linalg.dense(sb, d)
    values, vectors = np.linalg.eigh(sx)
    live = values > d * np.finfo(np.float64).eps * values.max(initial=0)
    root = np.sqrt(np.where(live, values, 0.0))
    inverse_root = np.where(live, 1 / np.where(live, root, 1.0), 0.0)
    t_values, t_vectors = np.linalg.eigh(root[:, None] * (vectors.T @ sb @ vectors) * root)
    t_values = np.clip(t_values, 0, None)
    total = t_values.sum() + s2
    if total == 0:
        return np.zeros((d, d))
    factor = vectors @ (inverse_root[:, None] * t_vectors)
    return (factor * (t_values / ((n + 1) * t_values + total))) @ factor.T


def starting_weights(start: Any, problem: Problem, n: int) -> np.ndarray:
    """Where TTT starts: W as an array, "zero", or "pretrained", W* for isotropic tasks, n pairs and the problem's law.

    Example:
        >>> float(starting_weights("pretrained", Problem(n=5, k=1, task=[0.6, 0.8, 0.0]), n=20)) == 1 / 24
        True
    """
    if not isinstance(start, str):
        return weights_array(start, problem.d, "start")
    if choice("start", start, ("pretrained", "zero")) == "zero":
        return np.zeros(())
    law = Pretraining(n, problem.feature_cov, noise_var=problem.noise_var, d=problem.d)
    return pretrained_weights(law, dense=False)
