"""Zhang, Frei, Bartlett: trained linear attention, new prompts of any label law, covariate shift."""

import numpy as np
import sympy as sp
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Paper, Statement, Verdict
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import falls_like_1_over_d, identities, same_numbers
from proofs_check.evidence.simulation import (
    at_most,
    initial_risks,
    judge,
    judge_samples,
    num_contexts,
    ratio_of_means,
)
from proofs_check.evidence.symbolic import initial_risk
from proofs_check.kinds.initial import initial_statement, over_axes
from proofs_check.setting import AtInference, Group, Setting
from ttt_jax.problem import GaussianTasks, Inference, Problem
from ttt_jax.theory.risk import exact_risk


def gamma(spectrum, total, n):
    """The eigenvalues of Gamma = (1 + 1/N) Lambda + tr(Lambda)/N I."""
    return [(1 + sp.Integer(1) / n) * x + total / sp.sympify(n) for x in spectrum]


def trained(n, m, spectrum, sizes, task, noise=0):
    """The setting of weights trained on prompts of N pairs, with a prompt of M pairs: W = Gamma^-1/M."""
    total = sum(size * x for size, x in zip(sizes, spectrum, strict=True))
    weights = [1 / (m * g) for g in gamma(spectrum, total, n)]
    groups = tuple(Group(*group) for group in zip(sizes, spectrum, weights, task, strict=True))
    return Setting(n, 1, groups, noise, inference=AtInference(m, noise, noise))


def error(c, n, m, best, a, cov, spectrum, sizes):
    """(4.6), for diagonal Lambda; cov is the diagonal of Sigma, sizes the multiplicities of the coordinates."""
    total = sum(size * x for size, x in zip(sizes, spectrum, strict=True))
    g = gamma(spectrum, total, n)

    def norm(power):
        return sum(x**2 * y**power / z**2 for x, y, z in zip(a, spectrum, g, strict=True))

    variance = sum(x * y / z**2 for x, y, z in zip(cov, spectrum, g, strict=True))
    bias = c[2] * norm(3) + c[3] * total * norm(2) + c[4] * total**2 * norm(1)
    return c[0] * best + c[1] * variance / m + bias / sp.sympify(n) ** 2


def linear_error(c, setting):
    """(4.6) with labels <w, x> + noise: Sigma = (w'Lambda w + s2) Lambda + Lambda w w'Lambda."""
    sizes, spectrum, a = ([getattr(g, f) for g in setting.groups] for f in ("multiplicity", "feature", "task"))
    tau = setting.noise_var + sum(x**2 * y for x, y in zip(a, spectrum, strict=True))
    cov = [n * tau * y + (x * y) ** 2 for n, x, y in zip(sizes, a, spectrum, strict=True)]
    return error(c, setting.n, setting.inference.n, setting.noise_var, a, cov, spectrum, sizes)


N, M, s2 = sp.symbols("N M s2", positive=True)
LAMBDA, SIZE, TASK = sp.symbols("lambda m w", positive=True)
THIRD = sp.Rational(1, 3)
NUMBERS = (
    trained(12, 7, (THIRD, 2), (2, 1), (1, sp.Rational(1, 2)), sp.Rational(3, 10)),
    trained(3, 2, (1, 4), (1, 2), (2, 1), 1),
    trained(4, 30, (2, 1), (1, 1), (sp.Rational(1, 5), 1), 5),
)
LINEAR = initial_statement(
    "(4.6), linear labels",
    "E (yhat - y)^2 = min_w E (<w, x> - y)^2 + (1/M) tr[Sigma Gamma^-2 Lambda] + (1/N^2) [|a|^2 in Gamma^-2 Lambda^3 "
    "+ 2 tr(Lambda) |a|^2 in Gamma^-2 Lambda^2 + tr(Lambda)^2 |a|^2 in Gamma^-2 Lambda], for y = <w, x> + noise",
    (1, 1, 1, 2, 1),
    linear_error,
    trained(N, M, (LAMBDA, 1), (SIZE, 2), (TASK, 1), s2),
    NUMBERS,
    (
        trained(10, 40, (1, 2), (2, 2), (1, 1), sp.Rational(1, 2)),
        trained(2, 100, (2, 1), (1, 1), (1, 0)),
        trained(2, 100, (1, 2), (1, 1), (1, 1)),
    ),
    "nowhere: an identity at every N, M, d",
)


ROOTS = np.array([1, 2])
"""Of Lambda, for the bent label."""


def bent(x):
    """A label that is not linear, of polynomials or arrays; the best linear predictor is 2 x1 - x2."""
    return 2 * x[0] - x[1] + x[0] ** 2 - 1


def mean(polynomial):
    return QQ.to_sympy(oracle.gaussian_mean(polynomial))


def polynomial_rows(count):
    """The features of so many pairs, in independent standard normal variables."""
    _, *z = ring([f"z{i}" for i in range(2 * count)], QQ)
    return [[int(root) * z[2 * i + j] for j, root in enumerate(ROOTS)] for i in range(count)]


def bent_error(c, n, m):
    """(4.6) with the moments of the bent label."""
    (x,) = polynomial_rows(1)
    spectrum = [sp.Integer(int(root) ** 2) for root in ROOTS]
    products = [x[j] * bent(x) for j in range(2)]
    cov = [mean(one**2) - mean(one) ** 2 for one in products]
    a = [mean(one) / s for one, s in zip(products, spectrum, strict=True)]
    best = mean((bent(x) - 2 * x[0] + x[1]) ** 2)
    return error(c, n, m, best, a, cov, spectrum, (1, 1))


def bent_exact(c):
    pairs = []
    for n, m in ((3, 1), (5, 2)):
        *context, query = polynomial_rows(m + 1)
        weights = [QQ.from_sympy(1 / (m * g)) for g in gamma([1, 4], sp.Integer(5), n)]
        summary = [sum(x[j] * bent(x) for x in context) for j in range(2)]
        miss = sum(query[j] * summary[j] * weights[j] for j in range(2)) - bent(query)
        pairs.append((bent_error(c, n, m), mean(miss**2), f"N = {n}, M = {m}"))
    return same_numbers(pairs)


def bent_simulated(c, effort):
    rng = np.random.default_rng(effort.seed)
    samples, claimed = [], []
    for n, m in ((2, 20), (20, 5)):
        x = rng.standard_normal((num_contexts(effort, 2 * (m + 1)), m + 1, 2)) * ROOTS
        y = bent(np.moveaxis(x, 2, 0))
        summary = np.einsum("tnd,tn->td", x[:, :m], y[:, :m])
        guess = (x[:, m] * summary / (m * np.array(gamma([1, 4], 5, n), float))).sum(1)
        samples.append((guess - y[:, m]) ** 2)
        claimed.append(float(bent_error(c, n, m)))
    return judge_samples(samples, claimed)


BENT = Statement(
    "(4.6), nonlinear labels",
    "the same for any law of y given x ~ N(0, Lambda), here y = 2 x1 - x2 + x1^2 - 1",
    (1, 1, 1, 2, 1),
    bent_exact,
    bent_simulated,
    "nowhere, whatever the labels; the features must be N(0, Lambda)",
)


def bound(c, n, m, spectrum):
    d, total, condition = len(spectrum), sum(spectrum), sp.sympify(max(spectrum)) / min(spectrum)
    return c[0] * (d + 1) * total / m + (c[1] + c[2] * d + c[3] * d**2 * condition) * total / sp.sympify(n) ** 2


SPECTRA = (1, 1), (sp.Rational(1, 2), 1, 4)
UNLIMITED = 10**9


def bound_exact(c):
    """Above the exact risk everywhere, and where it is nearly sharp not by much."""
    worst = []
    for spectrum in SPECTRA:
        for n, m in ((5, 5), (10, 40), (UNLIMITED, 20), (10**4, UNLIMITED**2)):
            risk = over_axes(initial_risk, trained(n, m, spectrum, (1,) * len(spectrum), (1,) * len(spectrum)))
            worst.append(risk / bound(c, n, m, spectrum))
    return Verdict(bool(max(worst) <= 1), f"risk / bound between {float(min(worst)):.3f} and {float(max(worst)):.5f}")


def bound_simulated(c, effort):
    n, m, d = UNLIMITED, 60, 4
    weights = np.array(1 / (m * (1 + (1 + d) / n)))
    risks = initial_risks(Problem(m, 1, GaussianTasks(d=d)), weights, 10 * effort.num_small, effort.seed)
    return at_most(risks, bound(c, n, m, (1,) * d))


BOUND = Statement(
    "Corollary 4.3",
    "E (yhat - <w, x>)^2 <= (d+1) tr(Lambda)/M + (1 + 2d + d^2 kappa) tr(Lambda)/N^2 for w ~ N(0, I), without noise",
    (1, 1, 2, 1),
    bound_exact,
    bound_simulated,
    "holds everywhere; sharp as N grows at Lambda = I, loose for short prompts or a large condition number",
    bound=True,
)

SCALE = 1.5
"""c, of the shifted features."""


def shift_exact(c):
    """The risk under features c x with N = M tends to (c^2 - 1)^2 c^2 w'Lambda w."""
    spectrum, task, sizes = np.array([1.0, 2.0]), np.array([1.0, 0.5]), (2000, 4000)
    limit = (SCALE ** float(c[0]) - 1) ** 2 * SCALE**2 * (spectrum * task**2).sum()
    errors = []
    for size in sizes:
        weights = 1 / (size * np.array(gamma(spectrum, 3.0, size), float))
        shifted = Inference(feature_cov=SCALE**2 * spectrum)
        problem = Problem(size, 1, task, spectrum, evaluation=shifted)
        errors.append(exact_risk(problem, weights).initial / limit - 1)
    return falls_like_1_over_d(sizes, errors, "M")


def shift_simulated(c, effort):
    """yhat regressed on <w, x>; M = 10, whose mean is that of any M, and N unlimited."""
    rng = np.random.default_rng(effort.seed)
    task = np.array([1.0, 0.5])
    x = SCALE * rng.standard_normal((num_contexts(effort), 11, 2))
    truth = x @ task
    summary = np.einsum("tnd,tn->td", x[:, :10], truth[:, :10]) / 10
    guess = (x[:, 10] * summary).sum(1)
    return judge([[ratio_of_means(guess * truth[:, 10], truth[:, 10] ** 2, SCALE ** float(c[0]))]])


SHIFT = Statement(
    "section 4.2, covariate shift",
    "features c x at test: yhat -> c^2 <w, x>, as M and N grow",
    (2,),
    shift_exact,
    shift_simulated,
    "a limit: the risk differs from (c^2 - 1)^2 E <w, x>^2 by order 1/M + 1/N",
)


def varied(c, n, d, moments):
    """(4.12): one diagonal entry of [E Gamma Lambda^2]^-1 [E Lambda^2], from E lambda, E lambda^2, E lambda^3."""
    first, second, third = moments
    return c[0] * second / (c[1] * (n + 1) * third / n + c[2] * (third + (d - 1) * first * second) / n)


def varied_exact(c):
    """The minimiser of the mean over Lambda of the exact risk: powers of the eigenvalues become moments of any law."""
    a, n = sp.symbols("a n", positive=True)
    moments = sp.symbols("mu1 mu2 mu3", positive=True)
    pairs = {}
    for d in (2, 3):
        spectrum = sp.symbols(f"lambda1:{d + 1}", positive=True)
        setting = Setting(n, 1, tuple(Group(1, x, a / n, 1) for x in spectrum))
        loss = sp.Poly(over_axes(initial_risk, setting), *spectrum)
        averaged = sum(value * sp.prod(moments[p - 1] for p in powers if p) for powers, value in loss.terms())
        quadratic = sp.Poly(averaged, a)
        pairs[f"d = {d}"] = (
            varied(c, n, d, moments),
            -quadratic.coeff_monomial(a) / (2 * quadratic.coeff_monomial(a**2)),
        )
    return identities(pairs)


def varied_simulated(c, effort):
    """The label regressed on x'u/N, u = sum_i y_i x_i, over prompts with eigenvalues uniform between 1/2 and 3/2."""
    rng = np.random.default_rng(effort.seed)
    count, found = num_contexts(effort) // 2, []
    for n, d in ((10, 5), (20, 2)):
        roots = np.sqrt(rng.uniform(0.5, 1.5, (count, 1, d)))
        x = rng.standard_normal((count, n + 1, d)) * roots
        y = np.einsum("tnd,td->tn", x, rng.standard_normal((count, d)))
        feature = np.einsum("tnd,tn,td->t", x[:, :n], y[:, :n], x[:, n]) / n
        moments = 1, sp.Rational(13, 12), sp.Rational(5, 4)
        found.append(ratio_of_means(feature * y[:, n], feature**2, varied(c, n, d, moments)))
    return judge([found])


VARIED = Statement(
    "Theorem 4.5, (4.12)",
    "random diagonal Lambda_t: W^PV W^KQ -> [E Gamma_t Lambda_t^2]^-1 [E Lambda_t^2], "
    "Gamma_t = ((N+1)/N) Lambda_t + (1/N) tr(Lambda_t) I",
    (1, 1, 1),
    varied_exact,
    varied_simulated,
    "nowhere: the minimiser at every N, d",
)


def third_exact(c):
    sizes = 10_000, 20_000
    return falls_like_1_over_d(
        sizes, [varied((1, 1, 1), n, 5, (1, 2, 6)) / c[0] - 1 for n in map(sp.Integer, sizes)], "N"
    )


def third_simulated(c, effort):
    """E yhat <w, x> over new covariances, with the weights of N unlimited; M = 10, whose mean is that of any M."""
    rng = np.random.default_rng(effort.seed)
    count, m, d = num_contexts(effort), 10, 2
    x = rng.standard_normal((count, m, d)) * np.sqrt(rng.exponential(size=(count, 1, d)))
    query, task = rng.standard_normal((2, count, d))
    summary = np.einsum("tnd,tne,te->td", x, x, task) / m
    weight = float(varied((1, 1, 1), sp.Integer(UNLIMITED), d, (1, 2, 6)))
    truth = (query * task).sum(1)
    return judge([[ratio_of_means(weight * (query * summary).sum(1) * truth, truth**2, c[0])]])


WEAK = Statement(
    "after (4.13)",
    "eigenvalues ~ Exponential(1): E [yhat | x, w] -> (1/3) <w, x>, as M and N grow",
    (sp.Rational(1, 3),),
    third_exact,
    third_simulated,
    "a limit in N, with an error of order d/N; in M the mean is the same at every M",
)

PAPER = Paper(
    "Zhang, Frei, Bartlett (2306.09927)",
    "the full text of version 3 in a transcription that loses Greek letters (arXiv 2306.09927); they were filled in "
    "from the definitions in the text",
    "x ~ N(0, Lambda), w ~ N(0, I), no noise in training; yhat = x'Gamma^-1 (1/M) sum_i y_i x_i, so W = Gamma^-1/M "
    "with n = M at inference and n = N in pretraining. The risk includes the query's label noise",
    (LINEAR, BENT, BOUND, SHIFT, VARIED, WEAK),
)
