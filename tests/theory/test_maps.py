"""A map is `exact_risk`, cell by cell."""

import numpy as np
import pytest

from ttt_jax import Pretraining, Problem, exact_map, exact_risk, pretrained_weights


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
@pytest.mark.parametrize("weight", [None, 0.0, 0.03])
def test_every_cell_is_the_exact_risk(evaluation, weight):
    n, k, noise_var = np.array([3, 20])[:, None, None], np.array([1, 9])[:, None], np.array([0.0, 0.7])
    found = exact_map(n, k, noise_var, d=6, weight=weight, norm2=2.25, evaluation=evaluation)
    for i, j, m in np.ndindex(2, 2, 2):
        s2 = float(noise_var[m])
        problem = Problem(int(n[i, 0, 0]), int(k[j, 0]), [0.0, 1.5, 0, 0, 0, 0], noise_var=s2, evaluation=evaluation)
        law = Pretraining(problem.n, d=6, noise_var=s2)
        exact = exact_risk(problem, pretrained_weights(law) if weight is None else weight)
        cell = [values[i, j, m] for values in (found.c0, found.c1, found.c2, found.optimal_lr, found.optimal)]
        assert cell == pytest.approx([exact.c0, exact.c1, exact.c2, exact.optimal_lr, exact.optimal], rel=1e-11)
        assert found.at(1e-3)[i, j, m] == pytest.approx(exact.at(1e-3), rel=1e-11)


def test_more_cells_than_are_evaluated_together():
    n = np.arange(1, 1200)
    assert exact_map(n, 5, d=3).c0 == pytest.approx(4 / (n + 4), rel=1e-12)
    assert not exact_map(n, 5, d=3, norm2=0.0).optimal.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": [1, 0]}, "n must be >= 1 in every cell, got 0"),
        ({"k": 0.5}, "k must be >= 1 in every cell, got 0.5"),
        ({"noise_var": -1}, "noise_var must be >= 0 in every cell, got -1"),
        ({"d": 0}, "d must be an integer >= 1, got 0"),
        ({"evaluation": "new"}, "evaluation must be one of fresh, same, got 'new'"),
        ({"n": [1, 2], "k": [1, 2, 3]}, r"n \(2,\), k \(3,\), noise_var \(\), weight \(2,\) must broadcast together"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        exact_map(**{"n": 2, "k": 2, "d": 3} | arguments)
