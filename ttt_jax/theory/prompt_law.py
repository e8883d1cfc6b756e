"""The law of one prompt's risk after a step: what of it is known in closed form.

Given its context u and its training batch, one prompt has a risk, averaged over the query and its noise only. For
Sx = c I, no noise and the context of TTT at inference, v = Xt'Xt r splits into a part along r and one across it:

    risk = sq2 + cq |r|^2 [(1 - theta q)^2 + theta^2 q m],   theta = 2 c lr |u|^2,   |u|^2 = c^2 B t (t + s)

with independent t ~ chi2(n), s ~ chi2(d-1), q ~ chi2(k), m ~ chi2(d-1) and r = b - W u. Its bracket is above 1, so that
the step hurts, if theta (q + m) > 2, whatever W is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, singledispatch
from itertools import zip_longest
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import finite_number, positive_numbers, shown, vector, weights_array
from ttt_jax.problem import GaussianTasks, NotApplicable, Problem
from ttt_jax.procedures import GradientStep, Procedure
from ttt_jax.theory.inference import AtInference, at_inference

__all__ = ["KnownLaw", "four_chi_squares", "isotropic_moments", "known_law", "prob_hurt", "same_context_moments"]

NUM_POINTS = 2**17
"""Risks that stand for the whole law, equally likely: a probability is right to about 1e-4."""

GRID, TABLE = 160, 2**16
"""Points in each chi-square of a sum, and of a table of its law, which is right to about 1e-8."""

LOG_TAIL = 40.0
"""Grids leave out tails of probability exp(-LOG_TAIL)."""

Array = Any
"""A number, or an array that broadcasts with the others of its formula."""


@dataclass(frozen=True, eq=False)
class KnownLaw:
    """What is known of a law of the risk, by functions that compute it when it is asked for; None for what is not.

    Args:
        find_var: the variance of the risk.
        find_prob_hurt: the probability that the step makes the risk of a prompt larger.
        find_risks: equally likely risks, in order.
    """

    find_var: Callable[[], float] | None = None
    find_prob_hurt: Callable[[], float] | None = None
    find_risks: Callable[[], Float[np.ndarray, " points"]] | None = None

    @cached_property
    def var(self) -> float | None:
        return self.find_var and self.find_var()

    @cached_property
    def prob_hurt(self) -> float | None:
        return self.find_prob_hurt and self.find_prob_hurt()

    @cached_property
    def risks(self) -> Float[np.ndarray, " points"] | None:
        return self.find_risks and self.find_risks()


@singledispatch
def known_law(procedure: Procedure, problem: Problem, weights: np.ndarray) -> KnownLaw:
    """What is known of the law of the risk after a procedure, from checked weights, by the type of the procedure."""
    raise NotApplicable(f"no law of the risk is known for {type(procedure).__name__}")


@known_law.register
def _one_step(procedure: GradientStep, problem: Problem, weights: np.ndarray) -> KnownLaw:
    """One step of a given size: everything for W = w I, no noise and the same context, less beyond."""
    law: Any = at_inference(problem)
    factors = [1.0 if a is None else a for a in (procedure.left, procedure.right)]
    matrices = problem.feature_cov, law.feature_cov, law.query_feature_cov, *factors, weights
    *isotropic, weights = (linalg.simplest(np.asarray(matrix)) for matrix in matrices)
    if isinstance(problem.task, GaussianTasks) or problem.feature_law != "gaussian" or any(map(np.ndim, isotropic)):
        return KnownLaw()
    c, c_e, c_q, left, right = map(float, isotropic)
    n, k, d, context = problem.n, problem.k, problem.d, problem.inference.context
    lr, norm2 = float(procedure.lr) * left * right, float(problem.task @ problem.task)
    if context == "fresh" or problem.noise_var:
        if weights.ndim:
            return KnownLaw()
        law = law._replace(feature_cov=c_e, query_feature_cov=c_q)
        sizes = n, k, d, norm2, c, problem.noise_var, float(weights), lr
        return KnownLaw(lambda: isotropic_moments(*sizes, context, law)[1])
    rate, unit, scaled = lr * c**3 * norm2, c_q * norm2, c * weights

    def risks():
        return law.query_noise_var + unit * np.sort(four_chi_squares(n, k, d, float(scaled), rate))

    return KnownLaw(
        lambda: unit**2 * same_context_moments(n, k, problem.task, scaled, rate)[1],
        lambda: prob_hurt(n, k, d, rate) if c_q else 0.0,
        None if scaled.ndim else risks,
    )


def prob_hurt(n: float, k: float, d: float, rate: float) -> float:
    """The probability that one step makes the risk of a prompt larger, for every W.

        P(rate t (t + s) x > 1),    t ~ chi2(n),  s ~ chi2(d-1),  x ~ chi2(k+d-1),    rate = lr B c^3

    It is for Sx = c I, no noise and the context of TTT at inference. Of t and x the one with more degrees of freedom is
    summed over a grid, as s is, and the other has its exact tail: about twelve digits of any probability above 1e-16.

    Args:
        n, k, d: the sizes, d >= 1; any positive reals.
        rate: lr B c^3.

    Example:
        >>> round(prob_hurt(12, 18, 8, 1e-4), 4)
        0.1679
        >>> prob_hurt(12, 18, 8, 0.0), prob_hurt(12, 18, 8, -1e-9)
        (0.0, 1.0)

    Reference: this project.
    """
    _require_sizes(n, k, d)
    if finite_number("rate", rate) <= 0:
        return float(rate < 0)
    from scipy.special import chdtrc  # a third of a second that only this needs

    s, s_weight = _chi2_grid(d - 1, GRID)
    with np.errstate(divide="ignore", over="ignore"):
        if n < k + d - 1:
            y, y_weight = _chi2_grid(k + d - 1, GRID)
            least = 2 / (rate * y[:, None])  # of 2 t (t + s)
            tail = chdtrc(n, least / (s + np.sqrt(s**2 + 2 * least)))
        else:
            y, y_weight = _chi2_grid(n, GRID)
            tail = chdtrc(k + d - 1, 1 / (rate * y[:, None] * (y[:, None] + s)))
    return float(y_weight @ tail @ s_weight)


def four_chi_squares(n: float, k: float, d: float, weight: float, rate: float) -> Float[np.ndarray, " points"]:
    """Equally likely values of risk / (c B), less the noise of the query, for W = (weight/c) I.

        [(1 - weight t)^2 + weight^2 t s] [(1 - theta q)^2 + theta^2 q m],    theta = 2 rate t (t + s)

    The four probabilities are a Kronecker sequence of the powers of the generalised golden ratio, more even than
    random numbers.

    Example:
        >>> risks = four_chi_squares(12, 18, 8, 0.04, 2e-5)
        >>> len(risks), round(float(np.mean(risks)), 4)
        (131072, 0.3306)
    """
    _require_sizes(n, k, d)
    finite_number("weight", weight)
    finite_number("rate", rate)
    golden = 1.1673039782614187  # the root of x^5 = x + 1
    shares = (0.5 + np.outer(np.arange(1, NUM_POINTS + 1), golden ** -np.arange(1.0, 5))) % 1
    tables = map(_chi2_table, (n, d - 1, k, d - 1))
    t, s, q, m = (np.interp(share, below, x) for share, (x, below) in zip(shares.T, tables, strict=True))
    theta = 2 * rate * t * (t + s)
    return ((1 - weight * t) ** 2 + weight**2 * t * s) * ((1 - theta * q) ** 2 + theta**2 * q * m)


def _require_sizes(n: Any, k: Any, d: Any) -> None:
    positive_numbers(n=n, k=k)
    if finite_number("d", d) < 1:
        raise ValueError(f"d must be a number >= 1, got {shown(d)}")


def same_context_moments(
    n: float, k: float, task: Float[np.ndarray, " d"], weights: ArrayLike, rate: float
) -> tuple[float, float]:
    """Mean and variance of |r|^2 / B [(1 - theta q)^2 + theta^2 q m], exactly, for every W.

    Given t and s, u / |b| = t e + sqrt(t s) z for the unit vector e along b and a uniform direction z across it; z
    enters |r|^2 by a form and a linear term, whose means are traces. All is a polynomial: Gauss quadrature is exact.

    Args:
        n, k: the sizes.
        task: b, not 0 or else without a risk.
        weights: c W, (), (d,) or (d, d).
        rate: lr B c^3.

    Example:
        >>> mean, var = same_context_moments(12, 18, np.ones(8), 0.04, 2e-5)
        >>> round(mean, 4), round(var, 4)
        (0.3306, 0.0282)
    """
    positive_numbers(n=n, k=k)
    finite_number("rate", rate)
    task = vector("task", task)
    norm, rest = math.sqrt(task @ task), len(task) - 1
    if not norm:
        return 0.0, 0.0
    weights = weights_array(weights, len(task))
    e, w = task / norm, linalg.operator(weights, len(task), dense=weights.ndim == 2)
    across = w + linalg.outer(-(w @ e), e, like=w)  # W (I - e e')
    form = across.T @ across
    trace, trace2 = linalg.trace(form), linalg.inner(form, form)
    variables = _Variables()
    t, s, q, m = (variables.chi2(dof, degree) for dof, degree in ((n, 12), (rest, 6), (k, 4), (rest, 2)))
    residual = [e - x * (w @ e) for x in t.ravel()]  # b - W u without its part across b, in units of |b|
    fixed = np.reshape([r @ r for r in residual], t.shape)
    linear = np.reshape([np.sum((across.T @ r) ** 2) for r in residual], t.shape)
    ts, sizes = t * s, (max(rest, 1), max(rest, 1) * (max(rest, 1) + 2))
    square = fixed + ts * trace / sizes[0]  # E |r|^2 over the directions, and the variance of it
    spread = 4 * ts * linear / sizes[0] + ts**2 * ((trace**2 + 2 * trace2) / sizes[1] - (trace / sizes[0]) ** 2)
    theta = 2 * rate * t * (t + s)
    left = (1 - theta * q) ** 2 + theta**2 * q * m
    mean = variables.mean(square * left)
    return mean, variables.mean((square * left - mean) ** 2 + spread * left**2)


def isotropic_moments(
    n: float, k: float, d: int, norm2: float, c: float, noise_var: float, weight: float, lr: float,
    evaluation: str = "same", inference: AtInference | None = None,
) -> tuple[float, float]:  # fmt: skip
    """Mean and variance of the risk after a step, exactly, where every matrix is a multiple of I; noise, any context.

    In a frame in which b, u and the summary at inference fill one coordinate more each, they are functions of eight
    independent normals and chi-squares at most. Given them and t ~ chi2(k), the error e - a v is Gaussian with
    v | t ~ N(c t r, c t (tau I - c r r')), and the two moments of its square are known. What is left is a polynomial,
    for which Gauss quadrature is exact.

    Args:
        n, k, d: the sizes.
        norm2: B = |b|^2.
        c, noise_var: Sx = c I and s2.
        weight: W = weight I.
        lr: step size.
        evaluation: "fresh" or "same" context at inference.
        inference: the law at inference, its covariances as numbers; None for that of training. With "same" only its
            query counts.

    Example:
        >>> mean, var = isotropic_moments(12, 18, 8, 1.0, 1.0, 0.0, 0.04, 2e-5)
        >>> round(mean, 4), round(var, 4)
        (0.3306, 0.0282)
    """
    variables, fresh = _Variables(), evaluation == "fresh"
    law: Any = inference or AtInference(n, c, noise_var, c, noise_var, 1.0)
    b = [math.sqrt(norm2)]
    u = _summary(b, c, noise_var, *variables.rows(n, d, 1, 8 if fresh else 12))
    u_e = u
    if fresh:
        u_e = [law.scale * x for x in _summary(b, law.feature_cov, law.noise_var, *variables.rows(law.n, d, 2, 4))]
    r, e, a, t = _minus(b, u, weight), _minus(b, u_e, weight), 2 * lr * _dot(u, u_e), variables.chi2(k, 4)
    center, r2, width = _minus(e, r, a * c * t), _dot(r, r), a**2 * c * t
    tau = c * r2 + noise_var
    center2 = _dot(center, center)
    square = center2 + width * (tau * d - c * r2)  # E |e - a v|^2, and half of its variance
    spread = width**2 * (tau**2 * d - 2 * tau * c * r2 + c**2 * r2**2)
    spread = spread + 2 * width * (tau * center2 - c * _dot(r, center) ** 2)
    mean = variables.mean(square)
    var = variables.mean((square - mean) ** 2 + 2 * spread)
    return law.query_noise_var + law.query_feature_cov * mean, law.query_feature_cov**2 * var


def _dot(left: list[Array], right: list[Array]) -> Array:
    """The inner product of vectors in the frame; where one has no coordinate, it is 0."""
    return sum(x * y for x, y in zip(left, right, strict=False))


def _minus(left: list[Array], right: list[Array], factor: Array) -> list[Array]:
    """left - factor right, coordinate by coordinate."""
    return [x - factor * y for x, y in zip_longest(left, right, fillvalue=0.0)]


def _summary(b: list[Array], c: float, noise_var: float, t: Array, z: list[Array]) -> list[Array]:
    """u | t ~ N(c t b, c t (tau I - c b b')), from standard normals z, of which y = b'z is the part along b."""
    square, y = sum(x**2 for x in b), sum(x * g for x, g in zip(b, z, strict=False))
    tau = c * square + noise_var
    along = (math.sqrt(noise_var) - np.sqrt(tau)) * y / np.where(square > 0, square, 1.0)
    terms = zip_longest(b, z, fillvalue=0.0)
    return [c * t * x + np.sqrt(c * t) * (np.sqrt(tau) * g + along * x) for x, g in terms]


class _Variables:
    """Independent variables by nodes and weights, each along an axis of its own; a mean is a sum over all of them."""

    def __init__(self) -> None:
        self.weights: list[np.ndarray] = []

    def chi2(self, dof: float, degree: int) -> np.ndarray:
        """Nodes of chi2(dof), exact for polynomials of this degree."""
        if not dof:
            return self._along_axis(np.zeros(1), np.ones(1))
        i = np.arange(degree // 2 + 1)
        off = np.sqrt(i[1:] * (i[1:] + dof / 2 - 1))
        nodes, vectors = np.linalg.eigh(np.diag(2 * i + dof / 2) + np.diag(off, 1) + np.diag(off, -1))  # Laguerre
        return self._along_axis(2 * nodes, vectors[0] ** 2)

    def normal(self, degree: int) -> np.ndarray:
        """Nodes of N(0, 1), exact for polynomials of this degree."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(degree // 2 + 1)
        return self._along_axis(nodes, weights / weights.sum())

    def rows(self, n: float, d: int, filled: int, degree: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """t ~ chi2(n) and a standard normal vector, in a frame whose first `filled` axes are taken.

        The degree is that of the polynomial in the vector; odd powers of sqrt(t) and of a length have mean 0.
        """
        t = self.chi2(n, degree)
        z = [self.normal(degree) for _ in range(min(filled, d))]
        return t, [*z, np.sqrt(self.chi2(d - filled, degree // 2))] if d > filled else z

    def mean(self, values: np.ndarray) -> float:
        """The mean of a function of the variables."""
        values = np.broadcast_to(values, [len(weights) for weights in reversed(self.weights)])
        for weights in reversed(self.weights):
            values = np.tensordot(weights, values, axes=1)
        return float(values)

    def _along_axis(self, nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        self.weights.append(weights)
        return nodes.reshape(-1, *[1] * (len(self.weights) - 1))


def _chi2_grid(dof: float, points: int) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Values and weights of the trapezoidal rule in y, t = exp(y - exp(-y)), whose density falls fast on both sides."""
    if not dof:
        return np.zeros(1), np.ones(1)
    spread = 2 * math.sqrt(dof * LOG_TAIL)
    lowest = max(dof - spread, dof * math.exp(-1 - 2 * LOG_TAIL / dof))  # Chernoff's bounds of the tails
    table = np.linspace(-6.0, 5 + math.log(dof + 2 * LOG_TAIL), 10_001)
    ends = np.interp(np.log([lowest, dof + spread + 2 * LOG_TAIL]), table - np.exp(-table), table)
    y = np.linspace(ends[0], ends[1], points)
    log_t = y - np.exp(-y)
    density = dof / 2 * (log_t - math.log(dof)) - (np.exp(log_t) - dof) / 2 + np.log1p(np.exp(-y))
    weights = np.exp(density - density.max())
    return np.exp(log_t), weights / weights.sum()


def _chi2_table(dof: float) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Values of chi2(dof) and the probabilities of smaller ones, both rising."""
    x, weights = _chi2_grid(dof, TABLE)
    return x, np.cumsum(weights) - weights / 2
