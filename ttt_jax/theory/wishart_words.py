"""Exact expectations of polynomials in independent Wishart matrices and fixed matrices, compiled once, at any size.

A formula is written with symbols, `(u.T @ u) * trace(S @ A @ S)`, and its expectation is an exact polynomial in the
numbers of rows, traces of products of the fixed matrices, and products of them between vectors. Evaluated at numbers of
type float, int or Fraction it costs what these products cost; no size enters its compilation.

S = X'X has independent rows x ~ N(0, V). Stein's lemma for one entry of X takes one letter S out of a product,

    E tr(S A) f           = n E tr(V A) f + ..., and for every other S in it one of
    E tr(S A S B) f       ->  E tr(B V A'S) f + E tr(B V) tr(A S) f                  (in the same trace)
    E tr(S A) tr(S B) f   ->  E tr(A V B'S) f + E tr(A V B S) f                      (in another trace)

until none is left: (2 m - 1)!! terms for m letters of one colour, the pairings of Wick's theorem, of which equal ones
are added up at every step. A product between vectors is a trace too, v'A w = tr(A w v').
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ttt_jax._internal import linalg
from ttt_jax.problem import NotApplicable

__all__ = ["MAX_TERMS", "Symbol", "Words", "expectation", "matrix", "trace", "vector", "wishart"]

MAX_TERMS = 100_000
"""An expectation of more terms than this, at any step of its compilation, is refused."""

Word = tuple[str, ...]
"""Letters of a product: "A", "A'" for a transpose, "v w" for the matrix v w'; "#S" alone is the number of rows of S."""


@dataclass(frozen=True)
class Symbol:
    """What a name stands for: a Wishart matrix with the letters of its covariance, a fixed matrix, or a vector."""

    kind: str  # "wishart", "symmetric", "matrix" or "vector"
    covariance: Word = ()


@dataclass(frozen=True, eq=False)
class Words:
    """A sum of products of symbols: a matrix, a column, a row or a number, with `+`, `-`, `*`, `@` and `.T`.

    Make them with `wishart`, `matrix` and `vector`; a number is `row @ ... @ column` or `trace(matrix)`.

    Args:
        terms: coefficients of the products, each of closed words (numbers) and one open word.
        indices: whether there is a free index on the left and on the right.
        symbols: what each name stands for.
    """

    terms: Mapping[tuple[tuple[Word, ...], Word], Any]
    indices: tuple[bool, bool]
    symbols: Mapping[str, Symbol]

    def __add__(self, other: Words) -> Words:
        if self.indices != other.indices:
            raise ValueError("a sum needs terms of one shape: two matrices, two columns, two rows or two numbers")
        total = Counter(dict(self.terms))
        for key, coefficient in other.terms.items():
            total[key] += coefficient
        return Words({key: c for key, c in total.items() if c}, self.indices, _merged(self, other))

    def __neg__(self) -> Words:
        return -1 * self

    def __sub__(self, other: Words) -> Words:
        return self + -other

    def __rmul__(self, number: Any) -> Words:
        return Words({key: number * c for key, c in self.terms.items()}, self.indices, self.symbols)

    def __mul__(self, other: Words) -> Words:
        if any(self.indices):
            raise ValueError("* is for numbers: write row @ column, or trace(matrix), on its left; @ for products")
        return self._product(other, other.indices, lambda left, right: right)

    def __matmul__(self, other: Words) -> Words:
        if not any(self.indices + other.indices) or self.indices[1] != other.indices[0]:
            raise ValueError("@ is for matrices, columns and rows whose shapes fit; * for numbers")

        def joined(left: Word, right: Word) -> Word:
            return left + right if self.indices[1] else (*left[:-1], f"{left[-1]} {right[0]}", *right[1:])

        return self._product(other, (self.indices[0], other.indices[1]), joined)

    def _product(self, other: Words, indices: tuple[bool, bool], join: Callable[[Word, Word], Word]) -> Words:
        total: Counter = Counter()
        for (left, word), c in self.terms.items():
            for (right, end), e in other.terms.items():
                closed, open_word = left + right, join(word, end)
                if not any(indices) and open_word:  # v'A w = tr(A w v')
                    v, *middle, w = open_word
                    closed, open_word = (*closed, (*middle, f"{w} {v}")), ()
                total[closed, open_word] += c * e
        return Words(total, indices, _merged(self, other))

    @property
    def T(self) -> Words:
        """The transpose."""
        flip = _flip(self.symbols)
        terms = {(closed, flip(word)): c for (closed, word), c in self.terms.items()}
        return Words(terms, self.indices[::-1], self.symbols)

    @property
    def order(self) -> int:
        """The largest number of Wishart matrices in one product."""
        wisharts = {name for name, symbol in self.symbols.items() if symbol.kind == "wishart"}
        return max((sum(letter in wisharts for word in key[0] for letter in word) for key in self.terms), default=0)

    def at(self, values: Mapping[str, Any], d: int | None = None) -> Any:
        """The number, given the rows of every Wishart matrix and the entries of every other symbol.

        Args:
            values: by name: the number of rows of a Wishart matrix; a vector (d,); a matrix, (), (d,) or (d, d).
            d: the size of the matrices; needed only where no array says it.

        Returns:
            A float, or, where `values` hold an int or a Fraction and no float (in arrays of type object), the exact
            number. The cost is that of the matrix products: O(d) each for diagonals, O(d^2) next to a vector.

        Raises:
            ValueError: for a product that still holds Wishart matrices, or a missing value.
        """
        indices, atoms, coefficients = self._compiled
        numbers = [*_evaluate(atoms, values, d), 1]
        kind = float if any(isinstance(number, float) for number in numbers) else object
        return (coefficients.astype(kind) * np.array(numbers, kind)[indices].prod(axis=1)).sum()

    @cached_property
    def _compiled(self) -> tuple[np.ndarray, list[Word], np.ndarray]:
        """Indices into the atoms, one row for each product and padded with that of 1; the atoms; the coefficients."""
        if any(self.indices) or self.order:
            raise ValueError("only an expectation has a value: take expectation(...) of a number first")
        atoms = sorted({word for closed, _ in self.terms for word in closed})
        number = {word: i for i, word in enumerate(atoms)}
        width = max((len(closed) for closed, _ in self.terms), default=0)
        rows = [[number[w] for w in closed] + [len(atoms)] * (width - len(closed)) for closed, _ in self.terms]
        indices = np.array(rows, dtype=int).reshape(len(self.terms), width)
        return indices, atoms, np.array(list(self.terms.values()), dtype=object)


def wishart(name: str, covariance: Words | None = None) -> Words:
    """The Wishart matrix S = X'X of rows x ~ N(0, V): V a symmetric `matrix`, by default the identity."""
    cover = () if covariance is None else _letters(covariance, "symmetric")
    symbols = {} if covariance is None else covariance.symbols
    return _symbol(name, Symbol("wishart", cover), (True, True), symbols)


def matrix(name: str, *, symmetric: bool = False) -> Words:
    """A fixed (d, d) matrix. Say that it is symmetric where it is: more terms are equal then."""
    return _symbol(name, Symbol("symmetric" if symmetric else "matrix"), (True, True))


def vector(name: str) -> Words:
    """A fixed (d,) vector, as a column."""
    return _symbol(name, Symbol("vector"), (True, False))


def trace(square: Words) -> Words:
    """The trace of a matrix."""
    if square.indices != (True, True):
        raise ValueError("trace needs a matrix")
    return Words(
        {((*closed, word), ()): c for (closed, word), c in square.terms.items()}, (False, False), square.symbols
    )


def expectation(number: Words) -> Words:
    """The exact expectation over all Wishart matrices in it, which are independent of one another.

    Args:
        number: a polynomial in traces and in products between vectors.

    Returns:
        A polynomial in the numbers of rows and in traces of fixed matrices; evaluate it with `Words.at`.

    Raises:
        NotApplicable: if it has more than `MAX_TERMS` terms at any step, naming its order.

    Example:
        >>> S, A, b = wishart("S"), matrix("A", symmetric=True), vector("b")
        >>> third = expectation(trace(S @ S @ S))
        >>> third.at({"S": 4}, d=3)                       # k d (k^2 + 3 k (d + 1) + d^2 + 3 d + 4) at k = 4, d = 3
        1032
        >>> moment = expectation((b.T @ S @ A @ S @ b) * trace(S))
        >>> float(moment.at({"S": 5, "A": np.array([1.0, 0.5]), "b": np.array([0.6, 0.8])}))
        390.6

    Reference: Letac and Massam, "All invariant moments of the Wishart distribution", Scand. J. Stat. 31 (2004); the
    recursion is Stein's lemma.
    """
    if any(number.indices):
        raise ValueError("expectation needs a number: row @ column, or trace(matrix)")
    algebra = _Algebra(number.symbols)
    levels: dict[int, Counter] = defaultdict(Counter)
    for (closed, _), coefficient in number.terms.items():
        words = algebra.normal(closed)
        levels[algebra.order(words)][words] += coefficient
    for order in range(max(levels, default=0), 0, -1):
        for words, coefficient in levels.pop(order, {}).items():
            for fewer, factor in algebra.without_one(words):
                levels[order - 1][fewer] += factor * coefficient
            if len(levels[order - 1]) > MAX_TERMS:
                raise NotApplicable(f"an expectation of order {number.order} has more than {MAX_TERMS:,} terms here")
    fixed: dict[tuple[tuple[Word, ...], Word], Any] = {(words, ()): c for words, c in levels[0].items() if c}
    return Words(fixed, (False, False), number.symbols)


class _Algebra:
    """Products of traces in a normal form, and Stein's lemma on them."""

    def __init__(self, symbols: Mapping[str, Symbol]):
        self.flip = lru_cache(None)(_flip(symbols))
        self.pieces = lru_cache(None)(self._pieces)
        self.wisharts = {name: symbol.covariance for name, symbol in symbols.items() if symbol.kind == "wishart"}

    def order(self, words: tuple[Word, ...]) -> int:
        return sum(letter in self.wisharts for word in words for letter in word)

    def normal(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """Sorted; each cut at its rank-one letters, turned and flipped to its smallest form."""
        return tuple(sorted(piece for word in words for piece in self.pieces(word)))

    def _pieces(self, word: Word) -> tuple[Word, ...]:
        cuts = [i for i, letter in enumerate(word) if " " in letter]
        if len(cuts) > 1:  # tr(A w v' B z y') = (v'B z) (y'A w)
            word = word[cuts[-1] + 1 :] + word[: cuts[-1] + 1]
            first = word[-1].split(" ")[1]
            pieces: list[Word] = []
            for part in _split(word):
                *middle, last = part
                w, v = last.split(" ")
                pieces += self.pieces((*middle, f"{w} {first}"))
                first = v
            return tuple(pieces)
        turned = (w[i:] + w[:i] for w in (word, self.flip(word)) for i in range(max(len(w), 1)))
        return (min(turned),)

    def without_one(self, words: tuple[Word, ...]) -> Iterator[tuple[tuple[Word, ...], int]]:
        """E of the product as a sum of products with one Wishart letter less, and their factors."""
        at = next(i for i, word in enumerate(words) if any(letter in self.wisharts for letter in word))
        word, others = words[at], words[:at] + words[at + 1 :]
        start = next(i for i, letter in enumerate(word) if letter in self.wisharts)
        s, a = word[start], word[start + 1 :] + word[:start]
        v, flip = self.wisharts[s], self.flip
        yield self.normal(((f"#{s}",), v + a, *others)), 1
        for i, letter in enumerate(a):
            if letter == s:
                inner, outer = a[:i], a[i + 1 :]
                yield self.normal(((s, *outer, *v, *flip(inner)), *others)), 1
                yield self.normal((outer + v, (*inner, s), *others)), 1
        for other, count in Counter(others).items():
            rest = list(others)
            rest.remove(other)
            for i, letter in enumerate(other):
                if letter == s:
                    b = other[i + 1 :] + other[:i]
                    for turned in (b, flip(b)):
                        yield self.normal(((s, *a, *v, *turned), *rest)), count


def _flip(symbols: Mapping[str, Symbol]) -> Callable[[Word], Word]:
    """The transpose of a product."""

    def transposed(letter: str) -> str:
        if " " in letter:
            return " ".join(reversed(letter.split(" ")))
        if letter.endswith("'"):
            return letter[:-1]
        return letter + "'" if letter in symbols and symbols[letter].kind == "matrix" else letter

    return lambda word: tuple(transposed(letter) for letter in reversed(word))


def _split(word: Word) -> Iterator[Word]:
    """The parts of a word that ends in a rank-one letter, each of which ends in one."""
    start = 0
    for i, letter in enumerate(word, start=1):
        if " " in letter:
            yield word[start:i]
            start = i


def _symbol(name: str, symbol: Symbol, indices: tuple[bool, bool], others: Mapping[str, Symbol] | None = None) -> Words:
    if not name.isidentifier():
        raise ValueError(f"name must be an identifier such as 'S', got {name!r}")
    return Words({((), (name,)): 1}, indices, {**(others or {}), name: symbol})


def _letters(given: Words, kind: str) -> Word:
    names = [name for name, symbol in given.symbols.items() if symbol.kind == kind]
    if len(given.symbols) != 1 or len(names) != 1 or list(given.terms.items()) != [(((), (names[0],)), 1)]:
        raise ValueError("covariance must be one symmetric matrix, matrix(name, symmetric=True)")
    return (names[0],)


def _merged(one: Words, other: Words) -> dict[str, Symbol]:
    for name in one.symbols.keys() & other.symbols.keys():
        if one.symbols[name] != other.symbols[name]:
            raise ValueError(f"name {name!r} stands for two things")
    return {**one.symbols, **other.symbols}


def _evaluate(atoms: list[Word], values: Mapping[str, Any], d: int | None) -> list[Any]:
    """The numbers that words of fixed letters stand for."""
    names = {part.rstrip("'").lstrip("#") for word in atoms for letter in word for part in letter.split(" ")}
    if missing := sorted(names - values.keys()):
        raise ValueError(f"values must hold {missing[0]}")
    arrays = {name: np.asarray(value) for name, value in values.items() if name in names}
    arrays |= {name: array.astype(object) for name, array in arrays.items() if array.dtype.kind in "iu"}  # no overflow
    d = next((len(array) for array in arrays.values() if array.ndim), d)

    def array(letter: str) -> np.ndarray:
        return arrays[letter[:-1]].T if letter.endswith("'") else arrays[letter]

    @lru_cache(1000)
    def product(word: Word) -> np.ndarray:
        half = len(word) // 2
        return _times(product(word[:half]), product(word[half:])) if half else array(word[0])

    @lru_cache(1000)
    def column(word: Word) -> np.ndarray:
        """A ... w for a word ("A", ..., "w")."""
        return linalg.apply(array(word[0]), column(word[1:])) if word[1:] else array(word[0])

    def value(word: Word) -> Any:
        for i, letter in enumerate(word):
            if " " in letter:
                w, v = letter.split(" ")
                return arrays[v] @ column((*word[i + 1 :], *word[:i], w))
            if letter.startswith("#"):
                return values[letter[1:]]
        if len(word) > 1:
            left, right = product(word[: len(word) // 2]), product(word[len(word) // 2 :])
            if left.ndim == right.ndim == 2:
                return (left * right.T).sum()  # tr(P Q), without P Q
        whole = product(word) if word else np.asarray(1, object)
        return np.trace(whole) if whole.ndim == 2 else whole.sum() if whole.ndim else whole[()] * _size(d)

    return [value(word) for word in atoms]


def _size(d: int | None) -> int:
    if d is None:
        raise ValueError("d must be given where no array says it")
    return d


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of two matrices, each a scalar (), a diagonal (d,) or dense."""
    if a.ndim == b.ndim == 2:
        return a @ b
    return np.asarray(a[:, None] * b if a.ndim == 1 and b.ndim == 2 else a * b)
