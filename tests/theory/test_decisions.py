"""The closed answers against a search over integers on exact_risk."""

from dataclasses import replace

import numpy as np
import pytest

from ttt_jax.problem import GaussianTasks, Inference, NotApplicable, Pretraining, Problem
from ttt_jax.theory.decisions import (
    alignment,
    best_context,
    best_scale,
    best_split,
    sample_complexity,
    warm_or_cold,
)
from ttt_jax.theory.pretrained import pretrained_weights, starting_weights
from ttt_jax.theory.risk import exact_risk


def problem(n=6, k=30, d=8, noise_var=0.0, evaluation="fresh"):
    return Problem(n, k, np.linspace(1, 2, d), np.linspace(0.5, 1.5, d), noise_var, evaluation=evaluation)


def best_risk(n, k, weights, given):
    return exact_risk(replace(given, n=n, k=k), weights).optimal


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize("noise_var", [0.0, 5.0])
@pytest.mark.parametrize("weight", [0.05, 0.1, 0.15])
def test_the_switch_is_the_first_k_at_which_the_order_changes(evaluation, noise_var, weight):
    given = problem(noise_var=noise_var, evaluation=evaluation)
    answer = warm_or_cold(given, weight)
    sizes = [*range(1, 40), *range(40, 400, 40)]
    risks = [(best_risk(6, k, weight, given), best_risk(6, k, 0.0, given)) for k in sizes]
    order = [warm < cold for warm, cold in risks]
    changed = [k for k, warm_first in zip(sizes, order, strict=True) if warm_first is not order[0]]
    if answer.switch is None or answer.switch >= 400:
        assert not changed
    elif answer.switch < 40:
        assert answer.switch == changed[0]
    else:
        assert answer.switch <= changed[0] < answer.switch + 40
    assert (answer.warm, answer.cold) == pytest.approx(risks[given.k - 1], rel=1e-10)
    assert answer.better == ("warm" if answer.warm <= answer.cold else "cold")


def test_the_context_used_again_has_no_switch_when_isotropic():
    isotropic = Problem(50, 20, np.ones(100))
    assert warm_or_cold(isotropic).switch is not None
    assert warm_or_cold(replace(isotropic, evaluation="same")).switch is None


def test_best_context_and_sample_complexity_against_a_search():
    given = problem(noise_var=0.5)
    risk = {n: [best_risk(n, k, 0.02, given) for k in range(1, 41)] for n in range(1, 25)}
    assert best_context(given, 0.02, max_n=24) == min(risk, key=lambda n: risk[n][given.k - 1])
    target = 9.0
    answer = sample_complexity(given, target, 0.02, max_n=24)
    reached = [(n, k) for n in risk for k, value in enumerate(risk[n], 1) if value <= target]
    assert answer.n + answer.k == min(map(sum, reached))
    assert best_risk(answer.n, answer.k, 0.02, given) <= target


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize("noise_var", [0.0, 0.5])
def test_no_other_start_on_the_line_is_better_than_the_best_scale(evaluation, noise_var):
    rng = np.random.default_rng(0)
    given, weights = problem(noise_var=noise_var, evaluation=evaluation), 1e-6 * rng.normal(size=(8, 8))
    for start in (weights + 1e-6 * np.eye(8), "pretrained", 1e9):
        scale, risk = best_scale(given, start)
        w = np.asarray(start) if not isinstance(start, str) else starting_weights(start, given, given.n)
        assert exact_risk(given, scale * w).optimal == pytest.approx(risk, rel=1e-9)
        others = np.concatenate([np.linspace(-3, 3, 61), scale / abs(scale) * np.array([0.99, 1.01])]) * abs(scale)
        assert risk <= min(exact_risk(given, c * w).optimal for c in others) * (1 + 1e-9)


def test_the_best_scale_with_the_context_used_again_is_beyond_1():
    given = Problem(20, 80, np.ones(40) / 40**0.5, noise_var=0.5, evaluation="same")
    weights = pretrained_weights(Pretraining(n=20, d=40, task_cov=1 / 40, noise_var=0.5))
    scale, risk = best_scale(given, weights)
    assert scale == pytest.approx(1.0074, abs=1e-4)
    assert risk < exact_risk(given, weights).optimal


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_the_best_split_is_the_best_of_all(evaluation):
    given = problem(n=5, k=12, noise_var=0.5, evaluation=evaluation)
    risks = {n: best_risk(n, 17 - n, 0.01, given) for n in range(1, 17)}
    assert best_split(given, 0.01) == min(risks, key=risks.get) == 11


@pytest.mark.parametrize("feature_cov", [1.0, np.array([1.0, 2.0, 0.5])])
def test_random_tasks_are_answered_by_their_average(feature_cov):
    given = Problem(6, 9, GaussianTasks([0.5, 0.0, 1.0], [0.1, 0.5, 0.3]), feature_cov, 0.5)
    answer = warm_or_cold(given, 0.05)
    curves = [exact_risk(given, w) for w in (0.05, 0.0)]
    assert (answer.warm, answer.cold) == pytest.approx([curve.optimal for curve in curves], rel=1e-10)
    scale, risk = best_scale(given, 0.05)
    assert exact_risk(given, 0.05 * scale).optimal == pytest.approx(risk, rel=1e-10)
    context = best_context(given, 0.05, max_n=12)
    assert context == 1 + np.argmin([exact_risk(replace(given, n=n), 0.05).optimal for n in range(1, 13)])


@pytest.mark.parametrize("d", [1, 7, 100])
def test_a_target_that_is_just_reached_is_reached(d):
    given = Problem(1, 1, np.ones(d) / d**0.5)
    for n in range(1, 40):  # Proposition 4.1 without noise
        answer = sample_complexity(given, (d + 1) / (n + d + 1), max_n=40)
        assert answer.without_ttt == n
        assert (answer.n, answer.k) == (n, 0) or answer.n + answer.k < n


def test_an_unreachable_target():
    assert sample_complexity(problem(noise_var=1.0), 0.5, max_n=20) == (None,) * 5


def test_a_worse_alignment_leaves_more_to_gain():
    first, last = (Problem(10, 20, task) for task in ([1.0] * 10 + [0.0] * 10, [0.0] * 10 + [1.0] * 10))
    weights = [0.05] * 10 + [0.0] * 10
    assert alignment(first, weights).misalignment < alignment(last, weights).misalignment
    assert alignment(first, weights).gain < alignment(last, weights).gain


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_scale(problem(), "zero"), "start must not be 0 to be scaled"),
        (lambda: best_scale(Problem(2, 2, np.ones(3), feature_law="rademacher")), "needs Gaussian features"),
        (
            lambda: warm_or_cold(Problem(2, 2, np.ones(3), feature_law="rademacher")),
            "needs Gaussian features",
        ),
        (lambda: sample_complexity(problem(), "x", max_n=3), "target must be a finite number, got 'x'"),
        (lambda: warm_or_cold(problem(), np.ones(3)), "start must be a scalar or have shape"),
        (lambda: warm_or_cold(problem(), "random"), "start must be one of"),
        (lambda: best_context(problem(), max_n=0), "max_n must be an integer >= 1"),
        (lambda: sample_complexity(problem(), float("nan"), max_n=3), "target must be a finite number"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("context", ["fresh", "same"])
def test_the_short_form_of_the_evaluation_is_the_training_law(context):
    short, long = (problem(noise_var=0.5, evaluation=given) for given in (context, Inference(context)))
    assert warm_or_cold(short, 0.1) == warm_or_cold(long, 0.1)
    assert best_context(short, 0.02, max_n=24) == best_context(long, 0.02, max_n=24)
    assert sample_complexity(short, 9.0, 0.02, max_n=24) == sample_complexity(long, 9.0, 0.02, max_n=24)


@pytest.mark.parametrize(
    ("evaluation", "field"),
    [
        (Inference(n=6), "n"),
        (Inference(feature_cov=2.0), "feature_cov"),
        (Inference(noise_var=0.0), "noise_var"),
        (Inference("same", query_feature_cov=np.ones(8)), "query_feature_cov"),
        (Inference("same", query_noise_var=1.0), "query_noise_var"),
        (Inference(rescale=True), "rescale"),
    ],
)
def test_a_law_at_inference_of_its_own_is_not_applicable(evaluation, field):
    given = problem(evaluation=evaluation)
    for answer in (
        lambda: warm_or_cold(given, 0.1),
        lambda: best_context(given, 0.1, max_n=3),
        lambda: sample_complexity(given, 9.0, max_n=3),
        lambda: best_scale(given, 0.1),
        lambda: best_split(given, 0.1),
    ):
        with pytest.raises(NotApplicable, match=f"needs the training law at inference, but evaluation gives {field}$"):
            answer()
