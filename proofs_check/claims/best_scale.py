"""The best start c W on the line through the cold and the warm one, exact.

c0, c1 and c2 are quadratic in c, and the risk c0 - c1^2/(4 c2) after the best step is stationary where
4 c0' c2^2 - 2 c1 c1' c2 + c1^2 c2' = 0.
"""

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check.claim import Claim, both
from proofs_check.claims import exact_risk
from proofs_check.evidence import symbolic
from proofs_check.evidence.equality import FLOAT64, identities, same_numbers
from proofs_check.evidence.simulation import Given, judge, simulate_best
from proofs_check.setting import isotropic
from ttt_jax.theory.decisions import best_scale

C = sp.Symbol("c")


def formula(c, c0, c1, c2):
    """4 c2^2 times the slope of the risk in the scale."""
    return c[0] * sp.diff(c0, C) * c2**2 - c[1] * c1 * sp.diff(c1, C) * c2 + c[2] * c1**2 * sp.diff(c2, C)


def prove(c):
    """For any three functions; and the three are quadratic for isotropic problems, n, k, d, B, s2 and w symbols."""
    functions = [sp.Function(name)(C) for name in ("c0", "c1", "c2")]
    derivatives = {sp.diff(f, C): sp.Symbol(f"{f.func}_slope") for f in functions}
    values = {f: sp.Symbol(str(f.func)) for f in functions}
    c0, c1, c2 = functions
    claimed, derived = (
        sp.expand(x).subs(derivatives).subs(values)
        for x in (formula(c, *functions), 4 * c2**2 * sp.diff(c0 - c1**2 / (4 * c2), C))
    )
    n, k, d, task, s2, w = sp.symbols("n k d beta s2 w", positive=True)
    parts = {"slope": (claimed, derived)}
    for evaluation in ("fresh", "same"):
        found = symbolic.risk_coefficients(isotropic(n, k, d, task, s2, C * w, evaluation))
        parts |= {f"{evaluation} c{i}, third derivative": (sp.diff(f, C, 3), 0) for i, f in enumerate(found)}
    return identities(parts)


def quadratics(case, evaluation):
    """c0, c1 and c2 in c, through the oracle's values at c = -1, 0 and 1."""
    scaled = [case._replace(w=case.w * QQ(c)) for c in (-1, 0, 1)]
    values = [[QQ.to_sympy(x) for x in exact_risk.of_oracle(one, evaluation)] for one in scaled]
    return [sp.interpolate(list(zip((-1, 0, 1), one, strict=True)), C) for one in zip(*values, strict=True)]


def independent(c):
    """The oracle at c = 2 too, and the slope at the optimum of the package, which it calls a minimum."""
    rational, package, at = [], [], sp.Rational(3, 5)
    for evaluation in ("fresh", "same"):
        case = exact_risk.LONG[0]
        c0, c1, c2 = quadratics(case, evaluation)
        twice = exact_risk.of_oracle(case._replace(w=case.w * QQ(2)), evaluation)
        rational += [(f.subs(C, 2), QQ.to_sympy(x)) for f, x in zip((c0, c1, c2), twice, strict=True)]
        risk = c0 - c1**2 / (4 * c2)
        rational.append((formula(c, c0, c1, c2).subs(C, at), (4 * c2**2 * sp.diff(risk, C)).subs(C, at)))
        problem, weights, _ = exact_risk.in_floats(case, evaluation)
        found = best_scale(problem, weights)
        roots = [root.real for root in np.roots([float(x) for x in sp.Poly(formula(c, c0, c1, c2), C).all_coeffs()])]
        best = min(roots, key=lambda x: float(risk.subs(C, x)))
        package += [(found.scale, best), (found.risk, risk.subs(C, best))]
    return both(same_numbers(rational), same_numbers(package, tolerance=1e4 * FLOAT64))


def empirical(c, effort):
    """The risk after the best step from the best start."""
    compared = []
    for i, case in enumerate(exact_risk.LONG):
        problem, weights, _ = exact_risk.in_floats(case)
        c0, c1, c2 = quadratics(case, "fresh")
        scale = best_scale(problem, weights).scale
        claimed = (c0 - c1**2 / (4 * c2)).subs(C, scale)
        found = simulate_best(Given(problem, scale * weights), effort.num_small // 8, effort.seed + i)
        compared.append(found.compare("risk", claimed))
    return judge([compared])


CLAIM = Claim("The best scale of a start", "this project", (4, 2, 1), prove, independent, empirical)
