import numpy as np
import pytest

from ttt_jax import Verdict, agreement_table, family_verdict, judge
from ttt_jax.verdict.agreement import critical_z


def cell(z, reliable=True, broken=0):
    return {"z": z, "stderr_reliable": reliable, "num_nonfinite": broken}


def test_family_verdict_is_corrected():
    assert family_verdict([3.0] * 3)[0] is False
    assert family_verdict([3.0] + [0.0] * 60)[0] is True
    assert family_verdict([np.nan])[0] is False
    rng = np.random.default_rng(0)
    failures = sum(not family_verdict(rng.normal(size=40))[0] for _ in range(2000))
    assert abs(failures - 20) < 4 * np.sqrt(20)


def test_table_is_aligned_and_says_disagree():
    rows = [{"name": "a", "z": 9.0}, {"name": "long", "z": -0.25}]
    verdict = judge([cell(9.0), cell(-0.25), cell(50.0, reliable=False)])
    lines = agreement_table(rows, verdict).splitlines()
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3].startswith("DISAGREE: 1 of 2 cells, largest |z| 9.00, critical 2.81")
    assert "1 not judged: too few tasks for the tails of the risk" in lines[3]


@pytest.mark.parametrize(
    ("cells", "agrees", "said"),
    [
        ([cell(0.1), cell(-2.0)], True, "agree: largest |z| 2.00 of 2 cells, critical 2.81"),
        ([cell(0.1), cell(2.9)], False, "DISAGREE: 1 of 2 cells, largest |z| 2.90, critical 2.81"),
        ([cell(0.1), cell(-2.9)], False, "1 of 2 cells, largest |z| 2.90"),
        ([cell(9.0)], False, "1 of 1 cell, largest |z| 9.00, critical 2.58 (family-wise"),
        ([cell(0.1, None), cell(0.2)], True, "the standard error is not assessed in 1 of them"),
        ([cell(9.0, None)], False, "the standard error is not assessed in 1 of them"),
        ([cell(4.0, None)], None, "no verdict: no cell has a standard error that can be trusted; 1 not judged"),
        (
            [cell(-4.0, None), cell(0.2)],
            True,
            "largest |z| 0.20 of 1 cell, critical 2.81 (family-wise level 1%); 1 not",
        ),
        ([cell(9.0, False)], None, "no verdict: no cell has a standard error that can be trusted; 1 not judged"),
        ([cell(None, None)], None, "no verdict"),
        ([], None, "no verdict"),
        (
            [cell(None, False, broken=3), cell(0.0)],
            True,
            "of 1 cell, critical 2.58 (family-wise level 1%); 1 with risks that are not",
        ),
    ],
)
def test_verdicts(cells, agrees, said):
    verdict = judge(cells)
    assert verdict.agrees is agrees
    assert said in str(verdict)


def test_every_cell_is_counted_once():
    cells = [cell(0.1), cell(0.2, None), cell(9.0, False), cell(None, False, broken=2), cell(None, None)]
    cells += [cell(None, None, broken=1), cell(None, False) | {"num_tasks": 0}]
    bound = critical_z(0.99, 2)
    assert judge(cells) == Verdict(
        2, outside=0, bound=bound, largest=0.2, unassessed=1, unreliable=1, broken=2, empty=1
    )
