"""The harness: right claims pass, wrong ones do not, and nonsense is refused by name."""

import numpy as np
import pytest
import sympy as sp

from ttt_jax.asymptotic import asymptotic_risk, theorem_4_2, theorem_4_5
from ttt_jax.check import check
from ttt_jax.problem import Problem

PROBLEMS = [Problem(6, 9, np.ones(3), noise_var=0.5), Problem(2, 4, np.ones(5), noise_var=0.1)]
N, K, D, LR, NORM2 = sp.symbols("n k d lr task_norm2")


def isotropic(d, a=0.5, g=2.0):
    return Problem(round(a * d), round(g * d), np.ones(d) / np.sqrt(d))


def leading_order(factor=1.0):
    return lambda problem, weights: factor * asymptotic_risk(problem, weights).optimal


def of_theorem_4_5(field, factor=1.0):
    def claim(n, k, d, task_norm2, noise_var):
        curve = theorem_4_5(n, k, d, task_norm2, noise_var)
        values = {"gain": curve.initial - curve.optimal, "optimal_lr": curve.optimal_lr, "initial": curve.initial}
        return factor * values[field]

    return claim


@pytest.mark.parametrize("quantity", ["gain", "optimal_lr", "initial"])
def test_an_exact_claim_passes_and_one_off_by_five_percent_does_not(quantity):
    right, wrong = (
        check(of_theorem_4_5(quantity, factor), PROBLEMS, weights="zero", quantity=quantity, num_tasks=40_000)
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
    assert check(gain, problems, weights="zero", quantity="gain", lr=1e-4, num_tasks=0).exact_ok
    assert not check(1.001 * gain, problems, weights="zero", quantity="gain", lr=1e-4, num_tasks=0)


def test_an_approximate_claim_is_judged_by_its_rate():
    sizes = [isotropic(d) for d in (1000, 2000, 4000)]
    wrong = check(lambda n, k, d: 1.05 * theorem_4_2(n, k, d).optimal, sizes, approximate=True, num_tasks=0)
    right = check(lambda n, k, d: theorem_4_2(n, k, d).optimal, sizes, approximate=True, num_tasks=0)
    assert right.exact_ok
    assert right.rate == pytest.approx(-1, abs=0.05)
    assert not wrong.exact_ok


def test_an_approximate_claim_against_simulation():
    sizes = [isotropic(d) for d in (24, 48, 96)]
    for factor, verdict in ((1.0, True), (1.05, False)):
        result = check(leading_order(factor), sizes, approximate=True, num_tasks=4000)
        assert result.detectable < 0.05
        assert result.empirical_ok is verdict


def test_the_table_shows_every_row():
    result = check(lambda: 1.0, PROBLEMS, weights=0.0, quantity="initial", num_tasks=16)
    assert len(str(result).splitlines()) == 1 + len(PROBLEMS) + 2
    assert "DISAGREES" in str(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantity": "loss"}, "quantity must be one of"),
        ({"evaluation": "both"}, "evaluation must be one of"),
        ({"problems": []}, "problems must not be empty"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1, got 1.0"),
        ({"approximate": True, "problems": PROBLEMS[:1]}, "at least two sizes"),
        ({"claim": lambda q: q}, "claim may use n, k, d, .*, got q"),
        ({"claim": sp.Symbol("eta")}, "claim may use n, k, d, .*, got eta"),
        ({"weights": "random"}, "weights must be one of"),
        ({"exact": None}, "lr must be a number"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    defaults = {"claim": lambda n: n, "problems": PROBLEMS, "num_tasks": 0}
    with pytest.raises(ValueError, match=message):
        check(**(defaults | arguments))
