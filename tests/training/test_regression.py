import numpy as np
import pytest

from ttt_jax import Pretraining, Problem, compare, exact_risk, pretrained_weights, trained_weights
from ttt_jax.training import regression
from ttt_jax.training.regression import _features

CORRELATED = Pretraining(6, [[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 0.5]], [0.5, 1.0, 0.2], 0.1)


def prompts(pretraining, num_prompts, num_tasks, seed):
    blocks = list(_features(pretraining, num_prompts, num_tasks, seed))
    return np.concatenate([h for h, _ in blocks]), np.concatenate([y for _, y in blocks])


@pytest.mark.parametrize("num_prompts", [1, 5, 8, 9, 10, 200])
@pytest.mark.parametrize("num_tasks", [None, 2])
@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_it_is_least_squares_on_its_prompts(num_prompts, num_tasks, ridge, monkeypatch):
    """Of least norm where they are few, by another method, in several blocks."""
    monkeypatch.setattr(regression, "BLOCK_NUMBERS", 27 * 2)
    found = trained_weights(CORRELATED, num_prompts, num_tasks=num_tasks, ridge=ridge, seed=3)
    h, y = prompts(CORRELATED, num_prompts, num_tasks, 3)
    assert len(y) == num_prompts
    rows, values = np.vstack([h, ridge**0.5 * np.eye(9)]), np.concatenate([y, np.zeros(9)])
    expected = np.linalg.lstsq(rows, values, rcond=1e-12)[0]
    error = np.abs(found.ravel() - expected).max() / np.abs(expected).max()
    assert error < 1e-12 * np.linalg.cond(rows[: len(y)]) ** 2 + 1e-10


@pytest.mark.parametrize("num_prompts", [3, 15, 16, 17, 40])
def test_it_fits_its_own_prompts_exactly_up_to_d_squared_of_them(num_prompts):
    law = Pretraining(5, d=4)
    h, y = prompts(law, num_prompts, None, 1)
    left = np.abs(y - h @ trained_weights(law, num_prompts, seed=1).ravel()).max()
    assert (left < 1e-6) == (num_prompts <= 16)


def test_many_prompts_lead_to_the_optimum():
    weights = np.stack([trained_weights(CORRELATED, 20_000, seed=seed) for seed in range(20)])
    stderr = weights.std(0, ddof=1) / 20**0.5
    assert np.abs((weights.mean(0) - pretrained_weights(CORRELATED)) / stderr).max() < 5
    assert stderr.max() < 0.02 * np.abs(weights).max()


def test_one_task_for_all_prompts_leads_to_the_best_weights_for_it():
    """bb'/[(n+2) B] of Lemma C.1: of rank one, with trace 1/(n+2)."""
    weights = np.stack([trained_weights(Pretraining(6, d=3), 20_000, num_tasks=1, seed=s) for s in range(20)])
    traces = np.trace(weights, axis1=1, axis2=2)
    assert abs(traces.mean() - 1 / 8) < 5 * traces.std() / 20**0.5 < 0.005
    assert np.abs(8 * weights @ weights - weights).max() < 0.05 / 8


def test_rows_of_the_weights_meet_the_query_and_columns_the_summary():
    """One prompt leaves W along x u', with summaries that are longest along the second feature."""
    law = Pretraining(50, task_cov=[1.0, 100.0])
    squares = np.stack([trained_weights(law, 1, seed=seed) ** 2 for seed in range(300)])
    share = squares / squares.sum((1, 2), keepdims=True)
    rows, columns = share.sum(2)[:, 1], share.sum(1)[:, 1]
    assert abs(rows.mean() - 0.5) < 5 * rows.std() / 300**0.5
    assert columns.mean() > 0.7


def test_a_large_ridge_leaves_nothing():
    for num_prompts in (5, 50):
        assert np.abs(trained_weights(CORRELATED, num_prompts, ridge=1e12)).max() < 1e-8


def test_seeds():
    first, again, other = (trained_weights(CORRELATED, 30, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).min() > 0


def test_one_of_everything():
    """y = x u w."""
    (h,), (y,) = prompts(Pretraining(1, d=1), 1, None, 0)
    assert trained_weights(Pretraining(1, d=1), 1).item() == pytest.approx(y / h.item())


def test_it_is_a_start_like_any_other():
    weights = trained_weights(Pretraining(20, task_cov=0.2, d=5), 100)
    problem = Problem(20, 40, np.ones(5) / 5**0.5)
    assert exact_risk(problem, weights).initial > exact_risk(problem, pretrained_weights(Pretraining(20, d=5))).initial
    assert abs(compare(problem, weights, num_tasks=4000).z) < 4


def test_a_singular_law_needs_a_ridge():
    for law in (Pretraining(3, [1.0, 0.0]), Pretraining(3, 0.0, d=2), Pretraining(3, task_cov=0.0, d=2)):
        with pytest.raises(ValueError, match="ridge must be positive where feature_cov is singular or every label"):
            trained_weights(law, 50)
        assert np.isfinite(trained_weights(law, 50, ridge=1.0)).all()
    assert np.isfinite(trained_weights(Pretraining(3, task_cov=0.0, noise_var=1.0, d=2), 50)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_prompts": 0}, "num_prompts must be an integer >= 1, got 0"),
        ({"num_prompts": 2.5}, "num_prompts must be an integer >= 1, got 2.5"),
        ({"num_prompts": 5, "num_tasks": 0}, "num_tasks must be an integer >= 1, got 0"),
        ({"num_prompts": 5, "ridge": -1.0}, "ridge must be a finite number >= 0, got -1.0"),
        ({"num_prompts": 5, "seed": -1}, "seed must be an integer >= 0, got -1"),
    ],
)
def test_arguments_without_meaning_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trained_weights(CORRELATED, **options)


def test_what_does_not_fit_into_memory_is_refused_with_its_size_before_any_work():
    message = r"d must be smaller: 400000000 weights and 400000000 prompts take \d+ GiB of \d+ GiB, got 20000"
    with pytest.raises(ValueError, match=message):
        trained_weights(Pretraining(10, d=20_000), 20_000**2)
