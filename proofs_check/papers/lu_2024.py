"""Lu, Letey, Zavatone-Veth, Maiti, Pehlevan: linear attention trained on finitely many prompts and tasks."""

from functools import lru_cache

import numpy as np

from proofs_check.claim import Paper, Statement, both
from proofs_check.evidence.equality import same_numbers
from proofs_check.evidence.simulation import Comparison, judge
from ttt_jax.problem import Pretraining, Problem
from ttt_jax.theory.finite_pretraining import finite_pretraining_risk
from ttt_jax.theory.pretrained import pretrained_weights
from ttt_jax.training.regression import trained_weights
from ttt_jax.verdict.infinity import value_at_infinity

UNLIMITED = 10**9
"""kappa, of tasks that are never met twice."""
TOLERANCE = 1e-6
"""What the rest of the tasks may change."""
CASES = (1, 2, 3), (0.5, 1, 2)
"""n/d, the tasks per d and the prompts per d^2 of simulated weights, above the peak."""
FEW_CASES = (1, 2, 0.5), (2, 1, 0.25)
"""The same below it."""
MANY_PROMPTS = 10, 1
"""n/d and the tasks per d where the prompts are without end."""
DRAWS = 8000
"""Sets of tasks times d."""
NOISE = 0.1
"""rho."""
SIZES = {8: 6, 12: 4, 24: 1}
"""d, and how many times as many W as at the largest."""


def resolvent(x, kappa):
    """M_kappa(x)."""
    y = x + 1 - 1 / kappa
    return 2 / (y + (y**2 + 4 * x / kappa) ** 0.5)


def below(c, alpha, kappa, tau, noise):
    """`ridgeless_icl` for tau < 1."""
    x = (1 + noise) / alpha
    mu = x * resolvent(x, kappa / tau)
    fit = c[1] - c[2] * tau * (1 - mu) ** 2 - c[3] * (x - noise) / x * mu
    return c[0] * tau * (1 + x) / (1 - tau) * fit - c[4] * tau * (1 - mu) + c[5] * (1 + noise)


def above(c, alpha, kappa, tau, noise):
    """`ridgeless_icl` for tau > 1."""
    x = (1 + noise) / alpha
    m = resolvent(x, kappa)
    spread = 1 / (1 - c[0] * kappa * (m / (kappa + m)) ** 2)
    first = (c[1] * spread - c[2] / (tau - 1)) * (1 + x) * (x * m) ** 2
    second = (c[3] - c[4] * tau) / (tau - 1) * m * x**2
    third = (c[5] * (1 + noise) / (tau - 1) * m + c[6]) * x + c[7] * noise * m / (tau - 1) + c[8] * noise
    return first + second + third


def branch(number, text, coefficients, formula, ratios, cases):
    def exact(c):
        """Tasks without end: `finite_pretraining_risk`, a claim of this project."""
        pairs = []
        for alpha, tau, noise in (
            (0.5, ratios[0], 0.0),
            (2.0, ratios[1], 0.3),
            (1.0, ratios[0], 1.0),
            (5.0, ratios[1], 4.0),
        ):
            d = 1000
            problem = Problem(round(alpha * d), 1, np.eye(1, d)[0], noise_var=noise)
            risk = finite_pretraining_risk(problem, round(tau * d**2)).initial
            claimed = float(formula([float(one) for one in c], alpha, UNLIMITED, tau, noise))
            pairs.append((claimed, risk, f"alpha = {alpha}, tau = {tau}, rho = {noise}"))
        endless = same_numbers(pairs, tolerance=TOLERANCE)
        return both(endless, few_tasks(c)) if formula is above else endless

    def simulated(c, effort):
        """Weights that were trained on kappa d tasks, at d = infinity, and how far the formula is off before that."""
        numbers, found, slow = [float(one) for one in c], [], []
        for case in cases:
            claimed = float(formula(numbers, *case, NOISE))
            means, errors = trained_risks(*case, effort.num_large // 80, effort.seed)
            found.append(Comparison(claimed, *value_at_infinity([*SIZES], means, errors)))
            slow.append(", ".join(f"{claimed / mean - 1:+.0%}" for mean in means))
        verdict = judge([one] for one in found)
        error = f"error at d = {', '.join(map(str, SIZES))}: {'; '.join(slow)}"
        return verdict._replace(
            detail=f"{verdict.detail}; {error} ((alpha, kappa, tau) = {', '.join(map(str, cases))})"
        )

    finite = "a limit, reached slowly: the error falls like 1/d; the exact risk of weights in hand is exact_risk"
    return Statement(number, text, coefficients, exact, simulated, finite)


@lru_cache(None)
def trained_risks(alpha, kappa, tau, repeats, seed):
    """The exact risk on new tasks w ~ N(0, I/d) of weights trained on kappa d tasks, at growing d, and its error."""
    means, errors = [], []
    for d, times in SIZES.items():
        n = round(alpha * d)
        law = Pretraining(n, task_cov=1 / d, noise_var=NOISE, d=d)
        seeds = np.random.SeedSequence([seed, d]).generate_state(max(repeats, 8) * times)
        fits = [trained_weights(law, round(tau * d**2), num_tasks=round(kappa * d), seed=int(one)) for one in seeds]
        risks = [new_task_risk(weights, n, d) for weights in fits]
        means.append(np.mean(risks))
        errors.append(np.std(risks) / len(risks) ** 0.5)
    return means, errors


def few_tasks(c):
    """Prompts without end: the exact risk of W* for kappa d drawn tasks, where the trained weights arrive."""
    claimed = float(above([float(one) for one in c], *MANY_PROMPTS, UNLIMITED, NOISE))
    return judge([[Comparison(claimed, *optimum_risk(*MANY_PROMPTS))]])


@lru_cache(None)
def optimum_risk(alpha, kappa):
    """At d = infinity, by tasks drawn at growing d."""
    rng, sizes, means, errors = np.random.default_rng(0), (40, 80, 160), [], []
    for d in sizes:
        risks = []
        for _ in range(DRAWS // d):
            tasks = rng.standard_normal((round(kappa * d), d))
            law = Pretraining(round(alpha * d), task_cov=tasks.T @ tasks / (len(tasks) * d), noise_var=NOISE)
            risks.append(new_task_risk(pretrained_weights(law), law.n, d))
        means.append(np.mean(risks))
        errors.append(np.std(risks) / len(risks) ** 0.5)
    return value_at_infinity(sizes, means, errors)


def new_task_risk(weights, n, d):
    """Lemma B.2 averaged over tasks: E u = n w, E u u' = n(n+1) w w' + n (1 + rho) I."""
    square = (weights**2).sum()
    return 1 + NOISE - 2 * n * np.trace(weights) / d + (n * (n + 1) / d + n * (1 + NOISE)) * square


BELOW = branch(
    "`ridgeless_icl`, tau < 1",
    "x = (1+rho)/alpha, mu = x M_(kappa/tau)(x): tau (1+x)/(1-tau) [1 - tau (1-mu)^2 - ((x-rho)/x) mu] - 2 tau "
    "(1-mu) + rho + 1",
    (1, 1, 1, 1, 2, 1),
    below,
    (0.25, 0.6),
    FEW_CASES,
)
ABOVE = branch(
    "`ridgeless_icl`, tau > 1",
    "m = M_kappa(x), c = 1/(1 - kappa (m/(kappa+m))^2): (c - 1/(tau-1)) (1+x) (x m)^2 + ((3-2 tau)/(tau-1)) m x^2 "
    "+ [((1+rho)/(tau-1)) m + 1] x + rho m/(tau-1) + rho",
    (1, 1, 1, 3, 2, 1, 1, 1, 1),
    above,
    (2.0, 3.0),
    CASES,
)

PAPER = Paper(
    "Lu et al. (2405.11751)",
    "the authors' code, not the paper: github.com/Pehlevan-Group/incontext-asymptotics-experiments, "
    "theory_runs/common.py, commit 9f9b5626",
    "x ~ N(0, I/d), |w|^2 = d, label noise rho, alpha d pairs, kappa d tasks, tau d^2 prompts of one query, d/l: W "
    "is the first d columns of Gamma, divided by l, after x -> sqrt(d) x, with |b| = 1. Their last column, for the "
    "sum of y^2, does not enter the limit. The risk includes the query's label noise",
    (BELOW, ABOVE),
)
