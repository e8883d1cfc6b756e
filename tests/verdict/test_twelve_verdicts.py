"""Right claims and claims off by 3%, right thresholds and thresholds off by 5%: the verdict is right on all twelve."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from ttt_jax import Folds, Problem, check, exact_risk

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "claims.py"))
SMALL, GROWING = EXAMPLE["small"], EXAMPLE["growing"]
GAIN = {"quantity": "gain"}
LEADING = {"approximate": True, "rate": 1, "num_tasks": 0}
SWITCH = {"quantity": "switch", "along": "k", "against": {"start": "zero"}}


def unit(n, k, d):
    return Problem(n, k, np.ones(d) / d**0.5)


def gain_from_zero(factor):
    return lambda n, k, d: factor * EXAMPLE["gain_from_zero"](n, k, d)


def tight_bound(factor):
    """What five folds leave of the risk, of which a lower bound is claimed."""
    return lambda problem, procedure: factor * exact_risk(problem, 0.01, procedure).at(procedure.lr)


def gain_from_pretrained(factor):
    return lambda n, k, d: factor * EXAMPLE["gain_from_pretrained"](n, k, d)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "holds"), (1.03, "refuted")])
@pytest.mark.parametrize(
    ("claim", "problems", "options"),
    [
        (gain_from_zero, SMALL, GAIN | {"start": "zero", "num_tasks": 40_000}),
        (tight_bound, [unit(40, 10, 4)], {"relation": ">=", "start": 0.01, "procedure": Folds(5), "num_tasks": 0}),
        (gain_from_pretrained, GROWING, GAIN | LEADING),
    ],
    ids=["equality", "bound", "leading order"],
)
def test_a_value_off_by_three_percent_is_refuted(claim, problems, options, factor, verdict):
    assert check(claim(factor), problems, **options).verdict == verdict


def true_switch(n, d):
    """By trying one k after the other: between the last that is warm and the first that is not."""

    def warm_is_better(k):
        warm, cold = (exact_risk(unit(n, k, d), start).optimal for start in (1 / (n + d + 1), 0.0))
        return warm < cold

    return next(k for k in range(1, 99 * d) if not warm_is_better(k)) - 0.5


def switch(factor):
    return lambda n, d: factor * true_switch(n, d)


def leading_switch(factor):
    return lambda n, d: factor * EXAMPLE["warm_until"](n, d)


def signs(factor):
    return lambda n, k, d: k < factor * true_switch(n, d)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "holds"), (1.05, "refuted")])
@pytest.mark.parametrize(
    ("claim", "problems", "options"),
    [
        (switch, [unit(24, 1, 48)], SWITCH | {"num_tasks": 0}),
        (leading_switch, GROWING, SWITCH | LEADING),
        (signs, [unit(24, k, 48) for k in (20, 64, 67, 100)], {"relation": "iff", "against": {"start": "zero"}}),
    ],
    ids=["value", "leading order", "signs"],
)
def test_a_threshold_off_by_five_percent_is_refuted(claim, problems, options, factor, verdict):
    assert check(claim(factor), problems, **{"num_tasks": 0} | options).verdict == verdict
