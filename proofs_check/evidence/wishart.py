"""Moments of the eigenvalues of S = X'X, X a standard Gaussian matrix: exact ones by enumeration, and their limits.

On purpose nothing of `ttt_jax.theory`, which has the same moments by closed walks and by Stein's lemma.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import sympy as sp


def narayana_moment(j: int, g):
    """int m^j of Marchenko and Pastur's law: sum_i Narayana(j, i) g^i."""
    return sum(sp.binomial(j, i) * sp.binomial(j, i - 1) * g**i for i in range(1, j + 1)) / sp.Integer(j) if j else 1


def pairings(items: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """All ways to pair the items."""
    if not items:
        yield []
        return
    first, *rest = items
    for i, partner in enumerate(rest):
        for others in pairings(rest[:i] + rest[i + 1 :]):
            yield [(first, partner), *others]


@lru_cache(None)
def wishart_moment(j: int) -> sp.Expr:
    """E tr(S^j)/d for S = X'X, X a (k, d) standard Gaussian matrix: Wick pairings of its 2 j entries, exact in k, d.

    tr S^j = sum of x(r1, a1) x(r1, a2) x(r2, a2) x(r2, a3) ... x(rj, aj) x(rj, a1). A pairing identifies the row and
    the column of both entries; each class of rows is a factor k, each class of columns a factor d.
    """
    k, d = sp.symbols("k d")
    if j == 0:
        return sp.Integer(1)
    rows = [i // 2 for i in range(2 * j)]
    columns = [(i + 1) // 2 % j for i in range(2 * j)]
    total: dict[tuple[int, int], int] = {}
    for pairing in pairings(list(range(2 * j))):
        r, c = (_classes(j, [(label[a], label[b]) for a, b in pairing]) for label in (rows, columns))
        total[r, c] = total.get((r, c), 0) + 1
    return sp.expand(sum(count * k**r * d ** (c - 1) for (r, c), count in total.items()))


@lru_cache(None)
def form_moment(powers: tuple[int, ...]) -> sp.Expr:
    """E of the product of r'S^j r over j in powers, for S = X'X and a unit vector r: Wick pairings, exact in k, d.

    r'S^j r = sum of x(r1, 1) x(r1, a1) x(r2, a1) ... x(rj, a(j-1)) x(rj, 1): the columns at both ends are that of r.
    """
    k, d = sp.symbols("k d")
    rows, columns, free = [], [], 1
    for j in powers:
        inner = list(range(free, free + j - 1))
        columns += [column for ends in zip([0, *inner], [*inner, 0], strict=True) for column in ends]
        free += j - 1
    rows = [i // 2 for i in range(len(columns))]
    total = sp.Integer(0)
    for pairing in pairings(list(range(len(columns)))):
        r, c = (
            _classes(size, [(label[a], label[b]) for a, b in pairing])
            for size, label in ((len(columns) // 2, rows), (free, columns))
        )
        total += k**r * d ** (c - 1)
    return sp.expand(total)


def _classes(size: int, equal: list[tuple[int, int]]) -> int:
    """The number of classes of 0, ..., size - 1 once these pairs are set equal."""
    label = list(range(size))
    for a, b in equal:
        old, new = label[a], label[b]
        label = [new if x == old else x for x in label]
    return len(set(label))
