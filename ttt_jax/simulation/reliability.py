"""Whether a run is long enough for the tails of the per-task risk, asked of the population and not of the run.

The risk of one experiment is a polynomial of high degree in Gaussians (degree 12 for evaluation "same"). With few
context pairs much of its variance can live on events that a run of the usual length never sees. Then the sample
variance is too small, and so are the sample kurtosis and every other statistic that could warn: the runs whose
interval misses are the runs that look well behaved. The mixture law (see `ttt_jax.simulation.summaries`) shows where
the tails come from, the chi-squares t and the lengths of Gaussian vectors. Each is drawn here from a mixture of its
own law and of size-biased ones (density times t^m), with the exact weights, so that rare events are common in a pilot
of a few thousand draws.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from ttt_jax._internal import linalg
from ttt_jax.problem import GaussianTasks, Problem, mean_square
from ttt_jax.procedures import GradientStep, as_procedure
from ttt_jax.simulation.frame import FRAME, in_frame

NUM_DRAWS, MIN_DRAWS = 16_384, 512
STAGES = ((1024, 2.0), (4096, 1.3), (NUM_DRAWS, 1.0))
"""Numbers of draws, and the factor by which a share from so many must be off a bound to decide."""
MAX_NORMALS = 2**21  # of one kind, at once


def tails_are_seen(problem: Problem, weights: np.ndarray, procedure: GradientStep, num_tasks: int, most: float) -> bool:
    """Whether `unseen_variance` is at most a bound; the closer they are, the more draws are made.

    Example:
        >>> problem = Problem(n=40, k=40, task=np.ones(40) / np.sqrt(40))
        >>> tails_are_seen(problem, np.zeros(()), GradientStep(1e-6), 20_000, 0.1)
        True
    """
    for num_draws, factor in STAGES:
        share = unseen_variance(problem, weights, procedure, num_tasks, num_draws)
        if not most / factor < share < most * factor:
            break
    return share <= most


def unseen_variance(
    problem: Problem,
    weights: np.ndarray,
    procedure: GradientStep | float,
    num_tasks: int,
    num_draws: int | None = None,
) -> float:
    """The share of the variance of the per-task risk that comes from events rarer than one in num_tasks.

    Args:
        problem: the test-time problem.
        weights: W before the step, (), (d,) or (d, d).
        procedure: one gradient step, or its step size.
        num_tasks: length of the run in question.
        num_draws: None for NUM_DRAWS, fewer for many features.

    Returns:
        E[(risk - mean)^2; risk in its upper 1/num_tasks tail] / Var(risk), in [0, 1], by importance sampling with a
        fixed seed; 0 for a risk that does not vary.

    Example:
        >>> problem = Problem(n=2, k=2, task=[1.0, 0.0], evaluation="same")
        >>> unseen_variance(problem, np.zeros(()), 0.01, 20_000) > 0.5
        True
        >>> problem = Problem(n=40, k=40, task=np.ones(40) / np.sqrt(40))
        >>> unseen_variance(problem, np.zeros(()), 1e-6, 20_000) < 0.1
        True
    """
    if problem.dof is not None and problem.dof <= (24 if problem.inference.context == "same" else 16):
        return 1.0  # the variance is infinite: the risk has degree 8 or 12 in the features of one row
    step = as_procedure(procedure)
    assert isinstance(step, GradientStep)
    scale = math.sqrt(problem.noise_var + mean_square(problem)) or 1.0
    d = problem.d
    problem, weights, (step,) = in_frame(problem, weights, (step,)) or (problem, weights, (step,))
    at_once = max(1, MAX_NORMALS // (d if problem.d == d else FRAME))
    draws = max(MIN_DRAWS, min(num_draws or NUM_DRAWS, at_once))
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        parts = [
            _weighted_risks(problem, weights, step, min(at_once, draws - start), rng, d, scale)
            for start in range(0, draws, at_once)
        ]
        log_weight, risk = (np.concatenate(part) for part in zip(*parts, strict=True))
        return _share_of_upper_tail(np.exp(log_weight), risk, num_tasks)


def _weighted_risks(
    problem: Problem,
    weights: np.ndarray,
    procedure: GradientStep,
    size: int,
    rng: np.random.Generator,
    d: int,
    scale: float,
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """The logarithms of the weights of `size` draws, and their risks, of a problem in d dimensions or along its task.

    Memory grows with size * d, but not in the frame of `ttt_jax.simulation.frame`.
    """
    framed = problem.d < d
    law, lr, same = problem.inference, float(procedure.lr), problem.inference.context == "same"
    log_weight = np.zeros(size)
    train = linalg.sqrt(problem.feature_cov), math.sqrt(problem.noise_var) / scale

    def chi_square(degrees: float, power: int) -> np.ndarray:
        """Draws of a mixture of chi2(degrees) with its size-biased laws of order power/2 and power."""
        biases = np.array([0, power / 2, power])
        choices = rng.choice(3, size, p=[0.5, 0.25, 0.25])
        t = 2 * rng.standard_gamma(degrees / 2 + biases[choices])
        log_moments = [m * math.log(2) + math.lgamma(degrees / 2 + m) - math.lgamma(degrees / 2) for m in biases]
        ratios = np.exp(biases * np.log(t)[:, None] - log_moments)
        log_weight[:] -= np.log(ratios @ [0.5, 0.25, 0.25])
        return t

    def gaussian(filled: int, extra: int, power: int) -> np.ndarray:
        """Standard Gaussian vectors, `extra` entries and the features, whose squared length is drawn by chi_square."""
        if framed:
            z = np.zeros((extra + FRAME, size)).T  # sums over a vector's entries are faster in this order
            z[:, : extra + filled] = rng.standard_normal((extra + filled, size)).T
            z[:, extra + filled] = np.sqrt(rng.chisquare(d - filled, size))
        else:
            z = rng.standard_normal((extra + d, size)).T
        return z * np.sqrt(chi_square(extra + d, power) / np.sum(z**2, axis=1))[:, None]

    def summary(predictor: np.ndarray, rows: int, law: tuple, filled: int, t_power: int, z_power: int) -> np.ndarray:
        """X'(X b + xi) for `rows` rows, as `summaries.summary` makes it."""
        root, noise_std = law
        t = chi_square(rows, t_power)[:, None]
        z = gaussian(filled, 1, z_power)
        label = linalg.apply(root, predictor)
        tau = np.sum(label**2, axis=1, keepdims=True) + noise_std**2
        y = np.sum(label * z[:, 1:], axis=1, keepdims=True) + noise_std * z[:, :1]
        ratio = np.divide(y, tau, out=np.zeros_like(y), where=tau > 0)
        return linalg.apply(root, np.sqrt(t * tau) * z[:, 1:] + (t - np.sqrt(t * tau) * ratio) * label)

    fixed = problem.task.mean if isinstance(problem.task, GaussianTasks) else problem.task
    task = np.zeros((FRAME if framed else d, size)).T
    task[:, : problem.d] = fixed / scale
    if isinstance(problem.task, GaussianTasks):
        task += linalg.apply(linalg.sqrt(problem.task.cov), gaussian(1, 0, 12)) / scale
        if framed:
            task = np.linalg.norm(task, axis=1, keepdims=True) * np.eye(1, FRAME)
    # The risk contains |u|^4 |r|^2 |v|^2 ("same") or (u'u_e)^2 |r|^2 |v|^2, and its fourth power is what is averaged.
    u = summary(task, problem.n, train, 1, *((24, 12) if same else (16, 8)))
    v = summary(task - linalg.apply(weights, u), problem.k, train, 2, 8, 4)
    u_eval, factor = u, 1.0
    if not same:
        assert law.n is not None and law.noise_var is not None  # noqa: PT018
        context = linalg.sqrt(law.feature_cov), math.sqrt(law.noise_var) / scale
        u_eval, factor = summary(task, law.n, context, 3, 8, 4), problem.n / law.n if law.rescale else 1.0
    seen = u_eval if procedure.right is None else linalg.apply(procedure.right, u_eval)
    v = v if procedure.left is None else linalg.apply(procedure.left, v)
    change = 2 * lr * scale**2 * np.sum(u * seen, axis=1, keepdims=True) * v
    predictor = factor * (linalg.apply(weights, u_eval) + change)
    return log_weight, np.sum(linalg.apply(linalg.sqrt(law.query_feature_cov), task - predictor) ** 2, axis=1)


def _share_of_upper_tail(weight: Float[np.ndarray, " T"], risk: Float[np.ndarray, " T"], num_tasks: int) -> float:
    """The share of the variance of a weighted sample that its upper 1/num_tasks contributes."""
    weight = weight / weight.sum()
    deviation = weight * (risk - weight @ risk) ** 2
    variance = deviation.sum()
    if variance <= 1e-24 * (weight @ risk) ** 2:
        return 0.0
    largest_first = np.argsort(-risk)
    probability, share = np.cumsum(weight[largest_first]), np.cumsum(deviation[largest_first]) / variance
    return float(np.interp(1 / num_tasks, probability, share))
