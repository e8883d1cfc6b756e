import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import LinearAttention, Problem, estimate_folds, exact_risk, fold_prompts, functional, ttt_loss, ttt_step
from ttt_jax.simulation.folds import _mean_and_scatter

PROBLEM = Problem(8, 16, 1.5 * np.ones(4) / 2, feature_cov=[0.5, 1.0, 1.5, 2.0], noise_var=0.2)


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_one_fold_is_the_exact_risk(evaluation):
    exact = exact_risk(PROBLEM, 0.04, evaluation)
    found = estimate_folds(PROBLEM, 0.04, 1, evaluation=evaluation, num_tasks=20_000)
    for lr in (0.0, exact.optimal_lr / 2):
        assert abs(found.at(lr) - exact.at(lr)) < 4 * found.stderr(lr)
    assert found.optimal == pytest.approx(exact.optimal, rel=0.05)


def test_every_pair_is_a_query_once_and_never_in_its_own_context():
    x, y = jnp.arange(24.0).reshape(12, 2), jnp.arange(12.0)
    for folds in (2, 3, 12):
        prompts = fold_prompts(x, y, folds)
        assert sorted(np.asarray(prompts.query_y).ravel().tolist()) == y.tolist()
        for i in range(folds):
            assert sorted([*prompts.query_y[i].tolist(), *prompts.context_y[i].tolist()]) == y.tolist()
            np.testing.assert_array_equal(prompts.query_x[i], x[prompts.query_y[i].astype(int)])
            np.testing.assert_array_equal(prompts.context_x[i], x[prompts.context_y[i].astype(int)])


def test_loss_and_step_of_stacked_prompts_are_sums_over_folds():
    x = jax.random.normal(jax.random.key(0), (12, 3))
    y = x[:, 0]
    model, params = functional(LinearAttention(0.01 * jnp.eye(3)))
    prompts = fold_prompts(x, y, 4)
    singles = [jax.tree.map(lambda leaf, i=i: leaf[i], prompts) for i in range(4)]
    total = sum(float(ttt_loss(model, params, single)) for single in singles)
    assert float(ttt_loss(model, params, prompts)) == pytest.approx(total, rel=1e-6)
    stepped = ttt_step(model, params, prompts, 1e-3).weights[...]
    start = params.weights[...]
    change = sum(ttt_step(model, params, single, 1e-3).weights[...] - start for single in singles)
    np.testing.assert_allclose(stepped - start, change, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("folds", "options", "message"),
    [
        (5, {}, r"folds must divide n \+ k = 24, got 5"),
        (0, {}, "folds must be an integer >= 1, got 0"),
        (2, {"num_tasks": 1}, "num_tasks must be at least 2"),
        (1, {"problem": Problem(8, 2**31, np.ones(4))}, "k must be at most 2147483639 to be simulated, got 2147483648"),
        (2, {"problem": Problem(8, 8, np.ones(4), feature_law="rademacher")}, "needs Gaussian features"),
        (2, {"evaluation": "new"}, "evaluation must be one of fresh, same, got 'new'"),
    ],
)
def test_bad_input_is_refused(folds, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_folds(**{"problem": PROBLEM, "weights": 0.0, "folds": folds} | options)


def test_blocks_add_up_to_the_whole():
    draws = np.random.default_rng(0).normal(size=(100, 3)) + 5
    blocks = [draws[:30], draws[30:31], np.full((2, 3), np.inf), draws[31:]]
    mean, scatter, num_nonfinite = _mean_and_scatter(blocks)
    assert num_nonfinite == 2
    np.testing.assert_allclose(mean, draws.mean(axis=0))
    np.testing.assert_allclose(scatter / 99, np.cov(draws, rowvar=False))


def test_overflow_is_reported():
    with pytest.warns(UserWarning, match="the risk of .* of 20 tasks is not finite"):
        found = estimate_folds(PROBLEM, 1e25, 2, num_tasks=20)
    assert np.isnan([found.initial, found.at(1e-3), found.stderr(1e-3)]).all()


@pytest.mark.parametrize(
    ("labels", "folds", "message"),
    [
        (4, 3, "folds must be a divisor of the 4 pairs, at least 2, got 3"),
        (4, 2.0, "folds must be an integer >= 1, got 2.0"),
        (6, 2, r"x must be \(N, d\) and y \(N,\), got \(4, 4\) and \(6,\)"),
    ],
)
def test_folds_that_do_not_fit_are_refused(labels, folds, message):
    with pytest.raises(ValueError, match=message):
        fold_prompts(jnp.eye(4), jnp.zeros(labels), folds)
