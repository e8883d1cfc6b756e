"""The risk after several TTT steps, isotropic features: leading order on one batch, exact with new prompts.

Two protocols. "one_batch" takes every step on the same n + k pairs. "new_context" draws a new context and new queries
of the task before each step, which is what the paper's Figure 2c shows.

On one batch, b - W_T u = phi(S/d) (b - W u) for S = Xt'Xt of the k queries and phi(m) = prod_j (1 - theta_j m), with
theta_j = 2 lr_j d |u|^2. As n, k, d grow together the spectrum of S/d tends to the law of Marchenko and Pastur with
ratio g = k/d, and the risk to integrals of polynomials over it. m mu(dm) is a semicircle law of mass g on
1 + g +- 2 sqrt(g), so Gauss quadrature at its Chebyshev nodes is exact, also for g < 1, where mu has an atom at 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import positive_integer, positive_number, step_size_array, weights_array
from ttt_jax.problem import (
    NotApplicable,
    Problem,
    require_gaussian,
    require_identity,
    require_training_law,
    task_name,
)
from ttt_jax.procedures import GradientSteps
from ttt_jax.risk_curve import RiskPath
from ttt_jax.theory.risk import leading_order

__all__ = [
    "best_step_sizes",
    "best_steps_fraction",
    "best_steps_risk",
    "marchenko_pastur",
    "new_context_risk",
    "new_context_risk_leading",
    "one_batch_risk",
]


@leading_order.register
def leading_order_steps(
    procedure: GradientSteps, problem: Problem, weights: np.ndarray, num_tasks: int, seed: int
) -> RiskPath:
    """The leading order after each step, on one batch or each on a new context."""
    risk = new_context_risk_leading if procedure.new_context else one_batch_risk
    with np.errstate(over="ignore", invalid="ignore"):
        return RiskPath(risk(problem, weights, procedure.step_sizes))


def one_batch_risk(problem: Problem, weights: ArrayLike, step_sizes: ArrayLike) -> Float[np.ndarray, " steps_plus_1"]:
    """The risk after 0, 1, ..., T gradient steps on one batch and context, to leading order in n, k, d.

        same:   s2 + (A + S) int phi^2 + s2 int psi^2/m
        fresh:  s2 + (A + S) - 2 kappa A int psi + kappa^2 [(A + S) int psi^2 + s2 int psi^2/m]

    with A = |b - n W b|^2, S = n tau |W|_F^2, psi = 1 - phi and kappa = n B / (n B + d tau), tau = B + s2.

    Args:
        problem: with Sx = I and one task.
        weights: W before the first step, (), (d,) or (d, d).
        step_sizes: lr_1, ..., lr_T.

    Returns:
        T + 1 risks, label noise included.

    Raises:
        ValueError: for other features, random tasks, or values out of range.

    Example:
        >>> problem = Problem(n=400, k=800, task=np.ones(800) / np.sqrt(800), evaluation="same")
        >>> one_batch_risk(problem, 0.0, best_step_sizes(problem, 1)).round(3).tolist()    # 1/(1+g)
        [1.0, 0.5]

    Reference: this project; Theorem 5.3 of Gozeten et al. (ICML 2025) is the best step of T = 1, fresh, noiseless.
    """
    norm2, a, spread = _misfit_and_spread(problem, weights)
    n, d, s2 = problem.n, problem.d, problem.noise_var
    tau = norm2 + s2
    theta = 2 * step_size_array(step_sizes) * d * (n**2 * norm2 + n * d * tau)
    kappa = n * norm2 / (n * norm2 + d * tau)
    m, weight = marchenko_pastur(problem.k / d, len(theta) + 1)
    phi = np.vstack([np.ones_like(m), np.cumprod(1 - np.outer(theta, m), axis=0)])
    psi = 1 - phi
    over_m = weight / m  # the integral of f with f(0) = 0 is that of f/m over m mu(dm)
    square, noise = psi**2 @ over_m, s2 * (psi**2 @ (over_m / m))
    if problem.inference.context == "same":
        return s2 + (a + spread) * (1 + (phi**2 - 1) @ over_m) + noise
    return s2 + a + spread - 2 * kappa * a * (psi @ over_m) + kappa**2 * ((a + spread) * square + noise)


def marchenko_pastur(ratio: float, points: int) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Nodes m_i and weights w_i with int f(m) m mu(dm) = sum_i w_i f(m_i) for polynomials f of degree < 2 points.

    mu is the law of the eigenvalues of S/d, S = X'X of k = ratio d standard Gaussian rows, d -> infinity.

    Example:
        >>> m, w = marchenko_pastur(0.5, 4)
        >>> round(float(w.sum()), 12), round(float(w @ m), 12)      # int m = g, int m^2 = g + g^2
        (0.5, 0.75)
    """
    positive_number("ratio", ratio)
    angle = np.arange(1, positive_integer("points", points) + 1) * np.pi / (points + 1)
    return 1 + ratio + 2 * np.sqrt(ratio) * np.cos(angle), ratio * 2 / (points + 1) * np.sin(angle) ** 2


def best_steps_fraction(ratio: float, steps: int) -> float:
    """What the best T steps on one batch leave of the noiseless risk: rho_T = 1/(1 + g + ... + g^T), g = k/d.

    Example:
        >>> best_steps_fraction(2.0, 1), best_steps_fraction(1.0, 3)
        (0.3333333333333333, 0.25)

    Reference: this project; T = 1 is the paper's 1 - k/(k+d).
    """
    return 1 / float(np.sum(positive_number("ratio", ratio) ** np.arange(positive_integer("steps", steps) + 1)))


def best_steps_risk(problem: Problem, weights: ArrayLike, steps: int) -> float:
    """The smallest noiseless risk that T steps on one batch can reach, whatever their sizes, to leading order.

        same:  (A + S) rho_T;      fresh:  A + S - (1 - rho_T) A^2/(A + S)

    `best_step_sizes` reach the first. The second is a bound that some starts attain only with complex step sizes.

    Raises:
        ValueError: unless Sx = I, s2 = 0 and the task is one vector.

    Example:
        >>> problem = Problem(n=400, k=800, task=np.ones(800) / np.sqrt(800))
        >>> [round(best_steps_risk(problem, 0.0, steps), 3) for steps in (1, 2, 3)]
        [0.5, 0.333, 0.25]

    Reference: this project.
    """
    _, a, spread = _misfit_and_spread(problem, weights)
    if problem.noise_var:
        raise ValueError(f"noise_var must be 0 for the best risk of several steps, got {problem.noise_var}")
    left = best_steps_fraction(problem.k / problem.d, steps)
    if problem.inference.context == "same":
        return (a + spread) * left
    return a + spread - (1 - left) * a**2 / (a + spread)


def best_step_sizes(problem: Problem, steps: int) -> Float[np.ndarray, " steps"]:
    """The T step sizes that leave rho_T of the noiseless risk when the context is used again, in increasing order.

        lr_j = 1 / (2 d |u|^2 m_j),   m_j = 1 + g + 2 sqrt(g) cos(pi j/(T+1)),   |u|^2 = n^2 B + n d tau

    The best phi with phi(0) = 1 is orthogonal to lower degrees under m mu(dm), so its roots are that law's Gauss nodes.

    Example:
        >>> problem = Problem(n=10, k=20, task=[0.6, 0.8])
        >>> best_step_sizes(problem, 1).tolist() == [1 / (2 * 2 * 120 * 11)]
        True

    Reference: this project.
    """
    norm2, *_ = _signal(problem, 0.0)
    n, d = problem.n, problem.d
    m, _ = marchenko_pastur(problem.k / d, positive_integer("steps", steps))
    return 1 / (2 * d * (n**2 * norm2 + n * d * (norm2 + problem.noise_var)) * m)


def new_context_risk(problem: Problem, weights: ArrayLike, step_sizes: ArrayLike) -> Float[np.ndarray, " steps_plus_1"]:
    """The exact risk after 0, 1, ..., T steps, each with a new context and new queries, a new context at evaluation.

    The next prompt is independent of the weights so far, and the risk is a quadratic function of W. So the expectations
    of x = b'W b, y = |W b|^2 and z = |W|_F^2 give the risk and follow a linear recursion: what W <- W + 2 lr v u' with
    v = Xt'(yt - Xt W u) adds to them are moments of u of degree 2 to 4.

    Args:
        problem: with Sx = I and one task.
        weights: W before the first step, (), (d,) or (d, d), symmetric or not.
        step_sizes: lr_1, ..., lr_T.

    Returns:
        T + 1 risks, label noise included.

    Raises:
        ValueError: for other features, random tasks, or values out of range.

    Example:
        >>> problem = Problem(n=50, k=5000, task=np.ones(100) / 10)                   # Figure 2c, factor .8
        >>> first = 100 / (2 * 5100 * 50**2 * 150)
        >>> new_context_risk(problem, 1 / 151, first * 0.8 ** np.arange(10))[[0, 1, 10]].round(3).tolist()
        [0.669, 0.42, 0.283]

    Reference: this project.
    """
    norm2, x, y, z = _signal(problem, weights)
    n, k, d, s2 = problem.n, problem.k, problem.d, problem.noise_var
    tau = norm2 + s2
    t2, t3, t4 = (np.prod(n + 2.0 * np.arange(power)) for power in (2, 3, 4))  # E t^m, t ~ chi2(n)
    along, across = n * (n + 1) * norm2 + n * tau, n * tau  # E uu' along b and across it
    left = s2 / tau  # P b = left b for the covariance P = I - bb'/tau of u given t

    def residual(f, trace, trace_pgp):
        """E[(u'Fu) |b - W u|^2] for F with F b = f b, tr F = trace, and tr(F P W'W P) = trace_pgp."""
        trace_p, trace_w = trace - f * norm2 / tau, z - y / tau  # tr(FP), tr(W'W P)
        size = t2 * f * norm2 + n * tau * trace_p
        linear = t3 * f * norm2 * x + t2 * tau * x * (trace_p + 2 * f * left)
        square = t4 * f * norm2 * y + t2 * tau**2 * (trace_p * trace_w + 2 * trace_pgp)
        square += t3 * tau * (f * norm2 * trace_w + y * trace_p + 4 * f * left * y)
        return norm2 * size - 2 * linear + square

    risks = []
    for lr in [*_checked_steps(problem, step_sizes), None]:
        risks.append(s2 + norm2 - 2 * n * x + n * (n + 1) * y + across * z)
        if lr is None:
            break
        parallel = residual(norm2, norm2, left**2 * y)  # F = bb'
        whole = residual(1.0, d, z - (1 + left) * y / tau)  # F = I
        v_square, v_noise = k * (k + d + 1), k * d * s2  # E|v|^2 = v_square |r|^2 + v_noise
        x, y, z = (
            x + 2 * lr * k * (n * norm2**2 - along * x),
            y + 4 * lr * k * (n * norm2 * x - along * y) + 4 * lr**2 * (v_square * parallel + v_noise * along * norm2),
            z
            + 4 * lr * k * (n * x - n * (n + 1) * y - across * z)
            + 4 * lr**2 * (v_square * whole + v_noise * (along + (d - 1) * across)),
        )
    return np.array(risks)


def new_context_risk_leading(
    problem: Problem, weights: ArrayLike, step_sizes: ArrayLike
) -> Float[np.ndarray, " steps_plus_1"]:
    """The noiseless risk of `new_context_risk` to leading order.

        A <- (1 - 2 x) A + x^2 (1 + 1/g) (A + S),   x = 2 lr n^2 B k,   risk = A + S,   S constant

    Raises:
        ValueError: unless Sx = I, s2 = 0 and the task is one vector.

    Example:
        >>> problem = Problem(n=50, k=5000, task=np.ones(100) / 10)
        >>> first = 100 / (2 * 5100 * 50**2 * 150)
        >>> new_context_risk_leading(problem, 1 / 151, first * 0.8 ** np.arange(10))[[1, 10]].round(3).tolist()
        [0.372, 0.242]

    Reference: this project; the recursion behind Figure 2c of Gozeten et al. (ICML 2025).
    """
    norm2, a, spread = _misfit_and_spread(problem, weights)
    if problem.noise_var:
        raise NotApplicable(f"noise_var must be 0 for the leading order with new contexts, got {problem.noise_var}")
    risks = [a + spread]
    for x in 2 * _checked_steps(problem, step_sizes) * problem.n**2 * norm2 * problem.k:
        a = (1 - 2 * x) * a + x**2 * (1 + problem.d / problem.k) * (a + spread)
        risks.append(a + spread)
    return np.array(risks)


def _checked_steps(problem: Problem, step_sizes: ArrayLike) -> Float[np.ndarray, " steps"]:
    """The step sizes; ValueError unless the context is new at inference too."""
    steps = GradientSteps(step_sizes, new_context=True)
    steps.check(problem)
    return steps.step_sizes


def _misfit_and_spread(problem: Any, weights: ArrayLike) -> tuple[float, float, float]:
    """B = |b|^2, A = |b - n W b|^2 and S = n tau |W|_F^2."""
    norm2, x, y, z = _signal(problem, weights)
    return norm2, norm2 - 2 * problem.n * x + problem.n**2 * y, problem.n * (norm2 + problem.noise_var) * z


def _signal(problem: Any, weights: ArrayLike) -> tuple[float, float, float, float]:
    """What `isotropic` returns; NotApplicable for the task 0, too."""
    numbers = isotropic(problem, weights)
    if not problem.task.any():
        raise NotApplicable("task must not be 0 for the theory of several steps")
    return numbers


def isotropic(problem: Any, weights: ArrayLike) -> tuple[float, float, float, float]:
    """B = |b|^2, b'W b, |W b|^2 and |W|_F^2; NotApplicable unless Sx = I and the task is one vector."""
    require_gaussian(problem, "the theory of several steps")
    require_training_law(problem, "the theory of several steps")
    if not isinstance(problem.task, np.ndarray):
        name = task_name(problem.task)
        raise NotApplicable(f"task must be one vector for the theory of several steps, got {name}")
    require_identity(problem, "the theory of several steps")
    return quadratic_forms(problem.task, weights_array(weights, problem.d))


def quadratic_forms(b: Float[np.ndarray, " d"], w: Float[np.ndarray, ...]) -> tuple[float, float, float, float]:
    """B = |b|^2, b'W b, |W b|^2 and |W|_F^2; ValueError where they overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        wb = linalg.apply(w, b)
        frobenius2 = np.sum(np.broadcast_to(w, len(b)) ** 2 if w.ndim < 2 else w**2)
        numbers = float(b @ b), float(b @ wb), float(wb @ wb), float(frobenius2)
    if not np.isfinite(numbers).all():
        largest = max(np.abs(b).max(), np.abs(w).max())
        raise ValueError(f"the risk overflows float64, with values up to {largest:.3g}: scale task or weights down")
    return numbers
