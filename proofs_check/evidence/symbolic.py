"""The risk of one TTT step as a symbolic polynomial in n, k, the multiplicities, spectra, task and noise.

For diagonal Sx and W with repeated entries the summary u of a context enters only through its component along the task
in every group, u_j, and the squared length of the rest, rho_j. Given t ~ chi2(n) the u_j are jointly Gaussian with mean
t p and covariance t (tau Sx - p p'), and rho_j is t tau s_j times a chi-squared variable: the law identity, which
`claims.law_identity` proves. Every expectation below is then exact algebra.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from math import prod

import sympy as sp
from sympy.polys.rings import ring

from proofs_check.setting import Group, Setting, of_parabola


def chi2_moment(degrees, power: int):
    """E t^power for t ~ chi2(degrees) = degrees (degrees+2) ... (degrees+2 power-2)."""
    return prod((degrees + 2 * i for i in range(power)), start=sp.Integer(1))


@lru_cache(None)
def risk_coefficients(setting: Setting) -> tuple[sp.Expr, ...]:
    """(c0, c1, c2) of risk(lr) = c0 - c1 lr + c2 lr^2, expanded in whatever symbols the setting is made of.

    Example:
        >>> n, k, d = sp.symbols("n k d")
        >>> _, c1, c2 = risk_coefficients(Setting(n, k, (Group(d, 1, 0, 1),)))
        >>> sp.factor(c1), sp.factor(c1 / c2)
        (4*k*n**2, 1/((d + k + 1)*(d + n**2 + 4*n + 3)))
    """
    law, m = setting.at_inference(), len(setting.groups)
    groups = [group.filled() for group in setting.groups]
    numbers = [setting.noise_var, setting.n, setting.k, *law]
    arguments = [sp.sympify(value) for value in [*itertools.chain(*groups), *numbers]]
    symbols = sorted(set().union(*(value.free_symbols for value in arguments)), key=str) or [sp.Dummy("unused")]
    domain = sp.QQ[tuple(symbols)] if all(value.is_polynomial() for value in arguments) else sp.QQ.frac_field(*symbols)
    *flat, s2, n, k, n_e, s2_e, s2_q, scale = (domain.from_sympy(value) for value in arguments)
    size, s, w, b, left, right, s_e, s_q = (flat[i :: len(Group._fields)] for i in range(len(Group._fields)))
    p, p_e = ([v[j] * b[j] for j in range(m)] for v in (s, s_e))
    tau = sum((p[j] * b[j] for j in range(m)), domain.zero) + s2
    tau_e = sum((p_e[j] * b[j] for j in range(m)), domain.zero) + s2_e
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

    def norm(matrix):  # r'Sr for the diagonal S = matrix
        return sum((residual[j] ** 2 + rho[j] * w[j] ** 2) * matrix[j] for j in range(m))

    pull = [s[j] * left[j] * s_q[j] for j in range(m)]  # Sx L'Sq
    a = [left[j] ** 2 * s_q[j] for j in range(m)]  # L'Sq L
    square = sum((size[j] * s[j] * a[j] for j in range(m)), domain.zero)  # tr Sx L'Sq L
    q = [k * (k + 1) * s[j] ** 2 * a[j] + k * square * s[j] for j in range(m)]
    training = norm(q) + s2 * k * square
    pairs = list(itertools.product(range(m), repeat=2))
    if setting.evaluation == "fresh":
        w_e = [scale * w[j] for j in range(m)]
        c0 = s2_q + _squared_error(n_e, tau_e, size, s_e, s_q, w_e, b)
        slope = domain.zero
        for i, j in pairs:
            cross = expect(u[i] * residual[j])
            cross_e = n_e * p_e[i] * b[j] - _second(n_e, tau_e, s_e, p_e, i, j) * w_e[j]
            slope += right[i] * pull[j] * cross * cross_e
        beyond, beyond_e = ([rows * t * v[j] for j in range(m)] for rows, t, v in ((n, tau, s), (n_e, tau_e, s_e)))
        for j in range(m):  # coordinates that the task does not touch
            slope += (size[j] - 1) * right[j] * pull[j] * w[j] * beyond[j] * w_e[j] * beyond_e[j]
        c1 = scale * slope
        overlap = sum(u[i] * u[j] * (right[i] * right[j] * _second(n_e, tau_e, s_e, p_e, i, j)) for i, j in pairs)
        overlap = (overlap + sum(rho[j] * (right[j] ** 2 * beyond_e[j]) for j in range(m))) * scale**2
    else:
        c0 = s2_q + expect(norm(s_q))
        length = sum((u[j] ** 2 + rho[j]) * right[j] for j in range(m))
        c1 = expect(length * norm(pull))
        overlap = length**2
    return tuple(domain.to_sympy(c) for c in (c0, 4 * k * c1, 4 * expect(overlap * training)))


def _second(rows, tau, s, p, i, j):
    """E u_i u_j of a context along the task, by the moments of two rows or one."""
    return rows * (rows + 1) * p[i] * p[j] + (rows * tau * s[i] if i == j else 0)


def _squared_error(rows, tau, size, s, s_q, w, b):
    """E (b - W u)'Sq (b - W u) of a context: along the task, and in the other coordinates of the groups."""
    p = [x * y for x, y in zip(s, b, strict=True)]
    total = sum(
        s_q[j] * (b[j] ** 2 - 2 * b[j] * w[j] * rows * p[j] + w[j] ** 2 * _second(rows, tau, s, p, j, j))
        for j in range(len(b))
    )
    return total + sum((size[j] - 1) * s_q[j] * w[j] ** 2 * rows * tau * s[j] for j in range(len(b)))


def initial_risk(setting: Setting) -> sp.Expr:
    """c0 alone, of a new context, as an expression that is not expanded: no symbol is too many.

    Example:
        >>> n, d, w = sp.symbols("n d w")
        >>> sp.expand(initial_risk(Setting(n, 1, (Group(d, 1, w, 1),))))
        d*n*w**2 + n**2*w**2 + n*w**2 - 2*n*w + 1
    """
    law, groups = setting.at_inference(), [group.filled() for group in setting.groups]
    size, w, b, s, s_q = (
        [getattr(group, field) for group in groups] for field in ("multiplicity", "weight", "task", "context", "query")
    )
    tau = sum(x * y**2 for x, y in zip(s, b, strict=True)) + law.noise_var
    error = _squared_error(law.n, tau, size, s, s_q, [law.scale * x for x in w], b)
    return sp.sympify(law.query_noise_var + error)


@lru_cache(None)
def quantities(setting: Setting) -> dict[str, sp.Expr]:
    return of_parabola(*risk_coefficients(setting))


@lru_cache(None)
def leading_quantities(setting: Setting) -> dict[str, sp.Expr]:
    """Their terms of highest order in d."""
    return of_parabola(*(leading_term(c, sp.Symbol("d")) for c in risk_coefficients(setting)))


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
    others = expression.free_symbols - {size}
    field = sp.QQ.frac_field(size, *others)
    value = field.from_sympy(expression)

    def top(polynomial):
        highest = polynomial.degree(0)
        return polynomial.ring.from_dict({e: c for e, c in polynomial.items() if e[0] == highest})

    return field.to_sympy(field.field.new(top(value.numer), top(value.denom)))
