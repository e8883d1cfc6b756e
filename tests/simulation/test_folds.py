from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.simulation.draws import draws
from ttt_jax import (
    Folds,
    Inference,
    LinearAttention,
    Problem,
    estimate_curve,
    estimate_risk,
    exact_risk,
    family_verdict,
    fold_prompts,
    functional,
    ttt_loss,
    ttt_step,
)

PROBLEM = Problem(8, 16, 1.5 * np.ones(4) / 2, feature_cov=[0.5, 1.0, 1.5, 2.0], noise_var=0.2)


@pytest.mark.parametrize("evaluation", ["fresh", Inference(n=10, noise_var=0.5, query_feature_cov=1.0, rescale=True)])
def test_before_the_step_and_its_slope_are_those_of_one_step_on_every_fold(evaluation):
    """With a context of N - N/K pairs c0 is that of one step, and c1, a sum over exchangeable folds, K times it."""
    folds = 3
    found = estimate_curve(replace(PROBLEM, evaluation=evaluation), 0.04, Folds(folds), num_tasks=20_000)
    exact = exact_risk(replace(PROBLEM, n=16, k=8, evaluation=evaluation), 0.04)
    stderr = np.sqrt(np.diag(found.covariance))
    whole = exact_risk(replace(PROBLEM, evaluation=evaluation), 0.04, Folds(folds))
    assert (whole.c0, whole.c1) == pytest.approx((exact.c0, folds * exact.c1))
    zs = [(found.c0 - whole.c0) / stderr[0], (found.c1 - whole.c1) / stderr[1], (found.c2 - whole.c2) / stderr[2]]
    assert family_verdict(zs)[0], zs
    assert abs(found.c2 - folds * exact.c2) > 10 * stderr[2]  # the folds share their pairs


def test_the_same_context_is_that_of_a_fold():
    """Each task's risk lies on its parabola, and the mean is exact; that it is the first fold, test_prompts.py sees."""
    problem, lr = replace(PROBLEM, evaluation="same"), 2e-4
    risks = draws(problem, 0.04, (Folds(3, lr),), num_tasks=4, x64=True)[:, 0]
    curves = draws(problem, 0.04, (Folds(3),), num_tasks=4, x64=True)
    np.testing.assert_allclose(curves @ [1, -lr, lr**2], risks, rtol=1e-10)
    exact = exact_risk(problem, 0.04, Folds(3))
    found = estimate_curve(problem, 0.04, Folds(3), num_tasks=20_000)
    zs = np.array([found.c0 - exact.c0, found.c1 - exact.c1, found.c2 - exact.c2]) / np.sqrt(np.diag(found.covariance))
    assert family_verdict(list(zs))[0], zs


@pytest.mark.parametrize(
    ("law", "kurtosis"), [({"feature_law": "rademacher"}, 1.0), ({"feature_law": "student_t", "dof": 12.0}, 3 + 6 / 8)]
)
def test_other_laws_of_the_features_change_the_risk_by_their_kurtosis(law, kurtosis):
    """E[x x' (x'b)^2] of independent entries has (kurtosis - 3) Sx^2 diag(b^2) beyond that of Gaussian ones."""
    problem, weight = replace(PROBLEM, **law), 0.04
    beyond = 16 * weight**2 * (kurtosis - 3) * np.sum(problem.feature_cov**3 * problem.task**2)
    gaussian = exact_risk(replace(PROBLEM, n=16), weight).initial
    found = estimate_risk(problem, weight, Folds(3, 0.0), num_tasks=20_000)
    assert abs(found.mean - gaussian - beyond) < 4 * found.stderr
    assert abs(beyond) > 8 * found.stderr
    assert found.stderr_reliable is None


def test_every_pair_is_a_query_once_and_never_in_its_own_context():
    x, y = np.arange(24.0).reshape(12, 2), np.arange(12.0)
    for folds in (2, 3, 12):
        prompts = jax.tree.map(np.asarray, jax.jit(fold_prompts, static_argnums=2)(x, y, folds))
        assert sorted(prompts.query_y.ravel().tolist()) == y.tolist()
        for i in range(folds):
            assert sorted([*prompts.query_y[i].tolist(), *prompts.context_y[i].tolist()]) == y.tolist()
            np.testing.assert_array_equal(prompts.query_x[i], x[prompts.query_y[i].astype(int)])
            np.testing.assert_array_equal(prompts.context_x[i], x[prompts.context_y[i].astype(int)])


def test_loss_and_step_of_stacked_prompts_are_sums_over_folds():
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    model, params = functional(LinearAttention(0.01 * jnp.eye(3)))
    prompts = jax.tree.map(np.asarray, jax.jit(fold_prompts, static_argnums=2)(x, x[:, 0], 4))
    singles = [jax.tree.map(lambda leaf, i=i: leaf[i], prompts) for i in range(4)]

    @jax.jit
    def loss_and_change(prompt):
        stepped = ttt_step(model, params, prompt, 1e-3)
        return ttt_loss(model, params, prompt), stepped.weights[...] - params.weights[...]

    total, change = (sum(map(np.asarray, parts)) for parts in zip(*map(loss_and_change, singles), strict=True))
    loss, whole = loss_and_change(prompts)
    assert float(loss) == pytest.approx(total, rel=1e-6)
    np.testing.assert_allclose(whole, change, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("folds", "options", "message"),
    [
        (5, {}, r"folds must divide n \+ k = 24, got 5"),
        (2, {"num_tasks": 1}, "num_tasks must be at least 2"),
        (2, {"problem": Problem(8, 2**31, np.ones(4))}, "k must be at most 2147483639 to be simulated, got 2147483648"),
    ],
)
def test_bad_input_is_refused(folds, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_curve(**{"problem": PROBLEM, "start": 0.0, "procedure": Folds(folds)} | options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Folds(0), "folds must be an integer >= 2, got 0"),
        (lambda: Folds(1), "folds must be an integer >= 2, got 1"),
        (lambda: Folds(2.0), "folds must be an integer >= 2, got 2.0"),
        (lambda: Folds(2, "best"), "lr must be a finite number or 'optimal', got 'best'"),
        (lambda: estimate_curve(PROBLEM, 0.0, Folds(2, 1e-3)), "procedure must be one with lr = 'optimal', such as"),
    ],
)
def test_folds_without_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_overflow_is_reported():
    with pytest.warns(UserWarning, match="the risk of .* of 20000 tasks is not finite"):
        found = estimate_curve(PROBLEM, 1e25, Folds(3), num_tasks=20_000)
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


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_the_context_of_every_fold_is_all_the_rest(evaluation):
    """Without a step the risk is that of N - N/K pairs, for either context."""
    training = Problem(24 - 24 // 3, 8, PROBLEM.task, PROBLEM.feature_cov, PROBLEM.noise_var)
    found = estimate_curve(replace(PROBLEM, evaluation=evaluation), 0.04, Folds(3), num_tasks=20_000)
    assert abs(found.initial - exact_risk(training, 0.04).initial) < 4 * found.stderr(0.0)
    assert abs(found.initial - exact_risk(PROBLEM, 0.04).initial) > 4 * found.stderr(0.0)
