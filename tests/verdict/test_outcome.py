"""The table of a check, and what it says beside the verdict."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from tests.verdict.claims import PROBLEMS
from ttt_jax.problem import Problem
from ttt_jax.theory.paper import theorem_4_5
from ttt_jax.verdict.claim import check


def test_a_claim_in_float32_is_told_so():
    claim = lambda n, k, d: np.float32(theorem_4_5(n, k, d).optimal)  # noqa: E731
    result = check(claim, [Problem(6, 9, np.ones(3) / 3**0.5)], start="zero", num_tasks=0)
    assert not result
    assert "rounding of float32" in str(result)


def test_the_table_shows_every_row():
    problems = PROBLEMS[0], replace(PROBLEMS[0], n=30)
    result = check(lambda: 1.0, problems, start=0.0, quantity="initial", num_tasks=1000)
    assert len(str(result).splitlines()) == 1 + len(problems) + 2
    assert "DISAGREES" in str(result)


def test_a_risk_that_is_not_finite_is_called_so():
    broken = SimpleNamespace(mean=np.nan, stderr=np.nan, stderr_reliable=False)
    result = check(lambda: 1.0, PROBLEMS, start=0.0, procedure=0.0, exact=None, simulate=lambda *_, **options: broken)
    assert result.verdict == "open"
    assert str(result).splitlines()[1].split()[-3:] == ["not", "finite", "-"]
    assert "too few tasks" not in str(result)


def test_columns_of_the_table_stay_apart():
    problems = [Problem(10**12, 321_024_000, [1e30]), Problem(5, 10**12, [1.0])]
    result = check(lambda task_norm2: 1.5 * task_norm2, problems, start=0.0, quantity="initial", num_tasks=0)
    lines = str(result).splitlines()[:3]
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[:3] == ["1000000000000", "321024000", "1"]
    assert [len(line.split()) for line in lines[1:]] == [8, 8]
