"""The exact risk for every W, Sx, b, s2, n, k: risk(lr) = c0 - c1 lr + c2 lr^2.

With r = b - W u, C = E uu', M = E u r', Q = k (k+1) Sx^3 + k tr(Sx^2) Sx and q = s2 k tr(Sx^2):

    c0 = s2 + E r'Sx r,   c1 = 4 k tr(Sx^2 M'M),  c2 = 4 E[u'C u (r'Q r + q)]          (fresh context)
                          c1 = 4 k E[|u|^2 r'Sx^2 r],  c2 = 4 E[|u|^4 (r'Q r + q)]     (same context)

Claims `inference_law` and `projected_step` say what becomes of it with other laws at inference and for other steps.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sympy import QQ
from sympy.polys.rings import ring

from proofs_check.claim import Claim, Verdict, both
from proofs_check.evidence import oracle, symbolic
from proofs_check.evidence.equality import FLOAT64, same_numbers
from proofs_check.evidence.moments import (
    QUADRATIC_LINEAR,
    QUADRATIC_PAIR,
    QUADRATIC_TRIPLE,
    chi2_mean,
    quadratic,
    quadratic_linear,
    quadratic_pair,
    quadratic_triple,
)
from proofs_check.evidence.simulation import Given, compare_problems, judge
from proofs_check.setting import AtInference, Group, Setting
from ttt_jax.problem import Inference, Problem
from ttt_jax.procedures import GradientStep
from ttt_jax.theory import exact_risk

SAME_COEFFICIENTS = (4, 4, 1, 1, 1, 2, 1, 1, 1)
"""Of c1; of c2; of k(k+1), of k tr(Sx^2) in Q; of q; of the cross term in r'Qr; of sq2; of n(n+1), of n tau in C."""
COEFFICIENTS = (*SAME_COEFFICIENTS, 1, 1)
"""And of n(n+1), of n tau in the C of a new context."""


class Case(NamedTuple):
    """A problem, a start and a step, as arrays of numbers of any kind; None stands for the identity or training law."""

    task: Any
    sx: Any
    s2: Any
    w: Any
    n: Any
    k: Any
    left: Any = None
    right: Any = None
    law: AtInference | None = None
    se: Any = None
    sq: Any = None


def formula(c, case: Case, evaluation):
    """(c0, c1, c2) in any kind of number, with the laws of `inference_law` and the steps of `projected_step`."""
    task, sx, s2, w, n, k = case[:6]
    law = case.law or AtInference(n, s2, s2)
    one = np.eye(len(task), dtype=int).astype(object)
    left, right = (one if matrix is None else matrix for matrix in (case.left, case.right))
    se = sx if case.se is None else case.se
    sq = se if case.sq is None else case.sq
    p, p_e = sx @ task, se @ task
    tau, tau_e = task @ p + s2, task @ p_e + law.noise_var
    g = sx * tau - np.outer(p, p)  # numbers stay on the right of arrays: they may be symbols
    second = np.outer(p, p) * (c[7] * n * (n + 1)) + sx * (c[8] * n * tau)  # C
    c_e = c[9:] or c[7:9]
    second_e = np.outer(p_e, p_e) * (c_e[0] * law.n * (law.n + 1)) + se * (c_e[1] * law.n * tau_e)
    w_e = w * law.scale
    pull = sx @ left.T @ sq
    metric = left.T @ sq @ left
    trace = np.trace(sx @ metric)
    q_matrix = sx @ metric @ sx * (c[2] * k * (k + 1)) + sx * (c[3] * k * trace)
    q = c[4] * s2 * k * trace

    def times_residual(scale, matrix):
        """E[u'Fu r'Ar] for symmetric F = scale, A = matrix."""
        h, curved = w.T @ matrix @ task, w.T @ matrix @ w
        return (
            (task @ matrix @ task) * chi2_mean(quadratic(scale, p, g), n)
            - c[5] * chi2_mean(quadratic_linear(QUADRATIC_LINEAR, scale, h, p, g), n)
            + chi2_mean(quadratic_pair(QUADRATIC_PAIR, scale, curved, p, g), n)
        )

    if evaluation == "fresh":
        c0 = task @ sq @ task - (task @ sq @ w_e @ p_e) * (c[5] * law.n) + np.trace(w_e.T @ sq @ w_e @ second_e)
        cross, cross_e = np.outer(p, task) * n - second @ w.T, np.outer(p_e, task) * law.n - second_e @ w_e.T
        c1 = np.trace(pull @ cross_e.T @ right.T @ cross) * law.scale
        overlap = right @ second_e @ right.T * law.scale**2
        c2 = times_residual(overlap, q_matrix) + q * chi2_mean(quadratic(overlap, p, g), n)
    else:
        c0 = task @ sq @ task - (task @ sq @ w @ p) * (c[5] * n) + np.trace(w.T @ sq @ w @ second)
        right, pull = ((matrix + matrix.T) / 2 for matrix in (right * QQ(1), pull))
        c1 = times_residual(right, pull)
        h, curved = w.T @ q_matrix @ task, w.T @ q_matrix @ w
        fourth = quadratic_pair(QUADRATIC_PAIR, right, right, p, g)
        # E[(u'Ru)^2 h'u] = t h'p E(u'Ru)^2 + 4 t E[(u'Ru) (R G h)'u]
        stein = quadratic_linear(QUADRATIC_LINEAR, right, right @ g @ h, p, g)
        linear = {power + 1: (h @ p) * x for power, x in fourth.items()}
        c2 = (task @ q_matrix @ task + q) * chi2_mean(fourth, n)
        c2 -= c[5] * (chi2_mean(linear, n) + chi2_mean({power + 1: 4 * x for power, x in stein.items()}, n))
        c2 += chi2_mean(quadratic_triple(QUADRATIC_TRIPLE, right, right, curved, p, g), n)
    return c0 + c[6] * law.query_noise_var, c[0] * k * c1, c[1] * c2


def as_seen(case: Case, evaluation) -> Case:
    """With the same context only the query has a law of its own."""
    if evaluation == "fresh" or not case.law:
        return case
    return case._replace(law=AtInference(case.n, case.s2, case.law.query_noise_var), se=case.sx)


def of_oracle(case: Case, evaluation="fresh"):
    laws = {"inference": case.law, "context_cov": case.se, "query_cov": case.sq}
    return oracle.risk_coefficients(*case[:6], evaluation, left=case.left, right=case.right, **laws)


def random_case(seed: int, d: int, n: int, k: int) -> Case:
    """Correlated features, non-symmetric W of the size of a useful one, noise; all rational."""
    rng = random.Random(seed)
    sx = random_covariance(rng, d)
    w = np.array([[(quarter(rng) / 2 + (i == j)) / (2 * n + d) for j in range(d)] for i in range(d)], dtype=object)
    return Case(np.array([quarter(rng) + 1 for _ in range(d)], dtype=object), sx, QQ(rng.randint(0, 2), 2), w, n, k)


def quarter(rng):
    return QQ(rng.randint(-4, 4), 4)


def random_covariance(rng, d):
    root = [[quarter(rng) + (i == j) for j in range(d)] for i in range(d)]
    return np.array([[sum(x * y for x, y in zip(a, b, strict=True)) for b in root] for a in root], dtype=object)


def in_floats(case: Case, evaluation="fresh") -> Given:
    """What the package is given."""

    def array(matrix):
        return None if matrix is None else np.array(matrix, dtype=float)

    law: str | Inference = evaluation
    if case.law:
        query = {"query_feature_cov": array(case.sq), "query_noise_var": float(case.law.query_noise_var)}
        context = {"n": case.law.n, "feature_cov": array(case.se), "noise_var": float(case.law.noise_var)}
        rescale = case.law.scale != 1
        law = Inference("same", **query) if evaluation == "same" else Inference(**context, **query, rescale=rescale)
    task, sx, _, w = (array(x) for x in case[:4])
    problem = Problem(case.n, case.k, task, sx, float(case.s2), evaluation=law)
    return Given(problem, w, GradientStep(left=array(case.left), right=array(case.right)))


def diagonal_proof(c, symbols: Sequence[str], numbers: dict[str, Any], evaluation) -> Verdict:
    """d = 2 and diagonal matrices: entries x of Sx, w, l, r of W, L, R, e, q of Se, Sq; n_e, t2, q2 at inference."""
    domain, *elements = ring(symbols, QQ)
    value = {name: domain.ground_new(QQ.convert(number)) for name, number in numbers.items()}
    value |= dict(zip(symbols, elements, strict=True))

    def entries(letter):
        return [value[f"{letter}{i}"] for i in range(2)] if f"{letter}0" in value else None

    def diagonal(letter):
        own = entries(letter)
        return own and np.array([[own[0], domain.zero], [domain.zero, own[1]]])

    law = AtInference(value["n_e"], value["t2"], value["q2"], domain.one) if "n_e" in value else None
    matrices = {"left": diagonal("l"), "right": diagonal("r"), "se": diagonal("e"), "sq": diagonal("q")}
    training = np.array(entries("b")), diagonal("x"), value["s2"], diagonal("w"), value["n"], value["k"]
    claimed = formula([QQ.convert(a) for a in c], Case(*training, **matrices, law=law), evaluation)
    ones = [domain.one] * 2
    columns = [entries("x"), entries("w"), entries("b"), entries("l") or ones, entries("r") or ones]
    columns += [entries("e") or entries("x"), entries("q") or entries("e") or entries("x")]
    groups = tuple(Group(1, *(x.as_expr() for x in column)) for column in zip(*columns, strict=True))
    n, k, s2 = (value[name].as_expr() for name in ("n", "k", "s2"))
    numbers_at = AtInference(*(x.as_expr() for x in law)) if law else None
    derived = symbolic.risk_coefficients(Setting(n, k, groups, s2, evaluation, numbers_at))
    same = all(x == domain.from_expr(expr) for x, expr in zip(claimed, derived, strict=True))
    return Verdict(same, f"identity at d = 2 for diagonal matrices, {evaluation}" if same else "a coefficient differs")


def parabola_claim(
    name: str,
    number: str,
    coefficients: tuple,
    evaluations: Sequence[str],
    symbols: tuple[str, dict[str, Any]],
    cases: Sequence[Case],
    simulated: Sequence[Case],
) -> Claim:
    """A claim about (c0, c1, c2): cases for the oracle, and for simulation those with long contexts."""
    short, long = ({e: [as_seen(case, e) for case in every] for e in evaluations} for every in (cases, simulated))
    given = {e: [in_floats(case, e) for case in long[e]] for e in evaluations}

    def prove(c):
        names, numbers = symbols
        return both(*(diagonal_proof(c, names.split(), numbers, evaluation) for evaluation in evaluations))

    def independent(c):
        c = [QQ.convert(a) for a in c]
        rational, package = [], []
        for evaluation in evaluations:
            for case in short[evaluation]:
                rational += zip(formula(c, case, evaluation), of_oracle(case, evaluation), strict=True)
            for one, case in zip(given[evaluation], long[evaluation], strict=True):
                curve = exact_risk(*one)
                package += zip((curve.c0, curve.c1, curve.c2), of_oracle(case, evaluation), strict=True)
        return both(same_numbers(rational), same_numbers(package, tolerance=FLOAT64))

    def empirical(c, effort):
        c = [QQ.convert(a) for a in c]
        verdicts = []
        for evaluation in evaluations:
            claimed = [formula(c, case, evaluation) for case in long[evaluation]]
            verdicts.append(judge(compare_problems(given[evaluation], claimed, effort)))
        return both(*verdicts)

    return Claim(name, number, coefficients, prove, independent, empirical)


SHORT = [random_case(seed, d, n, k) for seed, (d, n, k) in enumerate([(1, 1, 1), (2, 3, 1), (2, 1, 5), (3, 4, 2)])]
LONG = [random_case(seed, 3, n, k) for seed, (n, k) in enumerate([(200, 60), (300, 150), (240, 240)])]
"""Problems at which the tails of the risk, also with the same context, are within the reach of a quick simulation."""
GIVEN = [in_floats(case) for case in LONG]
SYMBOLS: tuple[str, dict[str, Any]] = "n k b0 b1 x0 x1 w0 w1 s2", {}


def claim_for(evaluation: str, coefficients: tuple) -> Claim:
    name = f"Exact risk, {evaluation} context"
    return parabola_claim(name, "this project", coefficients, [evaluation], SYMBOLS, SHORT, LONG)


CLAIM = claim_for("fresh", COEFFICIENTS)
