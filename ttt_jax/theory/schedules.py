"""The exact risk after several gradient steps on one batch, at finite n, k, d, for every schedule at once.

Sx, Se and Sq are multiples of the identity; below Sx = I. All steps are on the same pairs, so W_T = W + z u' and, with
x = 2 |u|^2, S = Xt'Xt and phi(s) = prod_j (1 - lr_j s),

    |u|^2 z = psi(x S) (r + S^-1 Xt'xi_t),     psi = 1 - phi = psi_1 s + ... + psi_T s^T,     r = b - W u.

The risk is therefore a quadratic function of the coefficients of psi, whatever the step sizes,

    risk = c0 - 2 sum_p alpha_p psi_p + sum_ij beta_(i+j) psi_i psi_j,

with alpha and beta moments of S and of u. Those of S are integers, e_p = E (S^p)_11: by Golub and Kahan S is B'B for a
bidiagonal B with independent squared entries chi2(k), chi2(d-1), chi2(k-1), chi2(d-2), ... along a path, so that e_p is
a sum over closed walks. Those of u are polynomials, for u is axisymmetric about b: given t ~ chi2(n), b'u is
N(t B, t B s2) and the rest of |u|^2 is t tau chi2(d-1).

Sums in powers of x alternate and lose digits fast, all of them at about ten steps. So all of this is computed in
rational numbers, in which the given floats are exact, and rounded once at the end: T is limited by time alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import comb, inf, lcm, prod
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import (
    integer_from,
    non_negative,
    positive_integer,
    step_size_array,
    weights_array,
)
from ttt_jax.problem import GaussianTasks, NotApplicable, Problem, SparseTasks, require_gaussian
from ttt_jax.procedures import GradientSteps
from ttt_jax.risk_curve import RiskPath
from ttt_jax.theory.inference import at_inference
from ttt_jax.theory.risk import exact
from ttt_jax.theory.several_steps import new_context_risk, quadratic_forms
from ttt_jax.theory.task_average import task_moments

__all__ = ["Schedules", "looped_attention", "one_batch", "wishart_moments"]


@cache
def wishart_moments(rows: int, d: int, order: int) -> tuple[int, ...]:
    """E (S^p)_11 for p = 0, ..., order, S = X'X of standard Gaussian rows: integers, exactly.

    A closed walk of 2 p steps from the end of a path, m_j of them up edge j, has weight prod_j E chi2(nu_j)^m_j with
    nu = rows, d - 1, rows - 1, d - 2, ...; there are prod_j binomial(m_j + m_(j+1) - 1, m_(j+1)) of them. They are
    counted from the last edge to the first, by m_j and by the steps up from edge j on: O(order^4) operations.

    Args:
        rows: number of rows of X.
        d: number of columns of X.
        order: the largest p.

    Example:
        >>> wishart_moments(4, 3, 3)     # 1, k, k (k + d + 1), k (k^2 + 3 k (d + 1) + d^2 + 3 d + 4)
        (1, 4, 32, 344)

    Reference: this project; the bidiagonal form is Golub and Kahan's, its law Silverstein's (1985).
    """
    rows, d, order = positive_integer("rows", rows), positive_integer("d", d), integer_from(0, "order", order)
    freedom = [nu for i in range(order) for nu in (rows - i, d - 1 - i)][:order]
    above: dict[tuple[int, int], int] = {}  # of (m_j, m_j + m_(j+1) + ...)
    for j in reversed(range(freedom.index(0) if 0 in freedom else order)):
        here = {}
        for total in range(1, order - j + 1):
            for m in range(1, total + 1):
                rest = total - m
                walks = sum(comb(m + i - 1, i) * above.get((i, rest), 0) for i in range(1, rest + 1)) if rest else 1
                here[m, total] = walks * prod(range(freedom[j], freedom[j] + 2 * m, 2))
        above = here
    return 1, *(sum(above.get((m, p), 0) for m in range(1, p + 1)) for p in range(1, order + 1))


@dataclass(frozen=True, eq=False)
class Schedules:
    """The exact risk of every schedule of T steps, c0 - 2 sum alpha_p psi_p + sum beta_(i+j) psi_i psi_j.

    Args:
        c0: the risk before the first step.
        alpha: alpha_1, ..., alpha_T.
        beta: beta_2, ..., beta_2T.
    """

    c0: Fraction
    alpha: Sequence[Fraction]
    beta: Sequence[Fraction]

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.alpha)

    def risks(self, step_sizes: ArrayLike) -> Float[np.ndarray, " steps_plus_1"]:
        """The risk after 0, 1, ... steps of these sizes, at most T of them."""
        sizes = [Fraction(lr) for lr in step_size_array(step_sizes).tolist()]
        if len(sizes) > self.num_steps:
            raise ValueError(f"step_sizes must hold at most {self.num_steps}, got {len(sizes)}")
        unit = lcm(*(lr.denominator for lr in sizes))
        psi, risks = [0], [self.c0]
        for lr in (int(size * unit) for size in sizes):  # 1 - psi <- (1 - psi) (1 - lr s): psi_p unit^p, integers
            psi = [a - lr * b for a, b in zip([*psi, 0], [0, -1, *psi[1:]], strict=True)]
            linear = (Fraction(a, unit**p) * self.alpha[p - 1] for p, a in enumerate(psi) if p)
            square = (Fraction(a, unit**p) * self.beta[p - 2] for p, a in enumerate(_square(psi)) if p > 1)
            risks.append(self.c0 - 2 * sum(linear) + sum(square))
        return np.array([_float(risk) for risk in risks])

    def best_step_sizes(self, steps: int | None = None) -> Float[np.ndarray, " steps"]:
        """The best step sizes of so many steps, T by default, in increasing order.

        With all coefficients of psi free, the best solve sum_j beta_(i+j) psi_j = alpha_i, and the step sizes are the
        inverse roots of 1 - psi. Where some of these are complex, two steps with momentum could take them; then the
        answer is a local minimum over real step sizes, one of which at a time is replaced by its best value.
        """
        psi, _ = self._best(steps)
        unit = float(self.alpha[0] / self.beta[0]) or 1.0
        sizes = np.roots([1.0, *(-float(a / Fraction(unit) ** p) for p, a in enumerate(psi, start=1))])
        if np.iscomplex(sizes).any():
            real = self._descend([Fraction(float(size)) * Fraction(unit) for size in sizes.real])
            return np.sort([float(size) for size in real])
        return np.sort(unit * sizes.real)

    def bound(self, steps: int | None = None) -> float:
        """The smallest risk that so many steps, T by default, can reach: with the best psi, real or not."""
        psi, alpha = self._best(steps)
        return float(self.c0 - sum(a * b for a, b in zip(alpha, psi, strict=True)))

    def _best(self, steps: int | None) -> tuple[list[Fraction], Sequence[Fraction]]:
        """The psi_1, psi_2, ... of smallest risk, and their alpha, by elimination in rational numbers."""
        steps = self.num_steps if steps is None else positive_integer("steps", steps)
        if steps > self.num_steps:
            raise ValueError(f"steps must be at most {self.num_steps}, got {steps}")
        alpha = self.alpha[:steps]
        rows = [[*self.beta[i : i + steps], alpha[i]] for i in range(steps)]
        for i in range(steps):
            if not rows[i][i]:
                raise NotApplicable("no step changes the weights where there is neither a task nor noise")
            rows[i] = [a / rows[i][i] for a in rows[i]]
            for j in range(steps):
                if j != i:
                    rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
        return [row[-1] for row in rows], alpha

    def _descend(self, sizes: list[Fraction], sweeps: int = 1000) -> list[Fraction]:
        """Each step size in turn at the bottom of its parabola, until none moves by 1e-9, or for so many sweeps."""
        for _ in range(sweeps):
            before = list(sizes)
            for i in range(len(sizes)):
                sizes[i] = Fraction(float(self._best_beside(sizes[:i] + sizes[i + 1 :])))
            if max(abs(a - b) for a, b in zip(sizes, before, strict=True)) <= 1e-9 * max(map(abs, sizes)):
                break
        return sizes

    def _best_beside(self, others: list[Fraction]) -> Fraction:
        """The best lr beside these: psi = rest + lr step, 1 - rest = prod_j (1 - lr_j s), step = s (1 - rest)."""
        step = [Fraction(1)]
        for lr in others:
            step = [a - lr * b for a, b in zip([*step, Fraction()], [Fraction(), *step], strict=True)]
        rest = [*(-a for a in step[1:]), Fraction()]

        def product(psi: list[Fraction]) -> Fraction:
            terms = (a * b * self.beta[i + j] for i, a in enumerate(psi) for j, b in enumerate(step))
            return sum(terms, Fraction())

        slope = sum((a * b for a, b in zip(self.alpha, step, strict=False)), Fraction()) - product(rest)
        return slope / product(step)


def _float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf


def _square(polynomial: list[int]) -> list[int]:
    """The coefficients of its square."""
    total = [0] * (2 * len(polynomial) - 1)
    for i, a in enumerate(polynomial):
        for j, b in enumerate(polynomial):
            total[i + j] += a * b
    return total


@exact.register
def exact_steps(procedure: GradientSteps, problem: Problem, weights: np.ndarray, num_tasks: int, seed: int) -> RiskPath:
    """The exact risk after each step, on one batch or each on a new context."""
    if procedure.new_context:
        with np.errstate(over="ignore", invalid="ignore"):
            return RiskPath(new_context_risk(problem, weights, procedure.step_sizes))
    return RiskPath(one_batch(problem, weights, procedure.num_steps).risks(procedure.step_sizes))


def one_batch(problem: Problem, weights: ArrayLike, steps: int) -> Schedules:
    """The exact risk after at most T steps on one batch and context, label noise included.

    With C_e = E u_e u_e' and M_e = E r_e u_e' of a new context at inference, for Sx = Sq = I,

        same:   alpha_p = 2^p e_p E[|u|^2p |r|^2]
                beta_p  = alpha_p + s2 d 2^p e_(p-1) E |u|^2p
        fresh:  alpha_p = 2^p e_p E[|u|^(2p-2) r'M_e u]
                beta_p  = 2^p e_p E[|u|^(2p-4) u'C_e u |r|^2] + s2 d 2^p e_(p-1) E[|u|^(2p-4) u'C_e u]

    For random tasks these are averages, exactly too: they are polynomials in |b|^2, b'Wb and |Wb|^2.

    Args:
        problem: with multiples of the identity for Sx, Se and Sq.
        weights: W before the first step, (), (d,) or (d, d), symmetric or not.
        steps: T, the largest number of steps. The cost is O(T^4) operations on integers of O(T) digits, 6 T + 6 times
            that for random tasks.

    Raises:
        NotApplicable: for other features.

    Example:
        >>> problem = Problem(n=20, k=40, task=np.ones(20) / np.sqrt(20))
        >>> one_batch(problem, 0.0, 2).risks([6e-6, 4e-6]).round(4).tolist()
        [1.0, 0.6867, 0.6221]

    Reference: this project; T = 1 is `ttt_jax.theory.exact.risk_coefficients`.
    """
    order = 2 * positive_integer("steps", steps)
    require_gaussian(problem, "the exact risk of several steps on one batch")
    w, task = weights_array(weights, problem.d), problem.task
    law: Any = at_inference(problem)
    covariances = {
        "feature_cov": problem.feature_cov,
        "evaluation.feature_cov": law.feature_cov,
        "evaluation.query_feature_cov": law.query_feature_cov,
    }
    for name, cov in covariances.items():
        if linalg.simplest(np.asarray(cov)).ndim:
            raise NotApplicable(f"{name} must be a multiple of the identity for the exact risk of several steps")
    if isinstance(task, SparseTasks):
        raise NotApplicable("task must be one vector or GaussianTasks for the exact risk of several steps")
    vector = task.mean if isinstance(task, GaussianTasks) else task
    norm2, x, y, z = map(Fraction, quadratic_forms(vector, w))
    e = wishart_moments(problem.k, problem.d, order)
    if not isinstance(task, GaussianTasks):
        return _of_task(problem, e, norm2, x, y, z)
    points = range(1, order + 3)  # the risk is of degree 2 T + 1 in B = |b|^2, and linear in b'Wb and |Wb|^2
    chances = task_moments(task, (w, linalg.simplest(w.T @ w if w.ndim == 2 else w**2)), order + 1)
    parts: list[tuple[Fraction, Schedules]] = []
    for point, polynomial in zip(points, _lagrange(points), strict=True):
        mean, x, y = (sum((a * m for a, m in zip(polynomial, of, strict=True)), Fraction()) for of in chances)
        at = [_of_task(problem, e, Fraction(point), Fraction(i), Fraction(j), z) for i, j in ((0, 0), (1, 0), (0, 1))]
        parts += zip((mean - x - y, x, y), at, strict=True)

    def average(values) -> Fraction:
        return sum((chance * value for (chance, _), value in zip(parts, values, strict=True)), Fraction())

    alphas, betas = (zip(*(getattr(at, name) for _, at in parts), strict=True) for name in ("alpha", "beta"))
    return Schedules(average(at.c0 for _, at in parts), [*map(average, alphas)], [*map(average, betas)])


def _of_task(problem: Problem, e: Sequence[int], norm2: Fraction, x: Fraction, y: Fraction, z: Fraction) -> Schedules:
    """`one_batch` for |b|^2, b'Wb, |Wb|^2 and |W|_F^2, given the moments e of the batch."""
    law: Any = at_inference(problem)
    c, c_e, query = (
        Fraction(float(linalg.simplest(np.asarray(cov))))
        for cov in (problem.feature_cov, law.feature_cov, law.query_feature_cov)
    )
    # In units in which Sx = I: b'b, b'Wb, |Wb|^2 and |W|^2 of sqrt(c) b and c W, and step sizes c^2 lr.
    norm2, x, y, z, unit = norm2 * c, x * c**2, y * c**3, z * c**2, c or Fraction(1)
    c_e, query = c_e / unit, query / unit
    order, n, d, s2 = len(e) - 1, problem.n, problem.d, Fraction(problem.noise_var)
    u = _Summary(n, d, norm2, s2, order + 4)
    # M_e = m bb' - W C_e, C_e = f bb' + g I
    scale = Fraction(problem.n, law.n) if problem.inference.rescale else Fraction(1)
    m = scale * law.n * c_e
    f, g = m**2 + m * scale * c_e, scale * m * (c_e * norm2 + Fraction(law.noise_var))
    # W on average over the directions across b, of those numbers that r depends on: b'Wu = along b'u, and
    # |Wu|^2 = square (b'u)^2/B + across rho for |u|^2 = (b'u)^2/B + rho.
    along, square = x / norm2 if norm2 else Fraction(), y / norm2 if norm2 and d > 1 else z / d
    across = (z - square) / (d - 1) if d > 1 else Fraction(0)

    def residual(p: int, j: int) -> Fraction:
        """E[|u|^2p (b'u)^j |r|^2]."""
        spread = square * u.mean(p, j, along=1) + across * u.mean(p, j, across=1)
        return norm2 * u.mean(p, j) - 2 * along * u.mean(p, j + 1) + spread

    def overlap(p: int, mean) -> Fraction:
        """E[|u|^2p u'C_e u h] for mean(p, j) = E[|u|^2p (b'u)^j h]."""
        return f * mean(p, 2) + g * mean(p + 1, 0)

    def cross(p: int) -> Fraction:
        """E[|u|^2p r'M_e u]."""
        spread = square * u.mean(p, 0, along=1) + across * u.mean(p, 0, across=1)
        first, second = m * norm2 - (f * norm2 + g) * along, f * square - m * along
        return first * u.mean(p, 1) + second * u.mean(p, 2) + g * spread

    if problem.inference.context == "same":
        c0 = residual(0, 0)
        alpha = [e[p] * residual(p, 0) for p in range(1, order + 1)]
        signal = alpha[1:]
        noise = [u.mean(p, 0) for p in range(2, order + 1)]
    else:
        c0 = norm2 - 2 * m * x + f * y + g * z
        alpha = [e[p] * cross(p - 1) for p in range(1, order // 2 + 1)]
        signal = [e[p] * overlap(p - 2, residual) for p in range(2, order + 1)]
        noise = [overlap(p - 2, u.mean) for p in range(2, order + 1)]
    beta = [a + s2 * d * e[p - 1] * b for p, a, b in zip(range(2, order + 1), signal, noise, strict=True)]
    powers = [query * (2 * c**2) ** p for p in range(order + 1)]
    return Schedules(
        Fraction(law.query_noise_var) + query * c0,
        [power * a for power, a in zip(powers[1 : order // 2 + 1], alpha, strict=False)],
        [power * b for power, b in zip(powers[2:], beta, strict=True)],
    )


def _lagrange(points: Sequence[int]) -> list[list[Fraction]]:
    """The coefficients of the polynomials that are 1 at one of the points and 0 at the others, of rising powers."""
    found = []
    for x in points:
        polynomial = [Fraction(1)]
        for other in points:
            if other != x:
                shifted = zip([Fraction(), *polynomial], [*polynomial, Fraction()], strict=True)
                polynomial = [(a - other * b) / (x - other) for a, b in shifted]
        found.append(polynomial)
    return found


class _Summary:
    """Moments of u = X'y, X of n standard Gaussian rows, exactly."""

    def __init__(self, n: int, d: int, norm2: Fraction, noise_var: Fraction, order: int):
        self.unit = lcm(norm2.denominator, noise_var.denominator)  # every moment is an integer over a power of it
        self.norm2, self.noise_var, self.tau = (
            [int(value * self.unit) ** i for i in range(2 * order)] for value in (norm2, noise_var, norm2 + noise_var)
        )
        self.mean = cache(self._mean)
        self.t, self.q = _chi2_moments(n, 2 * order), _chi2_moments(d - 1, order)

    def _mean(self, p: int, j: int, along: int = 0, across: int = 0) -> Fraction:
        """E[|u|^2p (b'u)^j ((b'u)^2/B)^along rho^across], |u|^2 = (b'u)^2/B + rho.

        Given t, b'u ~ N(t B, t B s2) and rho ~ t tau chi2(d-1); B cancels in E[((b'u)^2/B)^i (b'u)^j].
        """
        total = 0
        for i in range(p + 1):
            rho, power = p - i + across, 2 * (i + along) + j
            gaussian = sum(
                comb(power, 2 * c)
                * prod(range(1, 2 * c, 2))
                * self.norm2[i + along + j - c]
                * self.noise_var[c]
                * self.t[power - c + rho]
                for c in range(power // 2 + 1 if self.noise_var[1] else 1)
            )
            total += comb(p, i) * self.tau[rho] * self.q[rho] * gaussian
        return Fraction(total, self.unit ** (p + j + along + across))


def _chi2_moments(degrees: int, order: int) -> list[int]:
    """E chi2(degrees)^m for m = 0, ..., order."""
    moments = [1]
    for m in range(order):
        moments.append(moments[-1] * (degrees + 2 * m))
    return moments


def looped_attention(n: int, d: int, layers: int, *, norm2: float = 1.0, noise_var: float = 0.0) -> Schedules:
    """The exact risk of looped linear attention, h <- h + s_l X'(y - X h) from h = 0 with the prediction x'h.

    Each layer is one gradient step on the n context pairs, so that its weight s_l / 2 plays the part of |u|^2 lr_l:

        alpha_p = B e_p,    beta_p = B e_p + s2 d e_(p-1),    e_p = E (S^p)_11, S = X'X of n rows.

    Args:
        n: context pairs.
        d: features, x ~ N(0, I).
        layers: L, the largest number of layers.
        norm2: B = |b|^2, or its mean over random tasks.
        noise_var: s2, of the labels of the context and of the query.

    Returns:
        Risks for the weights s_1, ..., s_L in place of step sizes, the noise of the query's label included.

    Example:
        >>> n, layers = 30, 4                            # s_l = gamma / (L n), gamma = .8
        >>> risks = looped_attention(n, 20, layers, noise_var=0.1).risks([0.8 / (layers * n)] * layers)
        >>> (risks - 0.1).round(5).tolist()
        [1.0, 0.67067, 0.5136, 0.42288, 0.36376]

    Reference: this project; in the limit of Marchenko and Pastur, Bordelon et al. (arXiv 2510.01098).
    """
    order = 2 * positive_integer("layers", layers)
    b, s2 = Fraction(non_negative("norm2", norm2)), Fraction(non_negative("noise_var", noise_var))
    e = wishart_moments(positive_integer("n", n), positive_integer("d", d), order)
    beta = [b * e[p] + s2 * d * e[p - 1] for p in range(2, order + 1)]
    return Schedules(b + s2, [b * e[p] for p in range(1, layers + 1)], beta)
