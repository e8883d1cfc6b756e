"""The risk of random tasks, Gaussian or sparse: averages of polynomials of degree 2, 4 and 6 in the task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import comb, factorial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from ttt_jax._internal import linalg
from ttt_jax._internal.mapping import map_rows
from ttt_jax._internal.validate import positive_integer, seed_integer
from ttt_jax.problem import GaussianTasks, Problem, SparseTasks, task_parts
from ttt_jax.procedures import GradientStep
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.theory.inference import at_inference

Quadrature = tuple[Float[np.ndarray, "T d"], Float[np.ndarray, " T"]]
"""Tasks and their probabilities."""

HERMITE_NODES = 4  # exact to degree 7


def average_over_tasks(
    coefficients: Callable, problem: Problem, weights: np.ndarray, procedure: GradientStep, num_tasks: int, seed: int
) -> RiskCurve:
    """The curve of `coefficients`, with the arguments of `exact.risk_coefficients`, averaged over the tasks.

    The average is exact if the coefficients depend on the length of the task alone (every matrix is a multiple of the
    identity), or if there are at most num_tasks nodes, 4^rank(task covariance) or (d over s) 4^s; else it is over
    num_tasks sampled tasks, with the covariance of its errors in the result.
    """
    factors = {
        name: linalg.simplest(matrix) for name in ("left", "right") if (matrix := getattr(procedure, name)) is not None
    }
    weights, feature_cov = linalg.simplest(weights), linalg.simplest(problem.feature_cov)
    law: Any = at_inference(problem)
    matrices: list[np.ndarray] = [weights, feature_cov, law.feature_cov, law.query_feature_cov, *factors.values()]
    # In units of 4^i for x^2 and 4^j for y^2 no value is far from one, and powers of two change no digit.
    i, j = _units(problem)
    task = _scaled(problem.task, i - j)
    parameters = np.ldexp(feature_cov, -2 * i), math.ldexp(problem.noise_var, -2 * j), np.ldexp(weights, 2 * i)
    features = (np.ldexp(cov, -2 * i) for cov in (law.feature_cov, law.query_feature_cov))
    noises = (math.ldexp(noise, -2 * j) for noise in (law.noise_var, law.query_noise_var))
    scaled = zip(
        ("feature_cov", "query_feature_cov", "noise_var", "query_noise_var"), (*features, *noises), strict=True
    )
    law = law._replace(**dict(scaled))
    quadrature = find_quadrature(task, isotropic=all(a.ndim == 0 for a in matrices), num_tasks=num_tasks)
    if quadrature:
        tasks, probabilities = quadrature
    else:
        tasks, probabilities = draw_tasks(task, num_tasks, seed_integer(seed)), None
    names = ("feature_cov", "noise_var", "weights", "n", "k")
    fixed = dict(zip(names, (*parameters, problem.n, problem.k), strict=True)) | {"inference": law} | factors
    with np.errstate(over="ignore", invalid="ignore"):
        values = map_rows(coefficients, tasks, fixed, evaluation=problem.inference.context)
        covariance = np.zeros((3, 3)) if probabilities is not None else np.cov(values, rowvar=False) / num_tasks
        mean = values.mean(axis=0) if probabilities is None else probabilities @ values
        exponents = 2 * j + (4 * i + 2 * j) * np.arange(3)
        c0, c1, c2 = _ldexp(mean, exponents, problem, weights).tolist()
        return RiskCurve(c0, c1, c2, _ldexp(covariance, exponents + exponents[:, None], problem, weights))


def _units(problem: Problem) -> tuple[int, int]:
    """Exponents i and j such that 4^i is of the order of the largest feature variance, 4^j of that of the labels."""
    task = problem.task
    mean, cov, _ = task_parts(task)
    length = mean if cov is None else math.sqrt(np.abs(cov).max()) + np.abs(mean).max()
    feature, label, noise = (
        math.frexp(np.abs(value).max())[1] for value in (problem.feature_cov, length, problem.noise_var)
    )
    i = feature // 2
    signal = [label + i] if np.any(problem.feature_cov) and np.any(length) else []
    return i, max([*signal, *([noise // 2] if problem.noise_var else [])], default=0)


def _scaled(task: np.ndarray | GaussianTasks | SparseTasks, exponent: int) -> Any:
    """The tasks 2^exponent b."""
    if isinstance(task, SparseTasks):
        return replace(task, variance=math.ldexp(task.variance, 2 * exponent))
    if isinstance(task, GaussianTasks):
        return replace(task, mean=np.ldexp(task.mean, exponent), cov=np.ldexp(task.cov, 2 * exponent))
    return np.ldexp(task, exponent)


def _ldexp(
    values: Float[np.ndarray, ...], exponents: Int[np.ndarray, ...], problem: Problem, weights: np.ndarray
) -> Float[np.ndarray, ...]:
    """values * 2^exponents; ValueError where a float64 cannot hold them."""
    scaled = np.ldexp(values, exponents)
    lost = (values != 0) & (np.abs(scaled) < np.finfo(np.float64).tiny)
    if np.isfinite(scaled).all() and not lost.any():
        return scaled
    mean, cov, _ = task_parts(problem.task)
    arrays = (mean,) if cov is None else (mean, cov)
    sizes = [float(np.abs(a).max()) for a in (*arrays, problem.feature_cov, problem.noise_var, weights)]
    if np.isfinite(scaled).all():
        what, way = f"underflows float64, with values down to {min(size for size in sizes if size):.3g}", "up"
    else:
        what, way = f"overflows float64, with values up to {max(sizes):.3g}", "down"
    raise ValueError(f"the risk {what}: scale task, noise_var, feature_cov or weights {way}")


def find_quadrature(task: Any, *, isotropic: bool, num_tasks: int) -> Quadrature | None:
    """Tasks whose average is exact, None if there are too many."""
    if isinstance(task, np.ndarray):
        return task[None], np.ones(1)
    if positive_integer("num_tasks", num_tasks) < 2:
        raise ValueError("num_tasks must be at least 2 to average over random tasks with a standard error, got 1")
    if isinstance(task, GaussianTasks):
        return squared_norm_quadrature(task) if isotropic else hermite_quadrature(task, num_tasks)
    if isotropic:
        return squared_norm_quadrature(_on(range(task.nonzero), task))
    return sparse_quadrature(task, num_tasks)


def squared_norm_quadrature(tasks: GaussianTasks) -> Quadrature:
    """Two tasks along the first axis, whose |b|^2 has the law's first three moments: Gauss quadrature of |b|^2.

    Where nothing but B = |b|^2 matters, the coefficients of the risk are polynomials in B of degree 1, 2 and 3.

    Example:
        >>> nodes, probabilities = squared_norm_quadrature(GaussianTasks(cov=1.0, d=2))             # B ~ chi2(2)
        >>> [round(float(probabilities @ (nodes**2).sum(1) ** m), 9) for m in (1, 2, 3)]            # 2, 2 4, 2 4 6
        [2.0, 8.0, 48.0]
    """
    cov, shift = linalg.simplest(tasks.cov), tasks.mean
    if cov.ndim == 2:
        values, vectors = np.linalg.eigh(cov)
        shift = vectors.T @ shift
    else:
        values = np.broadcast_to(cov, tasks.d)
    values, shift2 = np.clip(values, 0, None), shift**2
    mean = np.sum(values + shift2)
    variance = 2 * np.sum(values * (values + 2 * shift2))
    third = 8 * np.sum(values**2 * (values + 3 * shift2))  # cumulants of a Gaussian's quadratic form
    if variance <= 0:
        return np.sqrt(mean) * np.eye(1, tasks.d), np.ones(1)
    half_skewness = third / variance**1.5 / 2
    root = math.sqrt(1 + half_skewness**2)
    nodes = np.array([half_skewness - root, half_skewness + root])  # in standard deviations; their product is -1
    norms2 = np.maximum(mean + math.sqrt(variance) * nodes, 0.0)
    return np.sqrt(norms2)[:, None] * np.eye(1, tasks.d), nodes[::-1] / (nodes[::-1] - nodes)


def hermite_quadrature(tasks: GaussianTasks, max_tasks: int) -> Quadrature | None:
    """Product Gauss-Hermite quadrature along the principal axes of the task covariance; None beyond max_tasks.

    Example:
        >>> nodes, probabilities = hermite_quadrature(GaussianTasks(mean=[1.0, 2.0], cov=[0.0, 3.0]), 10)
        >>> len(nodes), round(float(probabilities @ nodes[:, 1] ** 4), 9)        # 2^4 + 6 3 2^2 + 3 3^2
        (4, 115.0)
    """
    values, vectors = np.linalg.eigh(linalg.dense(tasks.cov, tasks.d))
    live = values > tasks.d * np.finfo(np.float64).eps * values.max()
    axes = (vectors[:, live] * np.sqrt(values[live])).T
    if len(axes) * math.log(HERMITE_NODES) > math.log(max_tasks):
        return None
    nodes, probabilities = np.polynomial.hermite_e.hermegauss(HERMITE_NODES)
    probabilities = probabilities / probabilities.sum()
    grid = np.array(list(itertools.product(nodes, repeat=len(axes))))
    products = np.array(list(itertools.product(probabilities, repeat=len(axes)))).prod(axis=1)
    return tasks.mean + grid.reshape(len(products), -1) @ axes, products


def sparse_quadrature(tasks: SparseTasks, max_tasks: int) -> Quadrature | None:
    """Gauss-Hermite quadrature on every support; None beyond max_tasks.

    Example:
        >>> nodes, probabilities = sparse_quadrature(SparseTasks(3, nonzero=1), 12)
        >>> len(nodes), round(float(probabilities @ nodes[:, 0] ** 4), 9)                           # 3 / 3
        (12, 1.0)
    """
    supports = comb(tasks.d, tasks.nonzero)
    if math.log(supports) + tasks.nonzero * math.log(HERMITE_NODES) > math.log(max_tasks) + 1e-9:
        return None
    found = [
        hermite_quadrature(_on(support, tasks), max_tasks)
        for support in itertools.combinations(range(tasks.d), tasks.nonzero)
    ]
    nodes, probabilities = zip(*(one for one in found if one), strict=True)
    return np.concatenate(nodes), np.concatenate(probabilities) / supports


def _on(support: Iterable[int], tasks: SparseTasks) -> GaussianTasks:
    """The sparse tasks with this support."""
    cov = np.zeros(tasks.d)
    cov[list(support)] = tasks.variance
    return GaussianTasks(cov=cov)


def task_moments(tasks: GaussianTasks, forms: Sequence[Float[np.ndarray, ...]], order: int) -> list[list[Fraction]]:
    """E |b|^2j, and then E[b'A b |b|^2j] for every form A, j = 0, ..., order, as rational numbers.

    By the joint cumulants of b'A b and i times |b|^2, with m the mean and Sb the covariance,

        2^i i! [tr(A Sb^(i+1)) + sum_(a = 0..i) m'Sb^a A Sb^(i-a) m].

    Along the principal axes of Sb all floats are exact, so that the moments belong to one law to the last digit, and
    sums that alternate may be taken of them; the axes themselves are rounded where Sb is not diagonal.

    Example:
        >>> [[int(m) for m in moments] for moments in task_moments(GaussianTasks(d=2), [np.array(3.0)], 3)]
        [[1, 2, 8, 48], [6, 24, 144, 1152]]
    """
    cov, mean, forms = linalg.simplest(tasks.cov), tasks.mean, [linalg.simplest(np.asarray(form)) for form in forms]
    if cov.ndim == 2:
        cov, axes = np.linalg.eigh(cov)
        mean, forms = axes.T @ mean, [form if form.ndim == 0 else _turned(form, axes) for form in forms]
    values, unit = _integers(np.clip(np.broadcast_to(cov, tasks.d), 0, None))
    mean, mean_unit = _integers(mean)
    powers = [values**i for i in range(order + 2)]

    def cumulants(form: np.ndarray) -> list[Fraction]:
        a, form_unit = _integers(np.broadcast_to(form, tasks.d) if form.ndim < 2 else form)
        diagonal = a if a.ndim == 1 else a.diagonal()
        images = [linalg.apply(a, power * mean) for power in powers[:-1]]
        found = []
        for i in range(order + 1):
            along = Fraction(sum((powers[j] * mean) @ images[i - j] for j in range(i + 1)), mean_unit**2)
            spread = Fraction(diagonal @ powers[i + 1], unit)
            found.append(2**i * factorial(i) * (spread + along) / (form_unit * unit**i))
        return found

    def moments(joint: list[Fraction], norm2: list[Fraction]) -> list[Fraction]:
        return [
            sum((comb(j, i) * joint[i] * norm2[j - i] for i in range(j + 1)), Fraction()) for j in range(len(norm2))
        ]

    norm2, own = [Fraction(1)], cumulants(np.ones(()))
    for _ in range(order):
        norm2.append(moments(own, norm2)[-1])
    return [norm2, *(moments(cumulants(form), norm2) for form in forms)]


def _turned(form: Float[np.ndarray, ...], axes: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    return axes.T @ linalg.dense(form, len(axes)) @ axes


def _integers(values: Float[np.ndarray, ...]) -> tuple[np.ndarray, int]:
    """Integers, as Python's, and the unit: values = integers / unit, exactly."""
    fractions = [Fraction(value) for value in values.ravel().tolist()]
    unit = max((fraction.denominator for fraction in fractions), default=1)
    integers = np.array([fraction.numerator * (unit // fraction.denominator) for fraction in fractions], object)
    return integers.reshape(values.shape), unit


def draw_tasks(tasks: GaussianTasks | SparseTasks, num_tasks: int, seed: int) -> Float[np.ndarray, "T d"]:
    """num_tasks task vectors."""
    mean, cov, nonzero = task_parts(tasks)
    assert cov is not None
    with jax.enable_x64(True):
        normals = jax.random.normal(jax.random.key(seed, impl="threefry2x32"), (num_tasks, tasks.d))
    found = mean + linalg.apply(linalg.sqrt(cov), np.asarray(normals))
    if nonzero is not None:
        places = np.random.default_rng(seed).random(found.shape).argsort(axis=1)
        np.put_along_axis(found, places[:, nonzero:], 0.0, axis=1)
    return found
