"""The risk of one TTT step as a symbolic polynomial in n, k, the multiplicities, spectra, task and noise.

For diagonal Sx and W with repeated entries the summary u of a context enters only through its component along the task
in every group, u_j, and the squared length of the rest, rho_j. Given t ~ chi2(n) the u_j are jointly Gaussian with mean
t p and covariance t (tau Sx - p p'), and rho_j is t tau s_j times a chi-squared variable: the law identity, which
`claims.law_identity` proves. Every expectation below is then exact algebra.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from math import prod

import sympy as sp
from sympy.polys.rings import ring

from proofs_check.oracle import Group


def chi2_moment(degrees, power: int):
    """E t^power for t ~ chi2(degrees) = degrees (degrees+2) ... (degrees+2 power-2)."""
    return prod((degrees + 2 * i for i in range(power)), start=sp.Integer(1))


def risk_coefficients(groups: Sequence[Group], noise_var, n, k, evaluation: str = "fresh") -> tuple[sp.Expr, ...]:
    """(c0, c1, c2) of risk(lr) = c0 - c1 lr + c2 lr^2, expanded in whatever symbols the arguments are made of.

    Example:
        >>> n, k, d = sp.symbols("n k d")
        >>> _, c1, c2 = risk_coefficients([Group(d, 1, 0, 1)], 0, n, k)
        >>> sp.factor(c1), sp.factor(c1 / c2)
        (4*k*n**2, 1/((d + k + 1)*(d + n**2 + 4*n + 3)))
    """
    arguments = [sp.sympify(value) for group in groups for value in group] + [sp.sympify(x) for x in (noise_var, n, k)]
    symbols = sorted(set().union(*(value.free_symbols for value in arguments)), key=str) or [sp.Dummy("unused")]
    domain = sp.QQ[tuple(symbols)] if all(value.is_polynomial() for value in arguments) else sp.QQ.frac_field(*symbols)
    *flat, s2, n, k = (domain.from_sympy(value) for value in arguments)
    size, s, w, b = (flat[i::4] for i in range(4))
    m = len(groups)
    p = [s[j] * b[j] for j in range(m)]
    tau = sum((s[j] * b[j] ** 2 for j in range(m)), domain.zero) + s2
    _, *variables = ring([f"u{j}" for j in range(m)] + [f"rho{j}" for j in range(m)], domain)
    u, rho = variables[:m], variables[m:]

    @lru_cache(None)
    def component_moment(powers: tuple[int, ...]) -> dict:
        """E[prod u_j^powers_j | t] as {power of t: coefficient}, by E[u_i f] = E[u_i] E f + sum_j Cov_ij E d_j f."""
        if not any(powers):
            return {0: domain.one}
        i = next(j for j in range(m) if powers[j])
        rest = tuple(a - (j == i) for j, a in enumerate(powers))
        total: dict = {}
        for j in (None, *range(m)):
            if j is None:
                factor, lower = p[i], rest
            elif rest[j]:
                factor = rest[j] * ((tau * s[i] if i == j else 0) - p[i] * p[j])
                lower = tuple(a - (l == j) for l, a in enumerate(rest))
            else:
                continue
            for power, c in component_moment(lower).items():
                total[power + 1] = total.get(power + 1, domain.zero) + factor * c
        return total

    @lru_cache(None)
    def moment(exponents: tuple[int, ...]):
        lengths = exponents[m:]
        rest = prod((rising(size[j] - 1, a) * (tau * s[j]) ** a for j, a in enumerate(lengths)), start=domain.one)
        terms = component_moment(exponents[:m]).items()
        return rest * sum((c * rising(n, power + sum(lengths)) for power, c in terms), domain.zero)

    def rising(degrees, power):
        return prod((degrees + 2 * i for i in range(power)), start=domain.one)

    def expect(polynomial):
        return sum((c * moment(a) for a, c in polynomial.terms()), domain.zero)

    residual = [-u[j] * w[j] + b[j] for j in range(m)]  # polynomials stay on the left of their coefficients

    def norm(scale):  # r'Sr for the diagonal S = scale
        return sum((residual[j] ** 2 + rho[j] * w[j] ** 2) * scale[j] for j in range(m))

    square = sum((size[j] * s[j] ** 2 for j in range(m)), domain.zero)  # tr Sx^2
    q = [k * (k + 1) * s[j] ** 3 + k * square * s[j] for j in range(m)]
    training = norm(q) + s2 * k * square
    pairs = list(itertools.product(range(m), repeat=2))
    c0 = s2 + expect(norm(s))
    if evaluation == "fresh":
        beyond = [tau * n * s[j] for j in range(m)]  # E uu' on the coordinates that the task does not touch
        core = sum(expect(u[i] * residual[j]) ** 2 * s[j] ** 2 for i, j in pairs)
        c1 = core + sum((size[j] - 1) * (w[j] * s[j] * beyond[j]) ** 2 for j in range(m))
        overlap = sum(u[i] * u[j] * expect(u[i] * u[j]) for i, j in pairs) + sum(rho[j] * beyond[j] for j in range(m))
    else:
        length = sum(u[j] ** 2 + rho[j] for j in range(m))
        c1 = expect(length * norm([x**2 for x in s]))
        overlap = length**2
    return tuple(domain.to_sympy(c) for c in (c0, 4 * k * c1, 4 * expect(overlap * training)))


def leading(expression: sp.Expr, size: sp.Symbol) -> sp.Expr:
    """The limit of a rational expression as size -> infinity, read off its leading terms.

    Example:
        >>> d = sp.Symbol("d")
        >>> leading((2 * d**2 + 1) / (3 * d**2 + d), d)
        2/3
    """
    term = leading_term(expression, size)
    order = sp.degree(sp.numer(term), size) - sp.degree(sp.denom(term), size)
    return sp.oo if order > 0 else sp.cancel(term) if order == 0 else sp.Integer(0)


def leading_term(expression: sp.Expr, size: sp.Symbol) -> sp.Expr:
    """The term of highest order of a rational expression as size -> infinity; that of a quotient is their quotient.

    Example:
        >>> d = sp.Symbol("d")
        >>> leading_term((2 * d**3 + 1) / (3 * d**2 + d), d)
        2*d/3
    """
    parts = [sp.Poly(part, size) for part in sp.fraction(sp.cancel(expression))]
    numerator, denominator = (part.LC() * size ** max(part.degree(), 0) for part in parts)
    return numerator / denominator
