"""Expectations of words in Wishart matrices, against enumeration, quadrature, known moments and simulation."""

import itertools
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest

from tests.theory.test_exact import gaussian_grid
from ttt_jax import NotApplicable
from ttt_jax.theory.wishart_words import expectation, matrix, trace, vector, wishart

V, W, C = matrix("V", symmetric=True), matrix("W"), matrix("C", symmetric=True)
S, T = wishart("S", V), wishart("T")
b, c = vector("b"), vector("c")


def product(*factors):
    return reduce(lambda x, y: x @ y, factors)


def numbers(kind=Fraction):
    """Values of every symbol at d = 2, rational or float."""
    arrays = {"V": [[3, 1], [1, 2]], "W": [[1, -2], [3, 1]], "C": [[1, 1], [1, -2]], "b": [2, -1], "c": [1, 3]}
    rational = {
        name: np.array([[Fraction(x, 5) for x in row] for row in np.atleast_2d(a)]) for name, a in arrays.items()
    }
    shaped = {name: a if len(arrays[name]) == len(a) > 1 else a[0] for name, a in rational.items()}
    return {name: a.astype(float) if kind is float else a for name, a in shaped.items()} | {"S": 2, "T": 1}


EXPRESSIONS = {
    "one trace": trace(product(S, W, S, C, S)),
    "two traces": trace(product(S, W, S)) * trace(product(W.T, S, C)),
    "two colours": trace(product(S, W, T, W.T, S, C)) * trace(T),
    "between vectors": (b.T @ S @ W @ S @ c) * (c.T @ S @ b),
    "vectors and a trace": (b.T @ T @ (W @ c - 2 * S @ b)) * trace(S @ W) + 3 * (b.T @ b) * trace(V),
    "outer products": (b.T @ S @ (c @ b.T) @ T @ W @ c) * trace(S @ (b @ c.T)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expectations_are_those_of_the_gaussian_entries(name):
    """Gauss and Hermite's rule over all entries of X: exact, and knows neither Wick nor Stein."""
    values, expression = numbers(float), EXPRESSIONS[name]
    points, weight = gaussian_grid(6, 4)  # S has two rows and T one, d = 2; degree 7 in each entry
    x = points[:, :4].reshape(-1, 2, 2) @ np.linalg.cholesky(values["V"]).T
    y = points[:, 4:].reshape(-1, 1, 2)
    sampled = values | {"S": np.einsum("pri,prj->pij", x, x), "T": np.einsum("pri,prj->pij", y, y)}
    expected = weight @ evaluate(expression, sampled)
    moment = expectation(expression)
    assert moment.at(values) == pytest.approx(expected, rel=1e-12)
    exact = moment.at(numbers())
    assert isinstance(exact, Fraction)
    assert float(exact) == pytest.approx(expected, rel=1e-12)


def evaluate(expression, values):
    """The number at every sampled S and T, letter by letter."""

    def array(letter):
        if " " in letter:
            return np.outer(*(values[name] for name in letter.split(" ")))
        return values[letter[:-1]].T if letter.endswith("'") else values[letter]

    def closed(word):
        return np.trace(reduce(np.matmul, map(array, word), np.eye(2)), axis1=-2, axis2=-1)

    return sum(c * reduce(np.multiply, map(closed, words), 1.0) for (words, _), c in expression.terms.items())


def test_isotropic_moments_are_known_polynomials():
    """E tr S^3 and (tr S)^3, and, for d = 1, E chi2(n)^m = n (n+2) ... up to order 12."""
    for n, d in itertools.product((1, 3, 10), (1, 2, 7)):
        third = n * d * (n**2 + 3 * n * (d + 1) + d**2 + 3 * d + 4)
        assert expectation(trace(product(T, T, T))).at({"T": n}, d) == third
        rows = n * d
        assert expectation(trace(T) * trace(T) * trace(T)).at({"T": n}, d) == rows * (rows + 2) * (rows + 4)
    for order in (1, 4, 12):
        rising = np.prod([5 + 2 * i for i in range(order)], dtype=object)
        moment = expectation(trace(product(*[T] * order)))
        assert moment.at({"T": 5}, 1) == rising
        assert isinstance(moment.at({"T": 5}, 1), int)


def test_scalars_and_diagonals_stand_for_matrices():
    values, moment = numbers(float), expectation(EXPRESSIONS["between vectors"] + EXPRESSIONS["two traces"])
    shapes = {"V": [1.5, 0.5], "W": 0.7, "C": [0.3, -0.2]}
    dense = {name: np.diag(np.broadcast_to(value, 2)) for name, value in shapes.items()}
    assert moment.at(values | shapes) == pytest.approx(moment.at(values | dense), rel=1e-13)


def test_independent_colours_factorise_and_powers_add_up():
    first, second = trace(S @ W), trace(T @ C)
    values = numbers()
    apart = expectation(first).at(values) * expectation(second).at(values)
    assert expectation(first * second).at(values) == apart
    square = trace(S) * trace(S)
    both = expectation(square + square).at(values)
    assert both == 2 * expectation(square).at(values)
    assert expectation(square - square).at(values) == 0


def test_orders_beyond_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr("ttt_jax.theory.wishart_words.MAX_TERMS", 50)
    letters = [letter for i in range(5) for letter in (T, matrix(f"A{i}"))]
    with pytest.raises(NotApplicable, match="expectation of order 5 has more than 50 terms"):
        expectation(trace(product(*letters)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S + b, "a sum needs terms of one shape"),
        (lambda: b @ S, "@ is for matrices, columns and rows whose shapes fit"),
        (lambda: S * trace(S), r"\* is for numbers"),
        (lambda: trace(b), "trace needs a matrix"),
        (lambda: expectation(S @ b), "expectation needs a number"),
        (lambda: trace(S).at({"S": 2}), "only an expectation has a value"),
        (lambda: expectation(trace(S)).at({"S": 2}), "values must hold V"),
        (lambda: expectation(trace(T)).at({"T": 2}), "d must be given where no array says it"),
        (lambda: matrix("no name"), "name must be an identifier such as 'S', got 'no name'"),
        (lambda: matrix("T") @ T, "name 'T' stands for two things"),
        (lambda: wishart("R", W), "covariance must be one symmetric matrix"),
    ],
)
def test_misuse_is_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()
