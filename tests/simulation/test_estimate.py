import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_problem
from ttt_jax import (
    GaussianTasks,
    LinearAttention,
    Problem,
    Prompt,
    RiskCurve,
    estimate_risk,
    exact_risk,
    family_verdict,
    functional,
    ttt_step,
)
from ttt_jax._internal import linalg
from ttt_jax.simulation import blocks
from ttt_jax.simulation.blocks import ROW_BLOCK, run_blocks, simulate_blocks
from ttt_jax.simulation.rows import data_risk
from ttt_jax.simulation.scaled import make_setting
from ttt_jax.simulation.summaries import law_risk


def z_score(problem, weights, *, evaluation, sampler, lr_factor=0.5, num_tasks=40_000, **options):
    curve = exact_risk(problem, weights, evaluation)
    lr = lr_factor * curve.optimal_lr
    found = estimate_risk(
        problem, weights, lr, evaluation=evaluation, sampler=sampler, num_tasks=num_tasks, seed=3, **options
    )
    return (found.mean - curve.at(lr)) / np.hypot(found.stderr, curve.stderr(lr))


@pytest.mark.parametrize("sampler", ["data", "law"])
@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_simulation_agrees_with_the_exact_risk(evaluation, sampler):
    problems = [random_problem(seed) for seed in (1, 2, 3, 5)] + [random_problem(8, dense=False)]
    problems.append((Problem(1, 1, [1.0]), 0.2 * np.ones(())))
    problems.append((Problem(5, 20, GaussianTasks([0.5, 0.1], cov=[0.2, 0.4]), 1.0, 0.1), 0.05 * np.ones(())))
    zs = [z_score(p, w, evaluation=evaluation, sampler=sampler, lr_factor=0.2) for p, w in problems]
    agree, bound = family_verdict(zs)
    assert agree, (zs, bound)


def test_a_wrong_theory_is_noticed():
    problem = Problem(20, 80, np.ones(20) / np.sqrt(20))
    curve = exact_risk(problem, 0.0)
    found = estimate_risk(problem, 0.0, curve.optimal_lr, num_tasks=50_000, sampler="law")
    assert abs(found.mean - curve.optimal) < 4 * found.stderr
    for c0, c1, c2 in ((1.05, 1, 1), (1, 1.05, 1), (1, 1, 1.05)):
        wrong = RiskCurve(c0 * curve.c0, c1 * curve.c1, c2 * curve.c2).at(curve.optimal_lr)
        assert abs(found.mean - wrong) > 4 * found.stderr


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_streamed_step_is_the_step_of_the_flax_model(evaluation):
    """The data path again, with whole arrays, `ttt_step` on the prompt and no streaming; n and k are no multiples."""
    problem, weights = random_problem(4)
    lr = exact_risk(problem, weights, evaluation).optimal_lr
    with jax.enable_x64(True):
        setting, _ = make_setting(problem, weights, lr, "data", evaluation, jnp.float64)
        key = jax.random.key(5)
        streamed = data_risk(key, setting)
        _, key_context, key_train, key_fresh = jax.random.split(key, 4)

        def rows(key, count):
            xs, ys = [], []
            for i in range(-(-count // ROW_BLOCK)):
                key_x, key_y = jax.random.split(jax.random.fold_in(key, i))
                x = jax.random.normal(key_x, (ROW_BLOCK, problem.d)) @ setting.feature_root
                xs.append(x)
                ys.append(x @ setting.task_mean + jnp.sqrt(setting.noise_var) * jax.random.normal(key_y, (ROW_BLOCK,)))
            return jnp.concatenate(xs)[:count], jnp.concatenate(ys)[:count]

        context, train = rows(key_context, problem.n), rows(key_train, problem.k)
        model, params = functional(LinearAttention(setting.weights))
        params = ttt_step(model, params, Prompt(*context, *train), setting.lr)
        x, y = context if evaluation == "same" else rows(key_fresh, problem.n)
        error = setting.feature_root @ (setting.task_mean - params.weights[...] @ (x.T @ y))
        np.testing.assert_allclose(streamed, error @ error + setting.noise_var, rtol=1e-10)


def test_both_samplers_draw_the_same_distribution():
    """Two-sample Kolmogorov-Smirnov on the per-task risks, not only on their means."""
    problem, weights = random_problem(6)
    lr = exact_risk(problem, weights).optimal_lr
    size = 8192
    samples = []
    for sampler, function in (("data", data_risk), ("law", law_risk)):
        setting, _ = make_setting(problem, weights, lr, sampler, "same", jnp.float32)
        keys = jax.random.split(jax.random.key(11), size)
        draw = jax.jit(jax.vmap(lambda key, s=setting, f=function: f(key, s)))
        samples.append(np.sort(np.asarray(draw(keys))))
    grid = np.concatenate(samples)
    distance = max(abs(np.searchsorted(samples[0], grid) - np.searchsorted(samples[1], grid))) / size
    assert distance < 1.95 * np.sqrt(2 / size)  # the 0.1% critical value


def test_results_do_not_depend_on_the_grouping_of_blocks(monkeypatch):
    problem = Problem(6, 9, np.ones(4) / 2)
    first = estimate_risk(problem, 0.1, 1e-3, num_tasks=1000, block_size=64)
    monkeypatch.setattr(blocks, "SECONDS_PER_CALL", 0.0)
    assert estimate_risk(problem, 0.1, 1e-3, num_tasks=1000, block_size=64) == first


def test_longer_runs_continue_shorter_ones():
    problem = Problem(6, 9, np.ones(4) / 2)
    setting, _ = make_setting(problem, np.zeros(()), 1e-3, "law", "fresh", jnp.float32)
    options = {"num_tasks": 150, "seed": 0, "block_size": 32}
    together = list(simulate_blocks(law_risk, setting, **options))
    later = list(simulate_blocks(law_risk, setting, first=3, **options))
    assert [len(block) for block in together] == [32, 32, 32, 32, 22]
    np.testing.assert_array_equal(np.concatenate(together[3:]), np.concatenate(later))


def test_one_compilation_serves_every_n_and_k():
    before = run_blocks._cache_size()
    for n, k in ((3, 5), (40, 2), (9, 100)):
        for lr in (0.0, 1e-4):
            estimate_risk(Problem(n, k, np.ones(11)), 0.0, lr, num_tasks=10, block_size=16)
    assert run_blocks._cache_size() == before + 1


def test_seeds_and_precision():
    problem = Problem(6, 9, np.ones(4) / 2)
    risks = {
        (seed, x64): estimate_risk(problem, 0.1, 1e-3, num_tasks=500, seed=seed, x64=x64)
        for seed in (0, 1, 2**32 - 1)
        for x64 in (False, True)
    }
    assert len({r.mean for r in risks.values()}) == 6
    assert jnp.ones(1).dtype == jnp.float32
    again = estimate_risk(problem, 0.1, 1e-3, num_tasks=500)
    assert again == risks[0, False]


@pytest.mark.parametrize("sampler", ["data", "law"])
@pytest.mark.parametrize(("c", "m"), [(1e-25, 1.0), (1e25, 1.0), (1.0, 1e-20), (1.0, 1e20), (1e10, 1e12)])
def test_units_do_not_overflow_float32(c, m, sampler):
    """Labels in units of c and features in units of sqrt(m): the same experiment, draw by draw."""
    task, sx = np.ones(3), np.array([1.0, 0.5, 2.0])
    usual = estimate_risk(Problem(5, 5, task, sx, 0.1), 0.05, 1e-3, num_tasks=200, sampler=sampler)
    scaled = Problem(5, 5, c / m**0.5 * task, m * sx, 0.1 * c**2)
    found = estimate_risk(scaled, 0.05 / m, 1e-3 / (m**2 * c**2), num_tasks=200, sampler=sampler)
    assert found.mean / c**2 == pytest.approx(usual.mean, rel=1e-4)


def test_zero_noise_and_zero_features_have_no_error():
    found = estimate_risk(Problem(3, 3, np.ones(2), feature_cov=0.0, noise_var=0.25), 0.1, 1e-3, num_tasks=50)
    assert (found.mean, found.stderr, found.stderr_reliable) == (pytest.approx(0.25), pytest.approx(0, abs=1e-8), True)


def test_overflow_is_counted_and_reported():
    problem = Problem(20, 20, np.ones(4))
    with pytest.warns(UserWarning, match="of 64 tasks is not finite"):
        found = estimate_risk(problem, 0.0, 1e30, num_tasks=64)
    assert found.num_nonfinite > 0
    assert np.isnan(found.mean)
    assert not found.stderr_reliable


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tasks": 0}, "num_tasks must be an integer >= 1"),
        ({"seed": -1}, "seed must be an integer >= 0"),
        ({"seed": 2**32}, "seed must be below"),
        ({"evaluation": "old"}, "evaluation must be one of"),
        ({"sampler": "gibbs"}, "sampler must be one of data, law"),
        ({"block_size": 0}, "block_size must be"),
        ({"block_size": 2**30}, "block_size must be at most 1048576, got 1073741824"),
        ({"x64": "no"}, "x64 must be True or False, got 'no'"),
        ({"lr": np.inf}, "lr must be a finite number"),
        ({"lr": "fast"}, "lr must be a finite number"),
        ({"weights": np.ones((2, 2))}, "weights must be a scalar or have shape"),
    ],
)
def test_bad_arguments_are_named(options, message):
    arguments = {"weights": 0.0, "lr": 1e-3} | options
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
        estimate_risk(Problem(3, 3, np.ones(3)), **arguments)


def test_dense_features_of_low_rank():
    direction = np.array([[1.0, 2.0, -1.0]])
    problem = Problem(6, 9, np.array([0.3, 0.2, 0.5]), direction.T @ direction, 0.2)
    for sampler in ("data", "law"):
        assert abs(z_score(problem, 0.01, evaluation="fresh", sampler=sampler, lr_factor=0.3)) < 4
    assert np.allclose(linalg.sqrt(problem.feature_cov) @ [2.0, -1.0, 0.0], 0, atol=1e-7)
