import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.conftest import random_problem
from tests.simulation.draws import draws
from ttt_jax import (
    Folds,
    GaussianTasks,
    GradientStep,
    GradientSteps,
    Inference,
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
from ttt_jax.simulation import blocks, worklist
from ttt_jax.simulation.accumulate import Tally
from ttt_jax.simulation.blocks import ROW_BLOCK, run_blocks
from ttt_jax.simulation.estimate import make_run
from ttt_jax.simulation.worklist import Work, all_draws, tallies


def z_score(problem, weights, *, evaluation="fresh", sampler, lr_factor=0.5, num_tasks=40_000, **factors):
    problem = replace(problem, evaluation=evaluation)
    curve = exact_risk(problem, weights, GradientStep(**factors))
    lr = lr_factor * curve.optimal_lr
    step = GradientStep(lr, **factors)
    found = estimate_risk(problem, weights, step, sampler=sampler, num_tasks=num_tasks, seed=3)
    return (found.mean - curve.at(lr)) / np.hypot(found.stderr, curve.stderr(lr))


@pytest.mark.parametrize("sampler", ["data", "law"])
@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_simulation_agrees_with_the_exact_risk(evaluation, sampler):
    problems = [random_problem(seed, d=3) for seed in (1, 2, 3, 5)] + [random_problem(8, dense=False, d=3)]
    problems.append((Problem(1, 1, [1.0]), 0.2 * np.ones(())))
    tasks = GaussianTasks([0.5, 0.1, 0.0], cov=[0.2, 0.4, 0.0])
    problems.append((Problem(5, 20, tasks, [1.0, 1.0, 0.5], 0.1), 0.05 * np.ones(3)))
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
    problem = replace(problem, evaluation=evaluation)
    lr = exact_risk(problem, weights).optimal_lr
    run = make_run(problem, weights, (GradientStep(lr),), num_tasks=1, x64=True)
    with jax.enable_x64(True):
        scaled, start, (arguments,) = jax.tree.map(jnp.asarray, run.setting)
        key = jax.random.key(5)
        (streamed,) = run.parts[0].draw(key, scaled, start, arguments)
        _, key_context, key_train, key_fresh = jax.random.split(key, 4)
        root, noise_var, _ = scaled.train

        def rows(key, count):
            xs, ys = [], []
            for i in range(-(-count // ROW_BLOCK)):
                key_x, key_y = jax.random.split(jax.random.fold_in(key, i))
                x = jax.random.normal(key_x, (ROW_BLOCK, problem.d)) @ root
                xs.append(x)
                ys.append(x @ scaled.task_mean + jnp.sqrt(noise_var) * jax.random.normal(key_y, (ROW_BLOCK,)))
            return jnp.concatenate(xs)[:count], jnp.concatenate(ys)[:count]

        context, train = rows(key_context, problem.n), rows(key_train, problem.k)
        model, params = functional(LinearAttention(start))
        params = ttt_step(model, params, Prompt(*context, *train), arguments[0])
        x, y = context if evaluation == "same" else rows(key_fresh, problem.n)
        error = root @ (scaled.task_mean - params.weights[...] @ (x.T @ y))
        np.testing.assert_allclose(streamed, error @ error + noise_var, rtol=1e-10)


def test_both_samplers_draw_the_same_distribution():
    """Two-sample Kolmogorov-Smirnov on the per-task risks, not only on their means."""
    problem, weights = random_problem(6)
    step = GradientStep(exact_risk(problem, weights).optimal_lr)
    problem, size = replace(problem, evaluation="same"), 8192
    samples = [
        np.sort(draws(problem, weights, (step,), num_tasks=size, seed=11, sampler=sampler)[:, 0])
        for sampler in ("data", "law")
    ]
    grid = np.concatenate(samples)
    distance = max(abs(np.searchsorted(samples[0], grid) - np.searchsorted(samples[1], grid))) / size
    assert distance < 1.95 * np.sqrt(2 / size)  # the 0.1% critical value


SX = np.array([[1.0, 0.3, 0.0], [0.3, 0.7, 0.1], [0.0, 0.1, 1.5]])
SE = np.array([[0.6, -0.2, 0.1], [-0.2, 1.2, 0.0], [0.1, 0.0, 0.8]])
W = np.array([[0.05, 0.01, 0.0], [-0.02, 0.04, 0.03], [0.01, 0.0, 0.06]])
L = np.array([[1.0, 0.4, 0.0], [0.0, 0.6, 0.2], [0.1, 0.0, 0.8]])
R = np.array([[0.7, -0.8, -0.6], [0.9, 1.0, 0.8], [1.2, -0.6, 1.2]])  # so far from symmetric that p'R p_e shows it
TASK = [0.6, -0.4, 0.5]
FRESH = Inference(n=11, feature_cov=SE, noise_var=0.4, query_feature_cov=SX @ SX, query_noise_var=0.05)
LAWS = {
    "fresh": (FRESH, {}),
    "rescaled": (replace(FRESH, rescale=True), {}),
    "same": (Inference("same", query_feature_cov=SE, query_noise_var=0.3), {}),
    "factors": ("fresh", {"left": L, "right": R}),
    "factors, same": ("same", {"left": L, "right": R}),
    "preconditioned": ("fresh", {"left": np.linalg.inv(SX), "right": np.linalg.inv(SX)}),
    "everything": (replace(FRESH, rescale=True), {"left": L, "right": R}),
}


@pytest.mark.parametrize("sampler", ["data", "law"])
def test_laws_at_inference_and_factors_agree_with_the_exact_risk(sampler):
    problem = Problem(5, 9, TASK, SX, 0.2)
    random = Problem(5, 9, GaussianTasks(TASK, 0.1 * SE), SX, 0.2)
    zs = {
        name: z_score(problem, W, evaluation=law, sampler=sampler, lr_factor=0.4, **factors)
        for name, (law, factors) in LAWS.items()
    }
    law, factors = LAWS["everything"]
    zs["random tasks"] = z_score(random, W, evaluation=law, sampler=sampler, lr_factor=0.4, **factors)
    agree, bound = family_verdict(list(zs.values()))
    assert agree, (zs, bound)


def test_each_part_of_a_law_at_inference_is_noticed():
    """The same tasks, one field at a time: each moves the estimate, by what the exact risk says."""
    problem = Problem(5, 9, TASK, SX, 0.2)
    lr = 0.4 * exact_risk(problem, W).optimal_lr
    exact, found = (
        [f(replace(problem, evaluation=e)) for e in fields()]
        for f in (
            lambda p: exact_risk(p, W).at(lr),
            lambda p: estimate_risk(p, W, lr, sampler="law", num_tasks=100_000),
        )
    )
    for theory, simulated in zip(exact[1:], found[1:], strict=True):
        assert abs(theory - exact[0]) > 8 * simulated.stderr
        assert abs(simulated.mean - theory) < 4 * simulated.stderr


def fields():
    return [
        "fresh",
        Inference(n=11),
        Inference(feature_cov=SE),
        Inference(noise_var=3.0),
        Inference(query_feature_cov=SE),
        Inference(query_noise_var=0.4),
        Inference(n=11, rescale=True),
    ]


def test_results_do_not_depend_on_the_grouping_of_blocks(monkeypatch):
    problem = Problem(6, 9, np.ones(4) / 2)
    first = estimate_risk(problem, 0.1, 1e-3, num_tasks=1000, block_size=64)
    monkeypatch.setattr(worklist, "SECONDS_PER_CALL", 0.0)
    again = estimate_risk(problem, 0.1, 1e-3, num_tasks=1000, block_size=64)
    assert vars(again) == vars(first)


def test_longer_runs_continue_shorter_ones():
    def sampler(key, setting):
        return setting * jax.random.normal(key, (2,))

    short, long = (Work(sampler, np.float32(2.0), np.ones(2), size, 0, 32) for size in (100, 150))
    drawn = list(all_draws(long))
    assert [len(block) for block in drawn] == [32, 32, 32, 32, 22]
    np.testing.assert_array_equal(np.concatenate(drawn)[:100], np.concatenate(list(all_draws(short))))
    (*_, last) = tallies([(long, Tally())])
    np.testing.assert_allclose(last[long].moments.mean, np.concatenate(drawn).mean(axis=0), atol=1e-6)


def by_call(run, tally):
    """The tallies after every call, of one block at first."""
    return [found[run] for found in tallies([(run, tally)])]


def test_a_run_resumed_from_a_tally_is_the_whole_run():
    run = make_run(Problem(6, 9, np.ones(4) / 2), 0.0, (GradientStep(1e-3),), num_tasks=700, block_size=64)
    found = by_call(run, Tally())
    assert found[1].num_tasks == 128
    assert found[-1].num_tasks == 700
    (resumed,) = run.estimates(by_call(run, Tally.from_dict(found[1].to_dict()))[-1])
    (whole,) = run.estimates(found[-1])
    assert vars(resumed) == vars(whole)


def test_one_compilation_serves_every_n_and_k():
    before = run_blocks._cache_size()
    for n, k in ((3, 5), (40, 2), (9, 100)):
        for lr in (0.0, 1e-4):
            estimate_risk(Problem(n, k, np.ones(11)), 0.0, lr, num_tasks=10, block_size=16)
    assert run_blocks._cache_size() == before + 1
    for n, k, d in ((13, 15, 11), (40, 12, 7)):  # in a frame d is a number, too
        estimate_risk(Problem(n, k, np.ones(d)), 0.0, 1e-4, num_tasks=10, block_size=16, sampler="law")
    assert run_blocks._cache_size() == before + 2


def test_seeds_and_precision():
    problem = Problem(6, 9, np.ones(4) / 2)
    options = {"num_tasks": 500, "block_size": 64}
    risks = {
        (seed, x64): estimate_risk(problem, 0.1, 1e-3, seed=seed, x64=x64, **options)
        for seed in (0, 1, 2**32 - 1)
        for x64 in (False, True)
    }
    assert len({r.mean for r in risks.values()}) == 6
    assert jnp.ones(1).dtype == jnp.float32
    again = estimate_risk(problem, 0.1, 1e-3, **options)
    assert vars(again) == vars(risks[0, False])


@pytest.mark.parametrize("sampler", ["data", "law"])
@pytest.mark.parametrize(("c", "m"), [(1e-25, 1.0), (1e25, 1.0), (1.0, 1e-20), (1.0, 1e20), (1e10, 1e12)])
def test_units_do_not_overflow_float32(c, m, sampler):
    """Labels in units of c and features in units of sqrt(m): the same experiment, draw by draw."""
    task, sx, options = np.ones(4), np.array([1.0, 0.5, 2.0, 1.5]), {"block_size": 64, "sampler": sampler}
    usual = estimate_risk(Problem(5, 5, task, sx, 0.1), 0.05, 1e-3, num_tasks=200, **options)
    scaled = Problem(5, 5, c / m**0.5 * task, m * sx, 0.1 * c**2)
    found = estimate_risk(scaled, 0.05 / m, 1e-3 / (m**2 * c**2), num_tasks=200, **options)
    assert found.mean / c**2 == pytest.approx(usual.mean, rel=1e-4)


def test_zero_noise_and_zero_features_have_no_error():
    found = estimate_risk(Problem(3, 3, np.ones(4), feature_cov=0.0, noise_var=0.25), 0.1, 1e-3, num_tasks=64)
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
        ({"sampler": "gibbs"}, "sampler must be one of data, law"),
        ({"block_size": 0}, "block_size must be"),
        ({"block_size": 2**30}, "block_size must be at most 1048576, got 1073741824"),
        ({"x64": "no"}, "x64 must be True or False, got 'no'"),
        ({"procedure": np.inf}, "lr must be a finite number"),
        ({"procedure": "fast"}, "procedure must be a step size"),
        ({"procedure": "optimal"}, "lr must be a number to be simulated, got 'optimal': compare finds the optimum"),
        ({"procedure": (1e-3, GradientStep())}, "lr must be a number to be simulated, got 'optimal'"),
        ({"procedure": ()}, "procedure must not be an empty tuple"),
        ({"procedure": None}, "procedure must be a step size or a procedure such as .* got None"),
        ({"procedure": GradientStep(1e-3, left=np.ones(2))}, r"left must be a scalar or have shape \(3,\) or \(3, 3\)"),
        ({"procedure": GradientStep(1e-3, right=np.ones((2, 3)))}, "right must be a scalar or have shape"),
        ({"target_relative_stderr": 2.0}, "target_relative_stderr must be between 0 and 1, got 2.0"),
        ({"start": np.ones((2, 2))}, "start must be a scalar or have shape"),
        ({"start": nnx.Linear(2, 1, rngs=nnx.Rngs(0))}, r"start must be W, or \(model, params\) .*, got Linear"),
        ({"start": (1.0, 2.0)}, r"start must be W, or \(model, params\) as functional\(module\) gives them"),
        (
            {"problem": Problem(3, 3, np.ones(3), evaluation=Inference(n=2**31))},
            "evaluation.n must be at most 2147483639 to be simulated, got 2147483648",
        ),
        (
            {"problem": Problem(3, 3, np.ones(3), feature_law="rademacher"), "sampler": "law"},
            "sampler must be 'data' for the feature_law 'rademacher', got 'law'",
        ),
        ({"procedure": Folds(3, 1e-3), "sampler": "law"}, "sampler must be 'data' for Folds, got 'law'"),
        ({"procedure": Folds(4, 1e-3)}, r"folds must divide n \+ k = 6, got 4"),
    ],
)
def test_bad_arguments_are_named(options, message):
    arguments = {"problem": Problem(3, 3, np.ones(3)), "start": 0.0, "procedure": 1e-3} | options
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
        estimate_risk(**arguments)


def test_dense_features_of_low_rank():
    direction = np.array([[1.0, 2.0, -1.0]])
    problem = Problem(6, 9, np.array([0.3, 0.2, 0.5]), direction.T @ direction, 0.2)
    for sampler in ("data", "law"):
        assert abs(z_score(problem, 0.01, sampler=sampler, lr_factor=0.3)) < 4
    assert np.allclose(linalg.sqrt(problem.feature_cov) @ [2.0, -1.0, 0.0], 0, atol=1e-7)


def test_procedures_tried_on_the_same_tasks():
    """Joint estimates are those of single runs; their difference is far more precise than that of two runs."""
    problem = Problem(20, 40, np.ones(10) / 10**0.5, noise_var=0.1)
    half = 0.5 * exact_risk(problem, 1 / 31).optimal_lr
    steps = (0.9 * half, half, half)
    joint = estimate_risk(problem, 1 / 31, steps, num_tasks=4000)
    first, second, again = joint.estimates
    for lr, estimate in zip(steps, joint.estimates, strict=True):
        single = estimate_risk(problem, 1 / 31, lr, num_tasks=4000)
        assert (estimate.mean, estimate.stderr) == pytest.approx((single.mean, single.stderr), rel=1e-5)
        assert estimate.stderr_reliable is single.stderr_reliable
    np.testing.assert_allclose(np.sqrt(np.diag(joint.covariance)), [first.stderr, second.stderr, again.stderr])
    gain, stderr = joint.difference(0, 1)
    assert gain == pytest.approx(first.mean - second.mean)
    assert stderr < np.hypot(first.stderr, second.stderr) / 5
    curve = exact_risk(problem, 1 / 31)
    assert abs(gain - (curve.at(steps[0]) - curve.at(half))) < 4 * stderr
    assert gain > 4 * stderr
    assert joint.difference(1, 2) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_the_covariance_of_a_joint_estimate_is_that_of_the_draws():
    problem, weights = random_problem(2)
    lr = 0.3 * exact_risk(problem, weights).optimal_lr
    steps = (GradientStep(lr), GradientSteps([lr, lr / 2]), Folds(problem.n + problem.k, lr / 8))
    run = make_run(problem, weights, steps, num_tasks=64, block_size=64)
    joint = estimate_risk(problem, weights, steps, num_tasks=64, block_size=64)
    (tally,) = by_call(run, Tally())
    assert [np.shape(estimate.mean) for estimate in joint.estimates] == [(), (3,), ()]
    last = [0, 3, 4]
    np.testing.assert_allclose(joint.covariance, tally.moments.covariance[np.ix_(last, last)] / 64)
    assert [estimate.stderr_reliable is None for estimate in joint.estimates] == [False, True, True]


def test_one_task_has_no_reliable_standard_error():
    """Not even where the risk is the same for every task, so that no tail could be missed."""
    problem = Problem(3, 3, np.ones(4))
    assert not estimate_risk(problem, 0.0, 0.0, num_tasks=1, block_size=64).stderr_reliable
    assert estimate_risk(problem, 0.0, 0.0, num_tasks=2, block_size=64).stderr_reliable


def test_the_history_has_four_marks_per_octave_and_ends_at_the_end():
    found = estimate_risk(Problem(3, 3, np.ones(4)), 0.1, 1e-3, num_tasks=19 * 64, block_size=64, sampler="law")
    assert [count // 64 for count, _, _ in found.history] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 19]
    assert found.history[-1][1:] == (found.mean, found.stderr)


def test_a_run_stops_at_the_first_mark_at_which_its_target_is_reached():
    problem, options = Problem(6, 9, np.ones(4) / 2), {"num_tasks": 20_000, "block_size": 64, "sampler": "law"}
    whole = estimate_risk(problem, 0.05, 1e-4, **options)
    reached = [count for count, mean, stderr in whole.history if stderr <= 0.02 * mean]
    stopped = estimate_risk(problem, 0.05, 1e-4, target_relative_stderr=0.02, **options)
    assert 64 < stopped.num_tasks == reached[0] < 20_000


@pytest.mark.parametrize("c", [1e-40, 1e40, 1e100, 1e200])
@pytest.mark.parametrize("procedure", [0.0, GradientSteps([0.0]), Folds(2, 0.0)])
def test_risks_whose_moments_leave_float64_are_refused(c, procedure):
    problem = Problem(20, 40, c * np.ones(4) / 2)
    with pytest.raises(ValueError, match=r"labels of variance .* cannot be simulated"):
        estimate_risk(problem, 1 / 25, procedure, num_tasks=64)


def test_only_the_data_sampler_has_stepped_weights_to_hold():
    problem, step = Problem(4, 4, np.ones(2048) / 2048**0.5), (GradientStep(0.1),)
    law, data = (make_run(problem, 0.0, step, num_tasks=20_000, sampler=sampler) for sampler in ("law", "data"))
    assert law.block_size > data.block_size
    assert data.block_size * 4 * problem.d**2 <= blocks.MAX_STEPPED_WEIGHTS_BYTES


def test_more_tasks_than_can_be_counted_are_refused():
    with pytest.raises(ValueError, match=r"num_tasks must be at most \d+ in blocks of \d+, got \d+"):
        estimate_risk(Problem(4, 4, np.ones(3)), 0.0, 0.1, num_tasks=10**30)


def test_a_block_that_does_not_fit_says_what_to_lower(monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 35200000392 bytes.")

    monkeypatch.setattr("ttt_jax.simulation.worklist.run_blocks", full)
    with pytest.raises(MemoryError, match="lower block_size, which is 64, or d"):
        estimate_risk(Problem(4, 4, np.ones(2)), 0.0, 0.1, num_tasks=64)
