"""Bordelon, Letey, Pehlevan: scaling laws of in-context regression by looped linear attention, in depth and time."""

import itertools

import numpy as np
import sympy as sp

from proofs_check.claim import Paper, Statement, both
from proofs_check.evidence.equality import falls_like_1_over_d, identities, same_numbers
from proofs_check.evidence.simulation import Comparison, initial_risks, judge
from ttt_jax.problem import Inference, Problem
from ttt_jax.theory.paper import proposition_4_1_risk
from ttt_jax.theory.risk import exact_risk
from ttt_jax.theory.schedules import looped_attention
from ttt_jax.theory.several_steps import marchenko_pastur
from ttt_jax.verdict.infinity import value_at_infinity

CASES = (1, 1), (0.5, 2), (2, 2), (1, 3)
"""alpha = P/D and L."""
POINTS = 2000
SIZES = 10, 20, 40
"""D of simulated contexts."""


def spectrum(alpha, points=POINTS):
    """Marchenko and Pastur's law of the eigenvalues of XX'/P as nodes and weights, the atom at 0 included."""
    nodes, weights = marchenko_pastur(alpha, points)
    density = weights / nodes
    return np.append(nodes / alpha, 0.0), np.append(density, 1 - density.sum())


def loss(nodes, weights, gamma, layers):
    """int rho(lambda) (1 - gamma lambda/L)^(2L)."""
    return (weights * (1 - gamma / layers * nodes) ** (2 * layers)).sum(-1)


def smallest(function, upper):
    """The minimum of a convex function on [0, upper], by golden sections."""
    ratio, low, high = (5**0.5 - 1) / 2, 0.0, float(upper)
    while high - low > 1e-7 * upper:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if function(left) < function(right) else (left, high)
    return function((low + high) / 2)


def final_loss(c, alpha, layers):
    """Result 1."""
    nodes, weights = spectrum(float(c[1]) * alpha)
    return float(c[0]) * smallest(lambda gamma: loss(nodes, weights, gamma, layers), 2 * layers)


def finite_loss(alpha, layers, d):
    """The exact risk of looped attention with the best common weight, without noise."""
    n = round(alpha * d)
    schedules = looped_attention(n, d, layers)
    return smallest(lambda gamma: schedules.risks([gamma / (layers * n)] * layers)[-1], 2 * layers)


def final_exact(c):
    sizes = 40, 80
    return both(
        *(
            falls_like_1_over_d(
                sizes, [final_loss(c, alpha, layers) / finite_loss(alpha, layers, d) - 1 for d in sizes]
            )
            for alpha, layers in CASES
        )
    )


def drawn_loss(alpha, layers, effort):
    """The same of sampled contexts, at d = infinity: the best gamma of all contexts, the error by groups of them."""
    rng = np.random.default_rng(effort.seed)
    means, errors = [], []
    for d in SIZES:
        count = effort.num_small * 2 // d
        values = np.linalg.svd(rng.standard_normal((count, round(alpha * d), d)), compute_uv=False) ** 2 / round(
            alpha * d
        )
        values = np.pad(values, ((0, 0), (0, d - values.shape[1])))
        losses = [
            smallest(lambda g, v=v, d=d: loss(v, 1 / d, g, layers).mean(), 2 * layers) for v in np.split(values, 20)
        ]
        means.append(np.mean(losses))
        errors.append(np.std(losses) / 19**0.5)
    return value_at_infinity(SIZES, means, errors)


def final_simulated(c, effort):
    return judge([Comparison(final_loss(c, *case), *drawn_loss(*case, effort))] for case in CASES)


FINAL = Statement(
    "Result 1, L*",
    "isotropic contexts: Gamma = gamma I, and L* = min_gamma int rho(lambda) (1 - gamma lambda/L)^(2L), rho of "
    "Marchenko and Pastur",
    (1, 1),
    final_exact,
    final_simulated,
    "a limit: at L = 1 the exact value is 1 - 1/(1 + (D+1)/P); the error falls like 1/D at every depth",
)


def shallow(c, alpha):
    return (1 + c[1] * alpha) ** -sp.sympify(c[0])


def shallow_exact(c):
    """Proposition 4.1, the exact risk at W*."""
    sizes = 10_000, 20_000
    errors = ([float(shallow(c, a)) / proposition_4_1_risk(a * d, d) - 1 for d in sizes] for a in (1, 3))
    return both(*(falls_like_1_over_d(sizes, one) for one in errors))


def shallow_simulated(c, effort):
    return judge([Comparison(float(shallow(c, a)), *drawn_loss(a, 1, effort))] for a in (1, 3))


SHALLOW = Statement(
    "below Result 1, L = 1",
    "for L = 1 the loss saturates to L* = (1 + alpha)^-2",
    (2, 1),
    shallow_exact,
    shallow_simulated,
    "as printed nowhere: by Result 1 it is (1 + alpha)^-1. (1 + alpha)^-2 is |Gamma* - I|^2/D, which leaves out the "
    "variance of the context; with the right exponent the error is of order 1/D",
    corrected=(1, 1),
)


def deep_exact(c):
    depths = 16, 64
    return both(
        *(
            falls_like_1_over_d(
                depths, [final_loss((1, 1), a, depth) / float(c[0] - c[1] * a) - 1 for depth in depths], "L"
            )
            for a in (0.25, 0.5)
        )
    )


def deep_simulated(c, effort):
    """At L = 64, far on the way to its limit."""
    return judge([[Comparison(float(c[0] - c[1] * 0.5), *drawn_loss(0.5, 64, effort), slack=1e-3)]])


DEEP = Statement(
    "below Result 1, L -> infinity",
    "for L -> infinity L* = [1 - alpha]_+",
    (1, 1),
    deep_exact,
    deep_simulated,
    "a limit in L: fast away from alpha = 1, slow at it",
)


def trained_eigenvalue(c, omega, x, t):
    """gamma_k(t) of Result 4 at unlimited depth."""
    return sp.log(1 + c[0] * omega * x**3 * t) / (c[1] * x)


def flow_exact(c):
    """The right side of the stated equation at L -> infinity, and the stated loss, at the stated solution."""
    omega, x, t = sp.symbols("omega lambda t", positive=True)
    left = sp.exp(-2 * x * trained_eigenvalue(c, omega, x, t))
    slope = sp.diff(trained_eigenvalue(c, omega, x, t), t)
    loss = omega * x / (1 + c[2] * omega * x**3 * t)
    return identities({"the equation": (slope, omega * x**2 * left), "the loss": (loss, omega * x * left)})


def flow_simulated(c, effort):
    """The stated equation at L = 400 by Runge and Kutta's method; the depth leaves an error of order 1/L."""
    omega, x, t, depth, steps = 0.7, 1.3, 3.0, 400, 2000
    gamma = runge_kutta(
        lambda t, g: omega * x**2 * (1 - x * g / depth) ** (2 * depth - 1), 0.0, np.linspace(0, t, steps)
    )
    claimed = float(trained_eigenvalue(c, omega, x, t)), omega * x / float(1 + c[2] * omega * x**3 * t)
    found = gamma, omega * x * (1 - x * gamma / depth) ** (2 * depth)
    return same_numbers(zip(claimed, found, strict=True), tolerance=3 / depth)


def runge_kutta(slope, start, times):
    value = start
    for t, later in itertools.pairwise(times):
        h = later - t
        one = slope(t, value)
        two = slope(t + h / 2, value + h / 2 * one)
        three = slope(t + h / 2, value + h / 2 * two)
        value = value + h / 6 * (one + 2 * two + 2 * three + slope(later, value + h * three))
    return value


FLOW = Statement(
    "Result 4, solution",
    "d gamma_k/dt = omega_k lambda_k^2 (1 - lambda_k gamma_k/L)^(2L-1) has for L -> infinity the solution "
    "gamma_k = ln(1 + 4 omega_k lambda_k^3 t)/(2 lambda_k), with the loss sum_k omega_k lambda_k/(1 + 4 omega_k "
    "lambda_k^3 t)",
    (4, 2, 4),
    flow_exact,
    flow_simulated,
    "as printed at no time but 0: the equation of the box has 2 in place of 4, appendix D's, with twice the slope, "
    "has 4. With 2 the error at depth L is of order 1/L",
    corrected=(2, 2, 2),
)

POWERS = (1.5, 1.2), (1.0, 2.0), (2.0, 0.5)
"""nu and beta."""


def exponent(c, nu, beta):
    """Of the loss in time: (c0 beta + c1 nu beta)/(c2 nu + c3 nu beta + c4)."""
    return (c[0] * beta + c[1] * nu * beta) / (c[2] * nu + c[3] * nu * beta + c[4])


def measured(nu, beta, decades, gained):
    """The local exponent of sum_k omega_k lambda_k exp(-gained), where gained = 2 lambda_k gamma_k."""
    k = np.arange(1.0, 300_000)
    rate, weight = 2 * k ** (-2 * nu - nu * beta - 1), k ** (-nu * beta - 1)
    first, second = ((weight * np.exp(-gained(rate, t))).sum() for t in (10.0**decades, 10.0 ** (decades + 1)))
    return -np.log10(second / first)


def decay_exact(c):
    """The sum of Result 4 at late times, when many modes are learned."""
    found = [measured(*powers, 12, lambda rate, t: np.log1p(rate * t)) for powers in POWERS]
    return same_numbers(
        ((exponent(c, *p), f, f"nu, beta = {p}") for p, f in zip(POWERS, found, strict=True)), tolerance=2e-3
    )


def decay_simulated(c, effort):
    """Gradient flow of a layer in 3000 modes, L = 4, by Runge and Kutta's method on a grid of log t."""
    found = [trained_exponent(*powers) for powers in POWERS]
    return same_numbers(
        ((exponent(c, *p), f, f"nu, beta = {p}") for p, f in zip(POWERS, found, strict=True)), tolerance=1e-2
    )


def trained_exponent(nu, beta, depth=4):
    k = np.arange(1.0, 3000)
    x, weight = k**-nu, k ** (-nu * beta - 1)  # lambda, omega lambda
    slope = lambda s, g: np.exp(s) * weight * x * (1 - x * g / depth) ** (2 * depth - 1)  # noqa: E731
    times = np.log(10.0) * np.arange(-2, 9.01, 0.01)
    losses, gamma, before = [], 0 * k, times[0]
    for stop in (7.0, 9.0):
        grid = times[(times >= before - 1e-9) & (times <= stop * np.log(10) + 1e-9)]
        gamma, before = runge_kutta(slope, gamma, grid), grid[-1]
        losses.append((weight * (1 - x * gamma / depth) ** (2 * depth)).sum())
    return np.log10(losses[0] / losses[1]) / 2


DECAY = Statement(
    "Result 4, exponent",
    "lambda_k ~ k^-nu, sum_(l > k) lambda_l omega_l ~ k^(-nu beta): the loss falls like t^(-beta/(nu + nu beta + 1))",
    (1, 0, 1, 1, 1),
    decay_exact,
    decay_simulated,
    "as printed nowhere: the exponent is nu beta/(nu beta + 2 nu + 1), at any depth, at times when many modes are "
    "learned and many are left",
    corrected=(0, 1, 2, 1, 1),
)


def online(c, t, alpha, kappa, tau, noise, rate):
    """Result 10: the loss after t steps, whose C(0) as printed is 1 = c0 (1 + x)^-c1."""
    x = (1 + noise) / alpha
    a = (1 - rate * (1 + x)) ** 2 + c[4] * rate**2 / tau * (1 + 1 / kappa) * (1 + x) ** 2
    b = c[5] * rate**2 / tau * (1 + 1 / kappa) * x
    start = c[0] / (1 + x) ** c[1]
    middle = c[2] * x / (1 + x) ** 2 * (1 - rate * (1 + x)) ** t
    return a**t * start + (1 - a**t) / (1 - a) * b + middle + c[3] * (1 + noise) ** 2 / (alpha + 1 + noise) ** 2


def online_exact(c):
    """After no step the loss |Gamma - I|^2/D is that of Gamma(0) = 0, the start that the middle term takes.

    After one step Gamma = eta g with E g = I and E |g|^2/D -> 1 + (1 + 1/kappa)(1 + x)/tau, x = (1 + sigma^2)/alpha.
    """
    alpha, kappa, tau, noise, rate = sp.symbols("alpha kappa tau s2 eta", positive=True)
    after = 1 - 2 * rate + rate**2 * (1 + (1 + 1 / kappa) * (1 + (1 + noise) / alpha) / tau)
    values = [online(c, t, alpha, kappa, tau, noise, rate) for t in (0, 1)]
    return identities({"the loss at t = 0": (values[0], 1), "at t = 1": (values[1], after)})


ONLINE = {"alpha": 1, "kappa": 1, "tau": 1, "noise": 0.25, "rate": 0.15}
STEPS = 1, 3


def online_simulated(c, effort):
    """Stochastic gradient descent at growing D from Gamma = 0, at d = infinity."""
    runs = [online_losses(d, min(8 * effort.num_small, 400_000) // d**2, effort.seed) for d in (8, 16, 32)]
    found = [
        value_at_infinity((8, 16, 32), [x.mean(0)[t] for x in runs], [x.std(0)[t] / len(x) ** 0.5 for x in runs])
        for t in STEPS
    ]
    claimed = [float(online(c, t, **ONLINE)) for t in STEPS]
    return judge([Comparison(one, *limit)] for one, limit in zip(claimed, found, strict=True))


def online_losses(d, runs, seed):
    """|Gamma - I|^2/D after 0, 1, ... steps with P = K = B = D, in each run."""
    rng, noise, rate = np.random.default_rng(seed), ONLINE["noise"], ONLINE["rate"]
    gamma, losses = np.zeros((runs, d, d)), [np.ones(runs)]
    for _ in range(max(STEPS)):
        x, queries = rng.standard_normal((2, runs, d, d, d))  # of each of D contexts D rows
        task = rng.standard_normal((runs, d, d))
        y = np.einsum("rbpd,rbd->rbp", x, task) + (noise * d) ** 0.5 * rng.standard_normal((runs, d, d))
        summary = np.einsum("rbpd,rbp->rbd", x, y) / d
        left = task - np.einsum("rij,rbj->rbi", gamma, summary)
        error = np.einsum("rbkd,rbk->rbd", queries, np.einsum("rbkd,rbd->rbk", queries, left)) / d
        gamma = gamma + rate * np.einsum("rbi,rbj->rij", error, summary) / d
        losses.append(((gamma - np.eye(d)) ** 2).sum((1, 2)) / d)
    return np.stack(losses, axis=1)


SGD = Statement(
    "Result 10",
    "online SGD, L = 1, P, K, B ~ D: |Gamma - I|^2/D = C(t) + 2x/(1+x)^2 [1 - eta (1+x)]^t + "
    "(1+sigma^2)^2/(alpha+1+sigma^2)^2, x = (1+sigma^2)/alpha, C(t) = a^t + (1-a^t)/(1-a) b, a = [1 - eta (1+x)]^2 + "
    "(eta^2/tau)(1+1/kappa)(1+x)^2, b = (eta^2/tau)(1+1/kappa) x",
    (1, 0, 2, 1, 1, 1),
    online_exact,
    online_simulated,
    "as printed at no early step: the loss at t = 0 is above 1, the loss of Gamma = 0. With C(0) = (1+x)^-2 before "
    "a^t it is right as D grows, slowly; the loss is |Gamma - I|^2/D, not the risk",
    corrected=(1, 2, 2, 1, 1, 1),
)


OLD, NEW, TASKS = np.array([1.0, 2.0]), np.array([1.5, 1.0]), np.array([1.0, 0.5])
"""Sigma, Sigma' and Omega'."""


def moved_loss(c):
    """Result 5 at L = 1."""
    return (c[0] * TASKS * NEW * (1 - c[1] * NEW / OLD) ** 2).sum()


def moved(n):
    """Gamma = Sigma^-1 and a context of n rows with the covariance Sigma'; tasks along the axes, weighted by Omega'."""
    law = {"feature_cov": OLD, "evaluation": Inference(feature_cov=NEW)}
    return [Problem(n, 1, np.sqrt(one), **law) for one in np.diag(TASKS)], 1 / (n * OLD)


def moved_exact(c):
    sizes, errors = (2000, 4000), []
    for n in sizes:
        problems, weights = moved(n)
        errors.append(float(moved_loss(c)) / sum(exact_risk(one, weights).initial for one in problems) - 1)
    return falls_like_1_over_d(sizes, errors, "n")


def moved_simulated(c, effort):
    sizes, means, errors = (40, 80, 160), [], []
    for n in sizes:
        problems, weights = moved(n)
        risks = sum(initial_risks(one, weights, effort.num_small, effort.seed + i) for i, one in enumerate(problems))
        means.append(risks.mean())
        errors.append(risks.std() / len(risks) ** 0.5)
    return judge([[Comparison(float(moved_loss(c)), *value_at_infinity(sizes, means, errors))]])


MOVED = Statement(
    "Result 5, L = 1",
    "trained on Sigma, tested on Sigma', Omega': the loss is tr Omega' (I - Sigma^-1 Sigma')' Sigma' (I - Sigma^-1 "
    "Sigma')",
    (1, 1),
    moved_exact,
    moved_simulated,
    "a limit of long contexts: the variance of the context, of order tr(Sigma^-1 Sigma')/P, is left out",
)

PAPER = Paper(
    "Bordelon et al. (2510.01098)",
    "the LaTeX source in full, in a copy held by others: github.com/ygzdvr/spectral-icl, "
    "knowledge/2510.01098/iclr2026_conference.tex, commit f4113a72; its version is not known, another may have "
    "corrected it",
    "beta ~ N(0, I), y = beta'x/sqrt(D) + sigma eps, P pairs, 1/(L P): at L = 1 W = Gamma/P with b = beta/sqrt(D); "
    "at L > 1 looped attention with the weights gamma/(L P). Losses leave out the noise of the query's label",
    (FINAL, SHALLOW, DEEP, FLOW, DECAY, MOVED, SGD),
)
