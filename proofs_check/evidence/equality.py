"""What exact values show: equal expressions, equal numbers, errors that fall like 1/d."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import sympy as sp

from proofs_check.claim import Verdict
from ttt_jax._internal.plural import counted

FLOAT64 = 1e-11
"""Relative error allowed to a float64 evaluation of an exact number: a few hundred roundings."""


def identities(pairs: Mapping[str, tuple]) -> Verdict:
    """Each pair of expressions is the same rational function with rational coefficients."""
    for name, (claimed, derived) in pairs.items():
        if not _is_zero(sp.sympify(claimed) - derived):
            return Verdict(False, f"{name} differs")
    return Verdict(True, f"identity: {', '.join(pairs)}")


def _is_zero(difference: sp.Expr) -> bool:
    """By arithmetic in the field of rational functions: a hundred times faster than `sp.cancel`, which expands."""
    try:
        return sp.QQ.frac_field(*difference.free_symbols).from_sympy(difference) == 0
    except ValueError:  # a root that is in one expression alone
        return False


def same_numbers(pairs: Iterable[tuple], *, tolerance: float = 0) -> Verdict:
    """Each pair of numbers is equal, exactly or to a relative tolerance; a third entry says what they are."""
    pairs = [(*map(sp.sympify, pair[:2]), *pair[2:]) for pair in pairs]
    errors = [abs(claimed / exact - 1) if exact != 0 else abs(claimed) for claimed, exact, *_ in pairs]
    worst = max(errors)
    if worst > tolerance:
        claimed, exact, *where = pairs[errors.index(worst)]
        return Verdict(False, f"{float(claimed):.6g} for {float(exact):.6g}{''.join(f' ({what})' for what in where)}")
    how = "rational equality" if not tolerance else f"largest relative error {float(worst):.0e}"
    return Verdict(True, f"{how}, {counted(len(errors), 'number')}")


def falls_like_1_over_d(sizes: Sequence[int], errors: Sequence[float], name: str = "d") -> Verdict:
    """The error times d, or a size of another name, stays bounded: at the last two it falls faster than d^(-1/2)."""
    before, last = (abs(float(error)) for error in errors[-2:])
    if last < FLOAT64:
        return Verdict(True, "error 0")
    rate = math.log(last / before) / math.log(sizes[-1] / sizes[-2])
    scaled = ", ".join(f"{abs(float(e)) * d:.3g}" for e, d in zip(errors, sizes, strict=True))
    return Verdict(rate <= -0.5, f"error x {name} = {scaled} at {name} = {', '.join(map(str, sizes))}")
