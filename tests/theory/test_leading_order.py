from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import random_problem
from ttt_jax import (
    GaussianTasks,
    GradientStep,
    Inference,
    Pretraining,
    Problem,
    asymptotic_risk,
    exact_risk,
    pretrained_weights,
)
from ttt_jax.theory import paper


def errors_times_d(evaluation, make_weights, noise_var, spectrum):
    """d * |asymptotic - exact| at the optimum, for doubling d with n = d/2 and k = 2d."""
    products = []
    for d in (64, 128, 256, 512, 1024):
        sx = np.resize(spectrum, d)
        problem = Problem(d // 2, 2 * d, np.ones(d) / np.sqrt(d), sx, noise_var, evaluation=evaluation)
        weights = make_weights(problem)
        exact = exact_risk(problem, weights)
        approximate = asymptotic_risk(problem, weights)
        products.append(d * (approximate.optimal - exact.optimal))
    return np.array(products)


def warm(problem):
    return pretrained_weights(
        Pretraining(problem.n, problem.feature_cov, 1 / problem.d, problem.noise_var, problem.d), dense=False
    )


def best_aligned(n, d, rank):
    """A task in the range of a pretraining law of low rank, and the weights of that law."""
    spectrum = (np.arange(d) < rank) / 1.0
    return Problem(n, d, spectrum), pretrained_weights(Pretraining(n, task_cov=spectrum), dense=False)


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize("start", [warm, lambda problem: np.zeros(())], ids=["warm", "cold"])
@pytest.mark.parametrize("noise_var", [0.0, 0.5])
@pytest.mark.parametrize("spectrum", [[1.0], [0.25, 0.5, 1.0, 2.25]], ids=["isotropic", "correlated"])
def test_error_falls_like_one_over_d(evaluation, start, noise_var, spectrum):
    products = errors_times_d(evaluation, start, noise_var, spectrum)
    assert abs(products[-1] - products[-2]) < 0.15 * abs(products[-1]) + 0.02  # converges, so the error is O(1/d)


@pytest.mark.parametrize("g", [0.3, 2.0])
@pytest.mark.parametrize("a", [0.5, 2.0])
def test_isotropic_limits(a, g):
    d = 20_000
    problem = Problem(int(a * d), int(g * d), np.ones(d) / np.sqrt(d))
    share = g / (1 + g)
    limits = {
        ("fresh", "warm"): 1 / (1 + a) - share / (1 + a) ** 3,
        ("fresh", "cold"): 1 - share,
        ("same", "warm"): (1 - share) / (1 + a),
        ("same", "cold"): 1 - share,
    }
    for (evaluation, start), limit in limits.items():
        weights = warm(problem) if start == "warm" else 0.0
        curve = asymptotic_risk(replace(problem, evaluation=evaluation), weights)
        assert curve.optimal == pytest.approx(limit, rel=5 / d / min(a, 1))


def test_theorems_are_cases_of_the_general_leading_order():
    d = 4000
    problem = Problem(d // 2, 3 * d, np.ones(d) / np.sqrt(d))
    general = asymptotic_risk(problem, warm(problem))
    for theorem in (
        paper.theorem_4_2(problem.n, problem.k, d),
        paper.theorem_4_2(problem.n, problem.k, d, simplified=False),
        paper.theorem_5_3(problem, warm(problem)),
        paper.theorem_c4(problem, warm(problem)),
    ):
        assert theorem.optimal == pytest.approx(general.optimal, rel=10 / d)
        assert theorem.optimal_lr == pytest.approx(general.optimal_lr, rel=10 / d)
    switch = paper.corollary_4_6_switch(0.5)
    assert paper.corollary_5_4_switch(problem, warm(problem)) == pytest.approx(switch, rel=10 / d)


def test_theorem_c4_is_the_leading_order_of_the_preconditioned_step():
    d = 4000
    problem = Problem(d // 2, 3 * d, np.ones(d) / np.sqrt(d), np.resize([0.25, 0.5, 1.0, 2.25], d))
    inverse = 1 / problem.feature_cov
    general = asymptotic_risk(problem, warm(problem), GradientStep(left=inverse, right=inverse))
    theorem = paper.theorem_c4(problem, warm(problem))
    assert (theorem.initial, theorem.optimal) == pytest.approx((general.initial, general.optimal), rel=10 / d)
    assert theorem.optimal_lr == pytest.approx(general.optimal_lr, rel=10 / d)


def test_unsimplified_figure_values():
    """The values that the paper's Figure 1a draws at n = 300, read off the plot to about 0.003."""
    for n_over_d, k_over_d, drawn in [(1, 1, 0.439), (1, 2, 0.418), (1, 100, 0.378), (4, 1, 0.198), (0.1, 100, 0.192)]:
        d = round(300 / n_over_d)
        curve = paper.theorem_4_2(300, k_over_d * d, d, simplified=False)
        assert curve.optimal == pytest.approx(drawn, abs=0.003)


def test_turning_point_of_corollary_4_4():
    g = 2.0
    turning = paper.corollary_4_4_turning_point(g)
    a = np.linspace(0.01, 3, 3000)
    risk = 1 / (1 + a) - g / (1 + g) / (1 + a) ** 3
    assert a[np.argmax(risk)] == pytest.approx(turning, abs=2e-3)
    assert paper.corollary_4_4_turning_point(0.5) == 0


def test_theorem_4_5_noisy_is_exact_and_a_parabola():
    curve = paper.theorem_4_5(7, 9, 5, task_norm2=2.0, noise_var=0.3)
    exact = exact_risk(Problem(7, 9, np.sqrt(2 / 5) * np.ones(5), noise_var=0.3), 0.0)
    assert (curve.optimal, curve.optimal_lr) == pytest.approx((exact.optimal, exact.optimal_lr), rel=1e-12)


def test_weights_that_do_not_commute_with_the_features():
    """R_0 + s2 is Lemma B.2 without its term n p'W'Sx W p."""
    problem, weights = random_problem(1)
    p = problem.feature_cov @ problem.task
    missing = problem.n * (weights @ p) @ problem.feature_cov @ (weights @ p)
    for evaluation in ("fresh", "same"):
        curve = asymptotic_risk(replace(problem, evaluation=evaluation), weights)
        assert curve.initial + missing == pytest.approx(paper.lemma_b2(problem, weights), rel=1e-12)


def test_dense_and_diagonal_agree():
    problem, weights = random_problem(5, dense=False)
    dense = Problem(problem.n, problem.k, problem.task, np.diag(problem.feature_cov), problem.noise_var)
    for evaluation in ("fresh", "same"):
        a, b = (asymptotic_risk(replace(p, evaluation=evaluation), weights) for p in (problem, dense))
        assert (a.c0, a.c1, a.c2) == pytest.approx((b.c0, b.c1, b.c2), rel=1e-12)


OF_A_STEP = paper.theorem_5_3, paper.theorem_c4, paper.corollary_5_4_switch


@pytest.mark.parametrize(
    ("function", "problem", "weights", "reason"),
    [
        (paper.theorem_5_3, Problem(9, 9, np.ones(3), noise_var=1), 0.01, "noise_var must be 0"),
        (
            paper.theorem_5_3,
            Problem(9, 9, np.ones(3), feature_cov=2.0),
            0.01,
            "feature_cov must be the identity .* 1$",
        ),
        (
            paper.theorem_5_3,
            Problem(9, 9, np.ones(3)),
            np.ones((3, 3)),
            "weights must be diagonal .* up to 1 b",
        ),
        (paper.theorem_5_3, Problem(9, 9, np.ones(3)), 0.2, r"eigenvalues in \[0, 1/\(n\+1\)\]"),
        (paper.theorem_5_3, Problem(9, 9, GaussianTasks(d=3)), 0.01, "task must be one vector"),
        (paper.theorem_c4, Problem(9, 9, np.ones(2), [1.0, 2.0]), np.ones((2, 2)), "must commute"),
        (paper.theorem_c4, Problem(9, 9, np.ones(2), [1.0, 0.0]), 0.01, "nonsingular"),
        (paper.theorem_c4, Problem(9, 9, np.ones(2), noise_var=1), 0.01, "noise_var must be 0"),
        (paper.corollary_5_4_switch, Problem(9, 9, np.ones(3)), 0.0, "weights must not be 0"),
        (paper.corollary_5_4_switch, Problem(9, 9, np.ones(3)), 0.3, "cold start is better"),
        (paper.corollary_5_4_switch, *best_aligned(250, 500, 1), "warm start wins at every k"),
        (paper.corollary_5_4_switch, *best_aligned(50, 40, 2), "warm start wins at every k"),
        (asymptotic_risk, Problem(9, 9, np.zeros(3)), 0.1, "task with signal"),
        (paper.lemma_b2, Problem(9, 9, np.ones(3), feature_law="rademacher"), 0.1, "Lemma B.2 needs Gaussian features"),
        *(
            (function, Problem(9, 9, np.ones(3), evaluation=Inference(n=7)), 0.01, "training law at inference")
            for function in (paper.lemma_b2, paper.misalignment, *OF_A_STEP)
        ),
        *(
            (function, Problem(9, 9, np.ones(3), evaluation="same"), 0.01, "context 'fresh' at evaluation, got 'same'")
            for function in OF_A_STEP
        ),
    ],
)
def test_problems_outside_a_theorem_are_refused_with_the_reason(function, problem, weights, reason):
    with pytest.raises(ValueError, match=reason):
        function(problem, weights)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paper.proposition_4_1_risk(0, -1), "n must be positive, got 0"),
        (lambda: paper.proposition_4_1_risk(2, 3, noise_var=-1), "noise_var must be a finite number >= 0, got -1"),
        (lambda: paper.theorem_4_2(-5, 3, 4), "n must be positive, got -5"),
        (lambda: paper.theorem_4_2(5, 3, 4, 0.0), "task_norm2 must be positive, got 0.0"),
        (lambda: paper.theorem_4_5(5, 3, 4, -1, -3), "task_norm2 must be a finite number >= 0, got -1"),
        (lambda: paper.corollary_4_4_turning_point(-0.5), "k_over_d must be a finite number >= 0, got -0.5"),
        (lambda: paper.corollary_4_6_switch(-2), "n_over_d must be positive, got -2"),
        (lambda: paper.lemma_c1(-2, [1.0]), "n must be positive, got -2"),
        (lambda: paper.lemma_c1(2, [[1.0]]), r"task must be a vector of shape \(d,\), got shape \(1, 1\)"),
        (lambda: paper.lemma_c1(2, [0.0]), r"task must not be 0 for Lemma C.1, got \[0.0\]"),
        (lambda: paper.proposition_5_2_weights(3, [1, -0.5]), "task_spectrum must .* got the eigenvalue -0.5"),
    ],
)
def test_sizes_without_meaning_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
