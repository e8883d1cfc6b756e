"""A step from weights trained on N = theta d^2 prompts, Sx = I, ridge l, leading order: R, A and all that follows.

q = a B/(a B + tau), s = tau - q B, rho^2 - (1 + theta + l) rho + theta = 0, R = [(1-rho)^2 q B + s]/(1 - rho^2/theta),
A = B (1 - rho q)^2 + q [R - s - (1 - rho)^2 q B], D = k (R - s2) + d R. Fresh: gain k A^2/D at lr* = A/(2 n^2 B D).
Same: gain k (R - s2)^2/D at lr* = (R - s2)/[2 (n^2 B + n d tau) D].

Proved for a regression on independent Gaussian features, of mean square E |u|^2/d, with independent noise of variance
s: W is then rho W* and a rest F with E F_ij F_kl = 0 unless ij = kl. The risk depends on W by |b - nWb|^2 and |W|_F^2
alone, and a diagonal W with the entries w1/d and w2/d on two halves of the coordinates can have the same two.
That the features vec(x u') of prompts lead to the same moments is what weights trained on sampled prompts show.
"""

from functools import lru_cache, partial

import jax
import numpy as np
import sympy as sp

from proofs_check.claim import Claim, Verdict, both
from proofs_check.claims.theorem_5_3 import two_halves
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, falls_like_1_over_d, identities, same_numbers
from proofs_check.evidence.simulation import Comparison, judge
from proofs_check.evidence.wishart import narayana_moment, wishart_moment
from proofs_check.kinds.leading import ORACLE_SIZES
from proofs_check.setting import of_parabola
from ttt_jax.problem import Pretraining, Problem
from ttt_jax.theory.exact import risk_coefficients
from ttt_jax.theory.finite_pretraining import finite_pretraining_risk
from ttt_jax.training.regression import trained_weights
from ttt_jax.verdict.infinity import value_at_infinity

EVALUATIONS = "fresh", "same"
COEFFICIENTS = (1, 1, 1, 1, 1, 1, 1, 1, 1, sp.Rational(1, 2), 1)
"""Of theta and l in rho; s2 in q; s and rho^2 in R; rho q and the rest in A; R and s2 in D; lr*; the gain."""
ORDER = 6
"""Of the series in 1/l."""


def learned(c, theta, ridge):
    """rho, the smaller root."""
    half = (1 + c[0] * theta + c[1] * ridge) / 2
    return half - sp.sqrt(half**2 - theta)


def known(c, a, norm2, s2, rho):
    """q, s, and what bias leaves of the label."""
    q = a * norm2 / (a * norm2 + norm2 + c[2] * s2)
    return q, norm2 + s2 - q * norm2, (1 - rho) ** 2 * q * norm2


def fit(c, a, norm2, s2, theta, rho):
    """R and A."""
    q, left, bias = known(c, a, norm2, s2, rho)
    risk = (bias + c[3] * left) / (1 - c[4] * rho**2 / theta)
    return risk, norm2 * (1 - c[5] * rho * q) ** 2 + c[6] * q * (risk - left - bias)


def formula(c, n, k, d, norm2, s2, risk, misfit, evaluation):
    fresh = evaluation == "fresh"
    slope, size = (misfit, n**2 * norm2) if fresh else (risk - s2, n**2 * norm2 + n * d * (norm2 + s2))
    curvature = k * (risk - c[8] * s2) + c[7] * d * risk
    return {
        "initial": risk,
        "optimal_lr": c[9] * slope / (size * curvature),
        "gain": c[10] * k * slope**2 / curvature,
    }


def two_weights(a, g, d, s2, weights, evaluation):
    """Weights of order 1/d on two halves of the coordinates, B = 2, and their R and A."""
    setting = two_halves(a * d, g * d, d, weights, noise_var=s2, evaluation=evaluation, task=(sp.Integer(1),) * 2)
    misfit = sum((1 - a * w) ** 2 for w in weights)
    return setting, s2 + misfit + a * (2 + s2) * sum(w**2 for w in weights) / 2, misfit


def of_a_fit(a, s2, rho, spread):
    """Two weights whose mean is that of rho W*, and the theta to which their spread belongs."""
    q, left, bias = known(COEFFICIENTS, a, 2, s2, rho)
    rest = spread**2 * a * (2 * a + 2 + s2)  # E |F u|^2
    return (rho * q / a + spread, rho * q / a - spread), rho**2 * (1 + (left + bias) / rest)


def prove(c):
    return both(same_moments(c), same_fit(c), *(same_risk(c, evaluation) for evaluation in EVALUATIONS))


def same_moments(c):
    """Integrals over Marchenko and Pastur's law: of x/(x + l) for rho, of its square and of x/(x + l)^2 for R."""
    t, theta, q, left = sp.symbols("t theta q s", positive=True)  # t = 1/l
    moments = [narayana_moment(j, theta) for j in range(ORDER + 1)]
    rho = sum((-t) ** (j - 1) * t * moments[j] for j in range(1, ORDER + 1))
    falls = sum((-t) ** (j - 1) * t * j * moments[j] for j in range(1, ORDER + 1))  # -l d rho/d l
    risk = left + q * (1 - rho - falls) + left * t * falls
    pairs = {
        "rho": (t * rho**2 + t * theta, (t * (1 + c[0] * theta) + c[1]) * rho),
        "R": (risk * (1 - c[4] * rho**2 / theta), (1 - rho) ** 2 * q + c[3] * left),
    }
    return identities({name: tuple(truncated(side, t) for side in sides) for name, sides in pairs.items()})


def truncated(expression, t):
    """Its series in t up to t^ORDER."""
    terms = sp.Poly(sp.expand(expression), t).terms()
    return sum(coefficient * t**power for (power,), coefficient in terms if power <= ORDER)


def same_fit(c):
    """R and A are those of two weights."""
    a, s2, rho, spread = sp.symbols("a s2 rho spread", positive=True)
    weights, theta = of_a_fit(a, s2, rho, spread)
    _, *derived = two_weights(a, 1, 1, s2, weights, "fresh")
    return identities(dict(zip("RA", zip(fit(c, a, 2, s2, theta, rho), derived, strict=True), strict=True)))


def same_risk(c, evaluation):
    """And so is the risk that follows from R and A."""
    a, g, s2, w1, w2 = sp.symbols("a g s2 w1 w2", positive=True)
    d = sp.Symbol("d")
    setting, *of_weights = two_weights(a, g, d, s2, (w1, w2), evaluation)
    derived = symbolic.leading_quantities(setting)
    claimed = formula(c, a * d, g * d, d, 2, s2, *of_weights, evaluation)
    pairs = ((key, symbolic.leading_term(value, d) / derived[key]) for key, value in claimed.items())
    return identities({f"limit of {key}, {evaluation}": (ratio, 1) for key, ratio in pairs})


def independent(c):
    return both(finite_moments(c), *(by_oracle(c, evaluation) for evaluation in EVALUATIONS), of_package())


def finite_moments(c):
    """At finite size, without ridge by the mean of an inverse Wishart matrix, with a large one by Wick pairings."""
    a, s2 = sp.Rational(1, 2), sp.Rational(1, 4)
    q, left, _ = known(COEFFICIENTS, a, 1, s2, 0)
    ridge = sp.Integer(1000)

    def many(size):
        rows = 3 * size
        return risk_of(3, 0) / (left * (1 + sp.Rational(size, rows - size - 1))) - 1

    def few(size):
        rows = size // 2
        return risk_of(sp.Rational(1, 2), 0) / (left * (1 + sp.Rational(rows, size - rows - 1)) + q / 2) - 1

    def penalised(size):
        numbers = dict(zip(sp.symbols("k d"), (2 * size, size), strict=True))
        moments = [wishart_moment(j).subs(numbers) / sp.Integer(size) ** j for j in range(4)]
        exact = sum((-1) ** (j - 1) * moments[j] / ridge**j for j in range(1, 4))
        return sp.N(learned(c, sp.Integer(2), ridge), 30) / exact - 1

    def risk_of(theta, ridge):
        return fit(c, a, 1, s2, theta, learned(c, sp.sympify(theta), ridge))[0]

    sizes = 1000, 2000
    return both(*(falls_like_1_over_d(sizes, [sp.N(error(m), 30) for m in sizes]) for error in (many, few, penalised)))


def by_oracle(c, evaluation):
    s2, rho, spread = sp.Rational(1, 4), sp.Rational(2, 5), sp.Rational(1, 3)
    errors = {"initial": [], "optimal_lr": [], "gain": []}
    for size in ORACLE_SIZES:
        weights, theta = of_a_fit(sp.Rational(1, 2), s2, rho, spread)
        setting, *_ = two_weights(sp.Rational(1, 2), 2, size, s2, weights, evaluation)
        ridge = (1 - rho) * (theta - rho) / rho
        risk, misfit = fit(c, sp.Rational(1, 2), 2, s2, theta, learned(c, theta, ridge))
        claimed = formula(c, setting.n, setting.k, size, 2, s2, risk, misfit, evaluation)
        exact = oracle.quantities(setting)
        for key, values in errors.items():
            values.append(sp.N(claimed[key] / exact[key] - 1, 30))
    return both(*(falls_like_1_over_d(ORACLE_SIZES, values) for values in errors.values()))


@lru_cache(None)
def of_package():
    """The package's numbers at every kind of setting."""
    pairs = []
    for evaluation in EVALUATIONS:
        for theta, ridge, s2 in ((3, 0, 0), (sp.Rational(1, 2), 0, 2), (1, 1, sp.Rational(1, 4))):
            n, k, d, norm2 = 10, 40, 20, 4
            risk, misfit = fit(
                COEFFICIENTS, sp.Rational(n, d), norm2, s2, theta, learned(COEFFICIENTS, sp.sympify(theta), ridge)
            )
            claimed = formula(COEFFICIENTS, n, k, d, norm2, s2, risk, misfit, evaluation)
            problem = Problem(n, k, np.full(d, (norm2 / d) ** 0.5), noise_var=float(s2), evaluation=evaluation)
            penalty = float(ridge * n * d * (n * norm2 + d * (norm2 + s2)))
            curve = finite_pretraining_risk(problem, int(theta * d**2), ridge=penalty)
            found = of_parabola(curve.c0, curve.c1, curve.c2)
            pairs += [(found[key], value) for key, value in claimed.items()]
    return same_numbers(pairs, tolerance=FLOAT64)


SIZES = {8: 8, 12: 5, 24: 1}
"""d, and how many times as many W as at the largest."""
FEW = 20
CASES = (3, 0, 0), (sp.Rational(1, 2), 0, 0), (1, sp.Rational(1, 2), sp.Rational(1, 4))
"""theta, l and s2, at n = k = d and B = 1."""


def empirical(c, effort):
    """The exact risk of weights that were really trained, extrapolated from growing d; its error is that over W."""
    repeats = effort.num_large // 80
    if repeats < FEW:
        return Verdict(None, f"{repeats} trained W at d = {max(SIZES)} are too few for a standard error")
    quantities = ("fresh", "initial"), ("fresh", "risk"), ("same", "risk")
    verdict = judge([compared(c, case, *which, repeats, effort.seed) for case in CASES] for which in quantities)
    slow = "; ".join(rate(c, case, repeats, effort.seed) for case in CASES)
    return verdict._replace(detail=f"{verdict.detail}; error of the fresh risk x d: {slow} at d = {[*SIZES]}")


def claimed_value(c, case, evaluation, key):
    theta, ridge, s2 = case
    risk, misfit = fit(c, 1, 1, s2, theta, learned(c, sp.sympify(theta), ridge))
    claimed = formula(c, 1, 1, 1, 1, s2, risk, misfit, evaluation)
    return float(claimed["initial"] - (claimed["gain"] if key == "risk" else 0))


def trained_values(case, evaluation, key, repeats, seed):
    """The mean over W at every d, and its standard error."""
    found = [of_trained(case, d, repeats * times, seed)[evaluation][key] for d, times in SIZES.items()]
    return [risks.mean() for risks in found], [risks.std() / len(risks) ** 0.5 for risks in found]


def compared(c, case, evaluation, key, repeats, seed):
    limit = value_at_infinity([*SIZES], *trained_values(case, evaluation, key, repeats, seed))
    return Comparison(claimed_value(c, case, evaluation, key), *limit)


def rate(c, case, repeats, seed):
    """How slowly: the relative error of the risk after the step times d."""
    means, _ = trained_values(case, "fresh", "risk", repeats, seed)
    claimed = claimed_value(c, case, "fresh", "risk")
    errors = (f"{(claimed / mean - 1) * d:.1f}" for d, mean in zip(SIZES, means, strict=True))
    return f"{', '.join(errors)} (theta {float(case[0]):g}, l {float(case[1]):g})"


@lru_cache(None)
def of_trained(case, d, repeats, seed):
    """The risks before and after the best step, one for each trained W, of the parabola averaged over all tasks.

    On average over the d tasks along the axes b'Wb is tr W/d and |Wb|^2 is |W|_F^2/d, as for one task between the axes
    and a diagonal W of two values. The risk is linear in the two and |W|_F^2 (claim `theorem_5_3`).
    """
    theta, ridge, s2 = (float(value) for value in case)
    law = Pretraining(d, task_cov=1 / d, noise_var=s2, d=d)
    seeds = np.random.SeedSequence([seed, d]).generate_state(repeats)
    weights = [trained_weights(law, round(theta * d**2), ridge=ridge * d**3 * (2 + s2), seed=int(one)) for one in seeds]
    mean = np.array([np.trace(w) / d for w in weights])
    spread = np.sqrt([np.sum(w**2) / d for w in weights] - mean**2)
    live = np.arange(max(SIZES)) < d  # the other features are always 0, for one compilation
    diagonals = mean[:, None] + spread[:, None] * (-1) ** np.arange(max(SIZES))
    risks = {}
    for evaluation in EVALUATIONS:
        parts = np.split(diagonals, SIZES[d])  # of equal length at every d
        with jax.enable_x64(True):
            found = [parabolas(evaluation, live / d**0.5, live.astype(float), s2, part, float(d)) for part in parts]
        c0, c1, c2 = (np.concatenate(own) for own in zip(*found, strict=True))
        risks[evaluation] = {"initial": c0, "risk": c0 - c1**2 / (4 * c2)}
    return risks


@partial(jax.jit, static_argnames="evaluation")
def parabolas(evaluation, task, feature_cov, s2, diagonals, d):
    """Of many W, with n = k = d."""
    return jax.vmap(lambda w: risk_coefficients(task, feature_cov, s2, w, d, d, evaluation=evaluation))(diagonals)


CLAIM = Claim("Finite pretraining", "this project", COEFFICIENTS, prove, independent, empirical)
