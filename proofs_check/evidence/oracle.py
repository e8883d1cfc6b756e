"""The risk of one TTT step in exact rational arithmetic, from the Gaussian entries of the data by Wick pairings.

Nothing here knows the law of u = X'y, Stein's lemma or chi-squared moments. A moment of one row (x, y) is the sum
over all pairings of its Gaussian entries; rows are independent, so moments of a sum of n rows follow by the binomial
theorem; the risk is a polynomial in the entries, and its expectation replaces each monomial by its moment.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import comb, factorial, prod
from operator import add

import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.setting import AtInference, Setting, of_parabola

Vector = Sequence
Matrix = Sequence[Sequence]
Exponents = tuple[int, ...]
DEGREE = 6  # the risk has degree 6 in the context: |u|^4 times a square of W u
DIMENSION_DEGREE = 4  # |u|^4 r'r tr(Sx^2) is a sum over four free coordinates, no coefficient over more


def risk_coefficients(
    task: Vector,
    feature_cov: Matrix,
    noise_var,
    weights: Matrix,
    n: int,
    k: int,
    evaluation: str = "fresh",
    *,
    left: Matrix | None = None,
    right: Matrix | None = None,
    inference: AtInference | None = None,
    context_cov: Matrix | None = None,
    query_cov: Matrix | None = None,
) -> tuple:
    """The exact (c0, c1, c2) of risk(lr) = c0 - c1 lr + c2 lr^2 after the step W - lr L grad R, all rational.

    Args:
        task, feature_cov, noise_var, weights: b, Sx, s2 and W as (nested) sequences of rationals.
        n, k: numbers of context pairs and training queries.
        evaluation: "fresh" or "same".
        left, right: L and R, the identity by default.
        inference: the numbers of the law at inference, by default those of training.
        context_cov, query_cov: Se and Sq, by default Sx and Se.

    Example:
        >>> [int(c) for c in risk_coefficients([1], [[1]], 0, [[0]], n=2, k=1)]      # Theorem 4.5 at B = d = 1
        [1, 16, 768]
    """
    d = len(task)
    b, s2 = [QQ.convert(x) for x in task], QQ.convert(noise_var)
    sx, w = _rational(feature_cov), _rational(weights)
    se = sx if context_cov is None else _rational(context_cov)
    sq = se if query_cov is None else _rational(query_cov)
    identity = [[QQ(int(i == j)) for j in range(d)] for i in range(d)]
    l, r = (identity if matrix is None else _rational(matrix) for matrix in (left, right))
    law = inference or AtInference(n, noise_var, noise_var)
    polynomials, *symbols = ring([f"u{i}" for i in range(d)] + [f"e{i}" for i in range(d)], QQ)
    u, e = symbols[:d], symbols[d:] if evaluation == "fresh" else symbols[:d]
    e = [QQ.convert(law.scale) * x for x in e]  # the summary at inference

    residual, error = ([b[i] - _dot(w[i], z) for i in range(d)] for z in (u, e))
    entries = _pairings(sx)
    first = [k * _dot(sx[i], residual) for i in range(d)]  # E v given u, for v = sum of k rows x (x'r + xi)

    def second(i, j):  # E v_i v_j given u: k terms of one row, k (k-1) of two
        one_row = s2 * sx[i][j] + sum(
            entries(tuple(sorted((i, j, a, c)))) * residual[a] * residual[c] for a in range(d) for c in range(d)
        )
        return k * one_row + k * (k - 1) * _dot(sx[i], residual) * _dot(sx[j], residual)

    pairs = list(itertools.product(range(d), repeat=2))
    lq = [[_dot([row[i] for row in l], [row[j] for row in sq]) for j in range(d)] for i in range(d)]  # L'Sq
    size = [[_dot(lq[i], [row[j] for row in l]) for j in range(d)] for i in range(d)]  # L'Sq L

    def form(matrix, left, right):
        """sum of matrix_ij left_i right_j, also of a matrix of zeros a polynomial."""
        return sum((matrix[i][j] * left[i] * right[j] for i, j in pairs if matrix[i][j]), polynomials.zero)

    overlap = form(r, u, e)
    c0 = QQ.convert(law.query_noise_var) + form(sq, error, error)
    c1 = 4 * overlap * form(lq, first, error)
    c2 = 4 * overlap**2 * sum((size[i][j] * second(i, j) for i, j in pairs if size[i][j]), polynomials.zero)

    at_training, at_inference = (sx, s2, n), (se, QQ.convert(law.noise_var), law.n)
    moments = moments_e = context_moments(b, *at_training)
    if at_inference != at_training:
        moments_e = context_moments(b, *at_inference)

    def expectation(polynomial):
        return sum((c * moments.get(a[:d], 0) * moments_e.get(a[d:], 0) for a, c in polynomial.terms()), QQ(0))

    return tuple(expectation(c) for c in (c0, c1, c2))


def context_moments(task: Vector, feature_cov: Matrix, noise_var, n: int) -> dict[Exponents, object]:
    """E[u^a] for the exponents a of degree <= 6, zeros left out, with u = X'y a sum of n independent rows."""
    b = tuple(QQ.convert(x) for x in task)
    return _context_moments(b, tuple(map(tuple, _rational(feature_cov))), QQ.convert(noise_var), n)


@lru_cache(None)
def _context_moments(b: tuple, sx: tuple, s2, n: int) -> dict[Exponents, object]:
    d = len(b)
    p = [_dot(row, b) for row in sx]
    joint = [[*row, p_i] for row, p_i in zip(sx, p, strict=True)] + [[*p, _dot(b, p) + s2]]
    pairings = _pairings(joint)
    factors = [c for m in range(DEGREE + 1) for c in itertools.combinations_with_replacement(range(d), m)]
    one = (0,) * d
    row = {tuple(map(c.count, range(d))): pairings((*c, *(d,) * len(c))) for c in factors}
    rest = {a: m / _factorial(a) for a, m in row.items() if m and a != one}  # of E exp(t u) for one row, without the 1
    power: Mapping = {one: QQ(1)}
    total = defaultdict(QQ, power)
    for j in range(1, DEGREE + 1):  # (1 + rest)^n = sum over j of binomial(n, j) rest^j, where rest has no degree 0
        power = _product(power, rest)
        for a, coefficient in power.items():
            total[a] += comb(n, j) * coefficient
    return {a: coefficient * _factorial(a) for a, coefficient in total.items()}


def grouped_coefficients(setting: Setting) -> tuple:
    """The exact (c0, c1, c2) for diagonal matrices with repeated entries, at any multiplicities.

    The coefficients are polynomials in the multiplicities, of total degree <= 4: each is a sum over at most four
    free coordinates. So their values at small multiplicities fix them, by Newton's forward differences.

    Example:
        >>> from proofs_check.setting import isotropic
        >>> c0, c1, c2 = grouped_coefficients(isotropic(2, 1, 1000))
        >>> int(c0), int(c1), int(c2) == 16 * 1002 * 1015     # 4 k n^2 (k+d+1) (n^2+4n+3+d)
        (1, 16, True)
    """
    groups = [group.filled() for group in setting.groups]
    grid = itertools.product(range(DIMENSION_DEGREE + 1), repeat=len(groups))
    steps = [step for step in grid if sum(step) <= DIMENSION_DEGREE]

    def small(step):
        """The coefficients with 1 + i coordinates of each group."""
        task, matrices = [], {}
        for group, i in zip(groups, step, strict=True):
            task += [group.task] + [0] * i
        for name in ("feature", "weight", "left", "right", "context", "query"):
            columns = ([getattr(g, name)] * (1 + i) for g, i in zip(groups, step, strict=True))
            matrices[name] = _diagonal([x for column in columns for x in column])
        return risk_coefficients(
            task, matrices["feature"], setting.noise_var, matrices["weight"], setting.n, setting.k, setting.evaluation,
            left=matrices["left"], right=matrices["right"], inference=setting.inference,
            context_cov=matrices["context"], query_cov=matrices["query"],
        )  # fmt: skip

    values = {step: small(step) for step in steps}

    def newton(c):
        total = QQ(0)
        for step in steps:
            below = itertools.product(*(range(i + 1) for i in step))
            difference = sum((-1) ** (sum(step) - sum(j)) * prod(map(comb, step, j)) * values[j][c] for j in below)
            total += difference * prod(
                comb(int(group.multiplicity) - 1, i) for group, i in zip(groups, step, strict=True)
            )
        return total

    return tuple(newton(c) for c in range(3))


@lru_cache(None)
def parabola(setting: Setting) -> tuple[sp.Rational, ...]:
    """(c0, c1, c2) as numbers of sympy, remembered."""
    return tuple(QQ.to_sympy(c) for c in grouped_coefficients(setting))


def quantities(setting: Setting) -> dict[str, sp.Expr]:
    return of_parabola(*parabola(setting))


def gaussian_mean(polynomial):
    """E of a polynomial in independent standard Gaussian variables: an even power m has (m-1)!! pairings."""
    even = ((c, powers) for powers, c in polynomial.terms() if not any(m % 2 for m in powers))
    return sum((c * prod(prod(range(1, m, 2)) for m in powers) for c, powers in even), QQ(0))


def _pairings(covariance: Matrix) -> Callable:
    """The function E[z_i z_j ...] of sorted indices, z ~ N(0, covariance): pair the first factor with each other."""

    @lru_cache(None)
    def moment(indices: tuple[int, ...]):
        if not indices:
            return QQ(1)
        first, *rest = indices
        partners = ((j, covariance[first][partner]) for j, partner in enumerate(rest))
        return sum((c * moment((*rest[:j], *rest[j + 1 :])) for j, c in partners if c), QQ(0))

    return moment


def _product(one: Mapping, other: Mapping) -> Mapping:
    """The product of two power series, {exponents: coefficient}, to degree 6."""
    up_to = [[(b, y) for b, y in other.items() if sum(b) <= degree] for degree in range(DEGREE + 1)]
    total: dict = defaultdict(QQ)
    for a, x in one.items():
        for b, y in up_to[DEGREE - sum(a)]:
            total[tuple(map(add, a, b))] += x * y
    return total


def _factorial(exponents: Exponents) -> int:
    return prod(map(factorial, exponents))


def _rational(matrix: Matrix) -> list[list]:
    return [[QQ.convert(x) for x in row] for row in matrix]


def _diagonal(values: Vector) -> list[list]:
    return [[value if i == j else 0 for j in range(len(values))] for i, value in enumerate(values)]


def _dot(a: Vector, b: Vector):
    return sum((x * y for x, y in zip(a, b, strict=True)), QQ(0))
