from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import (
    GaussianTasks,
    LinearAttention,
    NotApplicable,
    Pretraining,
    Problem,
    SingleIndex,
    SparseTasks,
    functional,
    pretrain,
    pretrained_weights,
)
from ttt_jax._internal import linalg
from ttt_jax.theory.paper import proposition_5_2_weights
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.training.prompts import sample_prompt


def population_risk(weights, pretraining):
    """E over the tasks of Lemma B.2, written with Wishart moments."""
    n, s2, d = pretraining.n, pretraining.noise_var, pretraining.d
    sx, sb = (linalg.dense(c, d) for c in (pretraining.feature_cov, pretraining.task_cov))
    tau = jnp.trace(sx @ sb) + s2
    uu = n * (n + 1) * sx @ sb @ sx + n * tau * sx
    return tau - 2 * n * jnp.trace(sx @ weights @ sx @ sb) + jnp.trace(sx @ weights @ uu @ weights.T)


def random_pretraining(seed, *, rank=None, singular=False):
    rng = np.random.default_rng(seed)
    d = 5
    a, b = rng.normal(size=(d, 3 if singular else d)), rng.normal(size=(d, rank or d))
    return Pretraining(n=7, feature_cov=a @ a.T, task_cov=b @ b.T, noise_var=0.3 * (seed % 2))


@pytest.mark.parametrize("kind", [{}, {"rank": 2}, {"singular": True}, {"rank": 1, "singular": True}])
@pytest.mark.parametrize("seed", [0, 1])
def test_weights_are_a_stationary_point_and_a_minimum(kind, seed):
    with jax.enable_x64(True):
        pretraining = random_pretraining(seed, **kind)
        weights = pretrained_weights(pretraining)
        gradient = jax.grad(population_risk)(jnp.asarray(weights), pretraining)
        scale = np.abs(jax.grad(population_risk)(jnp.zeros((5, 5)), pretraining)).max()
        assert np.abs(gradient).max() < 1e-10 * scale
        shift = 1e-3 * np.random.default_rng(2).normal(size=(5, 5))
        assert population_risk(weights + shift, pretraining) > population_risk(weights, pretraining)


def test_compact_and_dense_forms_agree():
    sx, sb = np.array([1.0, 2.0, 0.0, 0.5]), np.array([1.0, 0.0, 3.0, 0.1])
    compact = pretrained_weights(Pretraining(9, sx, sb, 0.2), dense=False)
    assert compact.shape == (4,)
    dense = pretrained_weights(Pretraining(9, np.diag(sx), sb, 0.2))
    np.testing.assert_allclose(np.diag(compact), dense, atol=1e-15)


def test_special_cases():
    np.testing.assert_allclose(pretrained_weights(Pretraining(n=20, noise_var=0.5, d=6)), np.eye(6) / 27.5)
    spectrum = [2.0, 1.0, 0.0]
    np.testing.assert_allclose(
        pretrained_weights(Pretraining(n=4, task_cov=spectrum), dense=False), proposition_5_2_weights(4, spectrum)
    )
    assert not pretrained_weights(Pretraining(n=4, task_cov=0.0, d=3)).any()
    assert not pretrained_weights(Pretraining(n=4, feature_cov=np.zeros((3, 3)))).any()


def test_gradient_pretraining_reaches_the_closed_form():
    pretraining = Pretraining(n=10, feature_cov=[1.0, 2.0, 0.5], task_cov=[1.0, 0.3, 0.0], noise_var=0.2)
    model, params = functional(LinearAttention(jnp.zeros((3, 3))))
    trained = pretrain(model, params, pretraining, num_steps=1500, learning_rate=3e-3).weights[...]
    best = pretrained_weights(pretraining)
    start, reached, optimum = (population_risk(w, pretraining) for w in (np.zeros((3, 3)), trained, best))
    assert reached - optimum < 2e-3 * (start - optimum)
    np.testing.assert_allclose(trained, best, atol=0.05 * np.abs(best).max())


def test_pretraining_refuses_bad_sizes():
    model, params = functional(LinearAttention(jnp.zeros((2, 2))))
    for options, message in (
        ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ({"learning_rate": "fast"}, "learning_rate must be a finite number, got 'fast'"),
    ):
        with pytest.raises(ValueError, match=message):
            pretrain(model, params, Pretraining(n=2, d=2), **options)
    with pytest.raises(ValueError, match=r"^model must be a model for n = 2, k = 8, d = 3, got TypeError: dot"):
        pretrain(model, params, Pretraining(n=2, d=3))


def test_a_run_goes_on_under_its_own_settings_only(tmp_path):
    model, params = functional(LinearAttention(jnp.zeros((2, 2))))

    def run(n=4, directory=tmp_path, **options):
        options = {"num_steps": 6, "batch_size": 4, "num_queries": 2, "save_every": 2, "progress": False} | options
        return pretrain(model, params, Pretraining(n=n, d=2), directory=directory, **options).weights[...]

    first = run()
    np.testing.assert_array_equal(run(), first)
    for options, message in (
        ({"n": 5}, "n must be 4 to resume the run in .*, got 5"),
        ({"seed": 1}, "seed must be 0 to resume"),
        ({"learning_rate": 0.1}, r"learning_rate must be 0\.01 to resume the run in .*, got 0\.1"),
        ({"num_steps": 4}, "num_steps must be at least 6 to resume the run in .*, got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**options)
    assert np.any(run(num_steps=8) != first)


def test_prompts_do_not_depend_on_the_default_generator():
    model, params = functional(LinearAttention(jnp.zeros((2, 2))))

    def run():
        return pretrain(model, params, Pretraining(n=4, d=2), num_steps=2, progress=False).weights[...]

    usual = run()
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(run(), usual)


def test_sampled_prompts_have_the_noise_that_is_asked_for():
    task, noise_std = jnp.array([1.0, -2.0]), 0.3
    prompt = sample_prompt(jax.random.key(0), task, jnp.float32(2.0), jnp.float32(noise_std), 4000, 4000)
    for x, y in ((prompt.context_x, prompt.context_y), (prompt.query_x, prompt.query_y)):
        assert np.std(y - x @ task) == pytest.approx(noise_std, rel=0.05)
        assert np.std(x) == pytest.approx(2.0, rel=0.05)


def test_the_usual_start_is_that_of_the_law_of_the_problem():
    problem = Problem(9, 4, [1.0, 0.0], feature_cov=[1.0, 2.0], noise_var=0.7)
    expected = pretrained_weights(Pretraining(5, [1.0, 2.0], noise_var=0.7), dense=False)
    np.testing.assert_array_equal(starting_weights("pretrained", problem, 5), expected)
    assert not starting_weights("zero", problem, 5).any()


def test_weights_are_0_where_the_features_are():
    """W* of least norm; the eigenvalues of a singular covariance are 0 up to rounding of either sign."""
    for seed in range(8):
        a = np.random.default_rng(seed).normal(size=(5, 3))
        weights = pretrained_weights(Pretraining(7, a @ a.T, noise_var=0.1))
        nothing = np.linalg.svd(a)[0][:, 3:]  # a'x = 0
        assert np.abs(weights @ nothing).max() < 1e-9 * np.abs(weights).max()


def test_a_problem_is_a_law_of_pretraining_too():
    """W* = w I: of sparse tasks that of their covariance, of signs c^2 / [d (1+s2) + (n-1) c^2] with c^2 = 2/pi."""
    signs = 2 / np.pi / (4 * 2.0 + 9 * 2 / np.pi)  # .046; of linear labels .0625
    sparse = pretrained_weights(Pretraining(10, task_cov=np.full(4, 0.25), noise_var=1.0), dense=False)[0]
    for tasks, best in (
        (SparseTasks(4, 1), sparse),
        (SingleIndex(GaussianTasks(d=4), "sign"), signs),
    ):  # of linear labels .0625
        problem = Problem(n=10, k=8, task=tasks, noise_var=1.0)
        model, params = functional(LinearAttention(jnp.zeros((4, 4))))
        weights = pretrain(model, params, problem, num_steps=300, learning_rate=3e-3, progress=False).weights[...]
        assert np.abs(weights - best * np.eye(4)).max() < 0.15 * best


def test_the_law_of_a_problem_is_kept_with_the_run(tmp_path):
    model, params = functional(LinearAttention(jnp.zeros((2, 2))))
    options = {"num_steps": 2, "batch_size": 2, "progress": False, "directory": tmp_path}
    problem = Problem(n=3, k=3, task=SingleIndex(SparseTasks(2, 1), "sign"))
    first = pretrain(model, params, problem, **options)
    np.testing.assert_array_equal(first.weights[...], pretrain(model, params, problem, **options).weights[...])
    for other in (replace(problem, task=SingleIndex(SparseTasks(2, 1), "tanh")), Pretraining(3, d=2)):
        with pytest.raises(ValueError, match=r"^\w+ must be .* to resume the run in"):
            pretrain(model, params, other, **options)
    with pytest.raises(ValueError, match=r"^link must be a name in LINKS for a run that is kept in a directory, got"):
        pretrain(model, params, replace(problem, task=SingleIndex([1.0, 2.0], jnp.cos)), **options)
    with pytest.raises(NotApplicable, match=r"^pretraining needs Gaussian features, got feature_law 'rademacher'"):
        pretrain(model, params, replace(problem, feature_law="rademacher"), **options)
