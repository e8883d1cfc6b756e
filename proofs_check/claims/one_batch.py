"""Several steps on one batch and context, Sx = I, new context at evaluation, approximate.

risk = s2 + (A + S) - 2 kappa A int psi + kappa^2 [(A + S) int psi^2 + s2 int psi^2/m] over Marchenko and Pastur's law,
psi = 1 - prod_j (1 - theta_j m), theta_j = 2 lr_j d |u|^2, A = |b - nWb|^2, S = n tau |W|_F^2, kappa = nB/(nB + d tau).
"""

from functools import lru_cache, reduce

import sympy as sp

from proofs_check.claim import Claim, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, falls_like_1_over_d, identities, same_numbers
from proofs_check.evidence.simulation import Comparison, judge, simulate_steps
from proofs_check.evidence.wishart import narayana_moment, wishart_moment
from proofs_check.kinds.leading import ORACLE_SIZES
from proofs_check.setting import isotropic
from ttt_jax.theory.several_steps import one_batch_risk
from ttt_jax.verdict.infinity import value_at_infinity

THETA = sp.Rational(3, 10), sp.Rational(1, 5), sp.Rational(1, 10)
NOISE_VAR = sp.Rational(1, 4)


def polynomials(theta):
    m = sp.Symbol("m")
    phi = sp.Poly(reduce(lambda product, value: product * (1 - value * m), theta, sp.Integer(1)), m)
    return phi, 1 - phi


def integral(polynomial, moment, shift=0):
    """int polynomial / m^shift, given the moments of m; sympy keeps the coefficients exact."""
    return sum(c * moment(power - shift) for (power,), c in polynomial.terms() if c)


def formula(c, n, k, d, norm2, weight, s2, theta, evaluation, moment=None):
    """The risk for W = weight I; moments of Marchenko and Pastur's law unless others are given."""
    moment = moment or (lambda j: narayana_moment(j, sp.sympify(k) / d))
    phi, psi = polynomials([c[0] * value for value in theta])
    tau = norm2 + c[1] * s2
    misfit = norm2 * (1 - c[2] * n * weight) ** 2
    start = misfit + c[3] * n * d * tau * weight**2
    noise = c[4] * s2 * integral(psi**2, moment, 1)
    if evaluation == "same":
        return s2 + c[5] * start * integral(phi**2, moment) + noise
    kappa = n * norm2 / (n * norm2 + c[5] * d * tau)
    gain = c[6] * kappa * misfit * integral(psi, moment)
    return s2 + start - gain + c[7] * kappa**2 * (start * integral(psi**2, moment) + noise)


def scaled(d, evaluation):
    return isotropic(d, d, d, weight=sp.Rational(1, 2 * d), noise_var=NOISE_VAR, evaluation=evaluation)


def claimed(c, setting, theta):
    (group,) = setting.groups
    return formula(
        c, setting.n, setting.k, setting.d, setting.norm2, group.weight, setting.noise_var, theta, setting.evaluation
    )


def unit(n, d, norm2, s2):
    """d |u|^2 to leading order."""
    return d * (n**2 * norm2 + n * d * (norm2 + s2))


def claim_for(evaluation, coefficients):
    a, g, w, s2, theta = sp.symbols("a g w s2 theta", positive=True)
    d = sp.Symbol("d")
    symbols = isotropic(a * d, g * d, d, weight=w / d, noise_var=s2, evaluation=evaluation)

    @lru_cache(None)
    def limit():
        c0, c1, c2 = symbolic.risk_coefficients(symbols)
        lr = theta / (2 * unit(a * d, d, 1, s2))
        return symbolic.leading(c0 - c1 * lr + c2 * lr**2, d)

    def prove(c):
        """T = 1 is the limit of the exact parabola; more steps are polynomials of the same matrix S/d."""
        return identities({"limit of one step": (claimed(c, symbols, [theta]), limit())})

    def independent(c):
        """One step by the oracle; for two, the moments of S/d by Wick pairings at finite size."""

        def one_step(d):
            setting = scaled(d, evaluation)
            c0, c1, c2 = oracle.parabola(setting)
            lr = THETA[0] / (2 * unit(d, d, 1, NOISE_VAR))
            return claimed(c, setting, THETA[:1]) / (c0 - c1 * lr + c2 * lr**2) - 1

        def two_steps(d):
            values = dict.fromkeys(sp.symbols("k d"), d)
            options = [d, d, d, sp.Integer(1), sp.Rational(1, 2 * d), NOISE_VAR, THETA[:2], evaluation]
            exact = formula(
                coefficients, *options, moment=lambda j: wishart_moment(j).subs(values) / sp.Integer(d) ** j
            )
            return formula(c, *options) / exact - 1

        problem, weights = scaled(40, evaluation).problem(), 1 / 80
        lr = [float(value / (2 * unit(40, 40, 1, NOISE_VAR))) for value in THETA]
        package = one_batch_risk(problem, weights, lr)[-1]
        return both(
            falls_like_1_over_d(ORACLE_SIZES, [one_step(d) for d in ORACLE_SIZES]),
            falls_like_1_over_d(ORACLE_SIZES, [two_steps(d) for d in ORACLE_SIZES]),
            same_numbers([(package, claimed(coefficients, scaled(40, evaluation), THETA))], tolerance=FLOAT64),
        )

    def empirical(c, effort):
        """The simulated risks themselves are extrapolated."""
        settings = [scaled(d, evaluation) for d in effort.sizes]
        lr = [tuple(float(t / (2 * unit(d, d, 1, NOISE_VAR))) for t in THETA) for d in effort.sizes]
        found = [
            simulate_steps(setting, steps, False, effort.num_large // 4, effort.seed + i)
            for i, (setting, steps) in enumerate(zip(settings, lr, strict=True))
        ]
        limit = value_at_infinity(effort.sizes, [f.mean[-1] for f in found], [f.stderr[-1] for f in found])
        return judge([[Comparison(float(claimed(c, settings[0], THETA)), *limit)]])

    return Claim(
        f"Several steps, one batch, {evaluation} context", "this project", coefficients, prove, independent, empirical
    )


CLAIM = claim_for("fresh", (1, 1, 1, 1, 1, 1, 2, 1))
"""Of theta; of s2 in tau; of n W in A; of S; of the noise; of d tau in kappa; of the cross term; of kappa^2."""
