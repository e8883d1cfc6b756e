"""Claims about the variance, a quantile and the share of hurt prompts: right ones pass, wrong ones do not."""

import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import Folds, LinearAttention, Problem, check, functional, risk_law
from ttt_jax.verdict.law_quantities import of_prompts

PROBLEMS = [Problem(60, 60, np.ones(4) / 2, evaluation="same"), Problem(80, 40, np.ones(4), evaluation="same")]
QUANTITIES = {
    "variance": (lambda law: law.var(), {}),
    "prob_hurt": (lambda law: law.prob_hurt(), {}),
    "quantile": (lambda law: law.quantile(0.8), {"level": 0.8}),
}


def step(problem):
    return 1.5 * risk_law(problem, 0.008).procedure.lr


def claim(ask, factor=1.0):
    return lambda problem, weights: factor * ask(risk_law(problem, weights, step(problem)))


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_right_claim_passes_and_a_wrong_one_does_not(quantity):
    ask, options = QUANTITIES[quantity]
    options = options | {"quantity": quantity, "start": 0.008, "procedure": step}
    right, wrong = (check(claim(ask, factor), PROBLEMS, **options) for factor in (1.0, 1.3))
    assert right.exact_ok
    assert right.empirical_ok
    assert wrong.exact_ok is False
    assert wrong.empirical_ok is False
    assert right.rows[0].stderr_reliable is (None if quantity == "variance" else True)
    assert not check(claim(ask, 1.002), PROBLEMS, **options | {"num_tasks": 0})


def test_without_a_closed_form_simulation_judges_alone():
    problem = Problem(20, 20, np.ones(4) / 2, noise_var=0.3)
    share = risk_law(problem, 0.02, 2e-5, num_tasks=100_000, seed=5).prob_hurt()
    options = {"quantity": "prob_hurt", "start": 0.02, "procedure": 2e-5, "num_tasks": 4000}
    right, wrong = (check(lambda value=value: value, [problem], **options) for value in (share, 1.2 * share))
    assert right.exact_ok is None
    assert right
    assert not wrong


def test_what_too_few_prompts_show_is_not_judged():
    options = {"quantity": "prob_hurt", "start": 0.008, "procedure": 1e-9, "exact": None, "num_tasks": 400}
    assert check(lambda: 0.01, PROBLEMS[:1], **options).empirical_ok is None
    tail = {"quantity": "quantile", "level": 0.99, "start": 0.008, "procedure": 1e-9, "exact": None, "num_tasks": 400}
    assert check(lambda: 0.01, PROBLEMS[:1], **tail).empirical_ok is None
    heavy = Problem(2, 2, [1.0, 0.0], evaluation="same")
    found = check(lambda: 1.0, [heavy], quantity="variance", start=0.0, procedure=0.01, exact=None, num_tasks=400)
    assert found.rows[0].stderr_reliable is False


def test_none_hurt_is_no_agreement_with_a_share():
    prompts = np.stack([np.ones(1000), np.zeros(1000)], 1)
    share, stderr, reliable = of_prompts("prob_hurt", prompts, 0.1, None)
    assert share == 0
    assert stderr == pytest.approx(0.3 / 1000**0.5)
    assert reliable


def test_standard_errors_cover():
    rng, level, count = np.random.default_rng(0), 0.9, 2000
    for quantity, exact in (("quantile", -np.log(1 - level)), ("prob_hurt", 0.3), ("variance", 1.0)):
        outside = 0
        for _ in range(400):
            after = rng.exponential(size=count)
            before = after + rng.choice([1.0, -1.0], count, p=[0.7, 0.3])
            value, stderr, _ = of_prompts(quantity, np.stack([before, after], 1), exact, level)
            outside += abs(value - exact) > 1.96 * stderr
        assert 5 < outside < 40  # 20 expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantity": "quantile"}, "level must be given for the quantity 'quantile' and no other, got None"),
        (
            {"quantity": "variance", "level": 0.5},
            "level must be given for the quantity 'quantile' and no other, got 0.5",
        ),
        ({"quantity": "quantile", "level": 1.0}, "level must be between 0 and 1, got 1.0"),
        ({"quantity": "variance", "num_tasks": 1}, "num_tasks must be 0, or >= 2 .* quantity variance, got 1"),
        (
            {"quantity": "variance", "simulate": lambda *_, **__: None},
            "num_tasks must be 0, or >= 2 by estimate_risk, .* got a replacement",
        ),
        (
            {"quantity": "variance", "procedure": Folds(2, 1e-6)},
            "procedure must be a GradientStep for the quantity variance, got Folds",
        ),
        (
            {"quantity": "variance", "start": functional(LinearAttention(jnp.zeros((4, 4)))), "procedure": 0.1},
            r"start must be W for the quantity variance, got \(model, params\)",
        ),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check(lambda: 1.0, PROBLEMS, **({"start": 0.0} | options))
