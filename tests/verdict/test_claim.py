"""Right claims pass, wrong ones do not, and nonsense is refused by name."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy as sp

from tests.verdict.claims import LR, NORM2, PROBLEMS, D, K, N, isotropic, of_theorem_4_5
from ttt_jax import Folds, GradientStep, GradientSteps, LinearAttention, Optimizer, functional
from ttt_jax.problem import Problem
from ttt_jax.simulation import estimate_risk
from ttt_jax.theory.paper import theorem_4_5
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.claim import check
from ttt_jax.verdict.comparison import exact_variance


@pytest.mark.parametrize("quantity", ["gain", "optimal_lr", "initial"])
def test_an_exact_claim_passes_and_one_off_by_five_percent_does_not(quantity):
    problems = PROBLEMS[0], Problem(30, 20, np.ones(6), noise_var=0.1)
    right, wrong = (
        check(of_theorem_4_5(quantity, factor), problems, start="zero", quantity=quantity, num_tasks=40_000)
        for factor in (1.0, 1.05)
    )
    assert right.exact_ok
    assert right.empirical_ok
    assert not wrong.exact_ok
    if right.detectable < 0.05:
        assert not wrong.empirical_ok


def test_sympy_claims():
    gain = 4 * LR * K * N**2 * NORM2**2 - 4 * LR**2 * K * (K + D + 1) * N**2 * (N**2 + 4 * N + 3 + D) * NORM2**3
    problems = [Problem(6, 9, np.ones(3)), Problem(2, 4, [2.0])]
    assert check(gain, problems, start="zero", quantity="gain", procedure=1e-4, num_tasks=0).exact_ok
    assert not check(1.001 * gain, problems, start="zero", quantity="gain", procedure=1e-4, num_tasks=0)


def test_two_symbols_of_one_name_are_one_number():
    claim = N / sp.Symbol("n", positive=True) * K / (K + D + 1) * N**2 / (N**2 + 4 * N + 3 + D)
    assert check(claim, [Problem(6, 9, np.ones(3) / 3**0.5)], start="zero", quantity="gain", num_tasks=0)


def test_nothing_compared_is_not_agreement():
    one_task = check(lambda: 1.0, PROBLEMS, start=0.0, procedure=0.0, num_tasks=1, exact=None)
    assert one_task.empirical_ok is None
    assert not one_task
    assert replace(one_task, limit_z=1.0).verdict == "open"  # nor is a limit that unseen tails would decide


def test_parameters_of_a_claim_may_have_defaults():
    def claim(n, k, d, factor=1.0, **other):
        return factor * theorem_4_5(n, k, d).optimal

    problems = [Problem(6, 9, np.ones(3) / 3**0.5)]
    assert check(claim, problems, start="zero", num_tasks=0)
    assert not check(partial(claim, factor=1.1), problems, start="zero", num_tasks=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantity": "loss"}, "quantity must be one of"),
        ({"problems": []}, "problems must not be empty"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1 - 1e-9, got 1.0"),
        ({"confidence": 1 - 1e-16}, "confidence must be between 0 and 1 - 1e-9"),
        ({"approximate": True, "problems": PROBLEMS[:1]}, r"at least two sizes d, all different, .*got \[6\]"),
        ({"approximate": True, "problems": [isotropic(d) for d in (8, 8, 16)]}, r"got \[8, 8, 16\]"),
        (
            {"approximate": True, "claim": lambda: 0.0},
            "claim must not be 0, .* if approximate, got 0 at n = 40, k = 12, d = 6",
        ),
        ({"problems": PROBLEMS[0]}, "got one Problem: put it in a list"),
        ({"problems": [(4, 8, 4)]}, r"must be of type Problem, got \(4, 8, 4\)"),
        ({"claim": 0.25}, "claim must be a function or a sympy expression, got 0.25"),
        ({"claim": 1 / (N - 40)}, "finite real number, got zoo at n = 40, k = 12, d = 6"),
        ({"claim": sp.sqrt(-N)}, r"finite real number, got .*I at n = 40"),
        ({"claim": lambda n: float("nan")}, "finite real number, got nan at n = 40"),
        ({"claim": lambda n: [1.0, 2.0]}, r"finite real number, got \[1.0, 2.0\]"),
        ({"claim": lambda n: np.complex128(1 + 2j)}, r"finite real number, got \(1\+2j\)"),
        ({"claim": lambda n: 10**400}, "finite real number, got 1000"),
        ({"claim": lambda n, d: n > d}, "finite real number, got True at n = 40"),
        ({"claim": lambda n: np.bool_(True)}, "finite real number, got True at"),
        ({"claim": lambda n: np.array([True, False])}, r"finite real number, got \[ True False\] at"),
        ({"claim": lambda n: np.array(True, dtype=object)}, "finite real number, got True at"),
        ({"claim": N > D}, "finite real number, got True at"),
        ({"claim": sp.true}, "finite real number, got True at"),
        ({"claim": lambda n: sp.Symbol("x") > 3}, "finite real number, got x > 3 at"),
        ({"claim": lambda n: "1.0"}, "finite real number, got 1.0 at"),
        ({"claim": lambda n: np.ma.masked}, "finite real number, got -- at"),
        ({"claim": lambda n: None}, "finite real number, got None at"),
        ({"claim": lambda n: np.zeros((40, 40))}, r"finite real number, got \[\[0. 0. .*\.\.\. at n = 40"),
        ({"approximate": True, "rate": 0}, "rate must be positive, got 0"),
        ({"approximate": True, "rate": "1"}, "rate must be a finite number, got '1'"),
        ({"rate": 1}, "rate must be None unless approximate, got 1"),
        ({"approximate": "no"}, "approximate must be True or False, got 'no'"),
        ({"confidence": "high"}, "confidence must be a finite number, got 'high'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"procedure": None}, "procedure must be a step size or a procedure such as .*, got None"),
        ({"quantity": "optimal_lr", "procedure": 0.0, "num_tasks": 2}, "lr must not be 0"),
        ({"exact": None, "procedure": 0.0}, "nothing to compare with"),
        ({"claim": lambda: int("x")}, "claim must not raise, got ValueError: invalid literal"),
        ({"claim": lambda: exit(3)}, "claim must not raise, got SystemExit: 3"),
        ({"problems": (PROBLEMS[i] for i in (0, 99))}, "problems must not raise, got IndexError: list index"),
        ({"exact": 1}, "exact must be a function or None, got 1"),
        ({"simulate": "no"}, "simulate must be a function, got 'no'"),
        ({"start": np.ones(3)}, r"start must be a scalar or have shape \(6,\) or \(6, 6\), got \(3,\)"),
        ({"start": (0.1, 0.2)}, r"start must be W, or \(model, params\) .*, got \(0.1, 0.2\)"),
        (
            {"start": functional(LinearAttention(jnp.zeros((3, 3)))), "procedure": 0.1},
            "start must be a model for n = 40, k = 12, d = 6, got TypeErr",
        ),
        (
            {"problems": [Problem(6, 6, np.ones(3), feature_law="rademacher")], "procedure": 0.1},
            "got 0 at n = 6, k = 6, d = 3",
        ),
        ({"quantity": "variance", "num_tasks": 1}, "num_tasks must be 0, or >= 2 by estimate_risk, .* variance, got 1"),
        (
            {"quantity": "variance", "procedure": Folds(2)},
            "procedure must be a GradientStep for .* variance, got Folds",
        ),
        ({"claim": lambda q: q}, "claim may use n, k, d, .*, got q"),
        ({"claim": sp.Symbol("eta")}, "claim may use n, k, d, .*, got eta"),
        ({"start": "random"}, "start must be one of"),
        ({"start": LinearAttention(jnp.zeros((6, 6)))}, r"start must be W, or \(model, params\) .*got LinearAttention"),
        ({"procedure": "sign"}, "procedure must be a step size or .* such as .*, or 'optimal', got 'sign'$"),
        ({"procedure": "folds"}, "procedure must be .*, got 'folds'; ttt_jax.procedures.make_procedure takes names"),
        ({"procedure": Folds}, "procedure must be a step size or a procedure such as .*, got <class"),
        ({"exact": None, "num_tasks": 2}, "lr must be a number"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    defaults = {"claim": lambda n: n, "problems": PROBLEMS, "num_tasks": 0}
    with pytest.raises(ValueError, match=message):
        check(**(defaults | arguments))


def known(problem, start, procedure, **options):
    """In place of a simulation: the exact risk under Gaussian features, with a standard error of 1%."""
    gaussian = Problem(problem.n, problem.k, problem.task)
    mean = exact_risk(gaussian, start).at(procedure.lr)
    return SimpleNamespace(mean=mean, stderr=0.01 * mean, stderr_reliable=problem.n != 90)


def test_a_row_without_an_exact_value_does_not_hide_the_others():
    problems = [Problem(60, 8, np.ones(4) / 2, feature_law=law) for law in ("gaussian", "rademacher")]
    options = {"start": 0.0, "procedure": 0.0, "simulate": known, "num_tasks": 10}
    right, wrong = (check(lambda risk=risk: risk, problems, **options) for risk in (1.0, 1.003))
    assert right.verdict == "holds"
    assert "exact: agrees in 1 of 2 rows" in str(right)
    assert wrong.empirical_ok
    assert wrong.exact_ok is False


def test_a_claim_is_open_if_a_row_was_compared_with_nothing():
    problems = [Problem(n, 8, np.ones(4) / 2) for n in (60, 90)]
    options = {"start": 0.0, "procedure": 0.0, "simulate": known, "exact": None}
    assert check(lambda: 1.0, problems[:1], **options).verdict == "holds"
    unseen = check(lambda: 1.0, problems, **options)
    assert unseen.empirical_ok
    assert unseen.verdict == "open"
    assert "not every row was compared with something" in str(unseen)
    assert check(lambda: 1.1, problems, **options).verdict == "refuted"


def test_every_simulation_has_a_seed_of_its_own():
    seeds = []

    def recorded(problem, weights, procedure, *, seed, **options):
        seeds.append(seed)
        return SimpleNamespace(mean=1 + (procedure.lr - 0.1) ** 2, stderr=0.1)

    check(lambda: 0.0, PROBLEMS, start=0.0, quantity="optimal_lr", procedure=0.1, simulate=recorded)
    assert len(seeds) == len(set(seeds)) == 3 * len(PROBLEMS)


def test_a_gain_on_the_same_tasks_is_seen_three_times_as_sharply():
    """At half the optimal step most of the risk before and after is common to both."""
    problem = [Problem(40, 40, np.ones(8) / 8**0.5)]
    lr = exact_risk(problem[0], 0.01).optimal_lr / 2
    claim = lambda problem: exact_risk(problem, 0.01).initial - exact_risk(problem, 0.01).at(lr)  # noqa: E731
    options = {"start": 0.01, "procedure": lr, "quantity": "gain", "num_tasks": 4000, "exact": None}
    together = check(claim, problem, **options)
    apart = check(claim, problem, **options, simulate=partial(estimate_risk, block_size=512))
    assert together
    assert 3 * together.rows[0].stderr < apart.rows[0].stderr


def test_a_single_mean_is_judged_by_the_exact_variance():
    problem = Problem(40, 40, np.ones(4) / 2, evaluation="same")
    exact = exact_risk(problem, 0.01)
    stderr = (exact_variance(problem, 0.01, GradientStep(exact.optimal_lr)) / 500) ** 0.5
    for seed in (0, 1):
        result = check(lambda: exact.optimal, [problem], start=0.01, num_tasks=500, seed=seed)
        assert result.rows[0].stderr == pytest.approx(stderr, rel=1e-4)
        assert result


@pytest.mark.parametrize("procedure", [Folds(2, 3e-5), GradientSteps([3e-5, 3e-5]), Optimizer(optax.sgd(3e-5), 2)])
def test_what_has_no_law_of_its_tails_is_judged_and_says_that_nobody_assessed_them(procedure):
    problem = Problem(10, 10, np.ones(4) / 2)
    gain = [
        float(np.atleast_1d(estimate_risk(problem, 0.05, one, num_tasks=20_000, seed=9).mean)[-1])
        for one in (Folds(2, 0.0) if isinstance(procedure, Folds) else 0.0, procedure)
    ]
    result = check(
        lambda: gain[0] - gain[1], [problem], start=0.05, procedure=procedure, quantity="gain", num_tasks=2000
    )
    assert result.rows[0].stderr_reliable is None
    assert result.empirical_ok
    assert "not assessed" in str(result)
    assert not check(lambda: 2 * gain[0], [problem], start=0.05, procedure=procedure, quantity="gain", num_tasks=2000)


def test_a_right_claim_is_not_refuted_by_tails_that_its_own_sample_shows():
    """Three large steps: two in five runs of 2000 tasks are more than 2.6 of their standard errors from the mean."""
    problem, steps = Problem(12, 12, np.ones(3) / 3**0.5, noise_var=0.1), GradientSteps([1e-4] * 3)
    exact = exact_risk(problem, 0.02, steps).final
    for seed in range(3):
        result = check(lambda: exact, [problem], start=0.02, procedure=steps, num_tasks=2000, seed=seed)
        assert result.rows[0].stderr_reliable is False
        assert result.verdict == "holds"


def test_steps_with_an_exact_path_are_compared_with_it():
    problems, steps = [Problem(20, 20, np.ones(6))], GradientSteps([1e-6, 1e-6], new_context=True)
    path = exact_risk(problems[0], 0.02, steps)
    for quantity, value in (("initial", path.initial), ("risk", path.final), ("gain", path.initial - path.final)):
        assert check(lambda value=value: value, problems, start=0.02, procedure=steps, quantity=quantity, num_tasks=0)
    with pytest.raises(ValueError, match="quantity must not be optimal_lr for GradientSteps"):
        check(lambda: 1.0, problems, start=0.02, procedure=steps, quantity="optimal_lr", num_tasks=8)


def test_a_model_is_judged_by_simulation_alone():
    start = functional(LinearAttention(0.02 * jnp.eye(4)))
    problem = Problem(10, 10, np.ones(4) / 2)
    exact = exact_risk(problem, 0.02).at(1e-5)
    result = check(lambda: exact, [problem], start=start, procedure=1e-5, num_tasks=2000)
    assert result.exact_ok is None
    assert result.empirical_ok
