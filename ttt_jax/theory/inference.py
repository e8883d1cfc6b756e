"""The law at inference as arrays, for formulas that are jitted, vmapped and differentiated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax.problem import Problem


class AtInference(NamedTuple):
    """The context and the query at inference; each a number, covariances also (d,) or (d, d).

    Args:
        n: context pairs.
        feature_cov: Se, of the context.
        noise_var: se2, of the context's labels.
        query_feature_cov: Sq.
        query_noise_var: sq2.
        scale: factor on the summary u = X'y of the context.
    """

    n: ArrayLike
    feature_cov: ArrayLike
    noise_var: ArrayLike
    query_feature_cov: ArrayLike
    query_noise_var: ArrayLike
    scale: ArrayLike


def at_inference(problem: Problem) -> AtInference:
    """The law at inference of a problem, covariances in their simplest form; "same" has the context of training.

    Example:
        >>> at_inference(Problem(n=5, k=1, task=[0.6, 0.8])).n
        5
    """
    law: Any = problem.inference
    n, feature_cov, noise_var = problem.n, problem.feature_cov, problem.noise_var
    if law.context == "fresh":
        n, feature_cov, noise_var = law.n, law.feature_cov, law.noise_var
    feature_cov, query = (linalg.simplest(np.asarray(cov)) for cov in (feature_cov, law.query_feature_cov))
    return AtInference(n, feature_cov, noise_var, query, law.query_noise_var, problem.n / n if law.rescale else 1.0)
