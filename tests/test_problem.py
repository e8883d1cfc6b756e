from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttt_jax import (
    GaussianTasks,
    Inference,
    Pretraining,
    Problem,
    asymptotic_risk,
    compare,
    exact_risk,
    risk_law,
    yardsticks,
)
from ttt_jax._internal.validate import step_size_array
from ttt_jax.theory import decisions, paper, several_steps
from ttt_jax.theory import yardsticks as yardstick_theory
from ttt_jax.theory.finite_pretraining import finite_pretraining_risk
from ttt_jax.theory.folds import folds_curve
from ttt_jax.theory.schedules import one_batch

GOOD = {"n": 4, "k": 3, "task": [1.0, 2.0], "feature_cov": 1.0, "noise_var": 0.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", -1),
        ("n", 2.0),
        ("n", True),
        ("n", "3"),
        ("k", 0),
        ("k", None),
        ("task", 1.0),
        ("task", []),
        ("task", [[1.0]]),
        ("task", [np.nan, 1.0]),
        ("task", [1j, 1.0]),
        ("task", ["a", "b"]),
        ("feature_cov", -1.0),
        ("feature_cov", [1.0, -1e-3]),
        ("feature_cov", [1.0, 1.0, 1.0]),
        ("feature_cov", [[1.0, 0.5], [0.4, 1.0]]),
        ("feature_cov", [[1.0, 2.0], [2.0, 1.0]]),
        ("feature_cov", np.ones((2, 3))),
        ("feature_cov", np.ones((2, 2, 2))),
        ("feature_cov", np.inf),
        ("noise_var", -0.1),
        ("noise_var", np.nan),
        ("noise_var", "loud"),
        ("noise_var", "0.1"),
        ("noise_var", True),
        ("noise_var", 1j),
        ("task", ["1", "2"]),
        ("task", [True, False]),
        ("task", np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")),
        ("task", [[1.0], [1.0, 2.0]]),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(ValueError, match=field) as error:
        Problem(**(GOOD | {field: value}))
    assert "\n" not in str(error.value)


@given(st.integers(max_value=0))
def test_sizes_below_one_are_refused(size):
    for field in ("n", "k"):
        with pytest.raises(ValueError, match=f"{field} must be an integer >= 1"):
            Problem(**(GOOD | {field: size}))


def test_disagreeing_dimensions_name_both_fields():
    with pytest.raises(ValueError, match=r"task_cov must be for 2 features to agree with feature_cov, got 3"):
        Pretraining(n=3, feature_cov=[1.0, 1.0], task_cov=np.eye(3))
    with pytest.raises(ValueError, match="d must be given"):
        Pretraining(n=3)
    with pytest.raises(ValueError, match=r"^cov must be for 2 features to agree with mean, got 1$"):
        GaussianTasks(mean=[1.0, 1.0], cov=[1.0])


def test_values_are_float64_and_cannot_be_changed():
    task = np.array([1, 2])
    problem = Problem(3, 4, task)
    task[0] = 7
    assert problem.task.tolist() == [1.0, 2.0]
    assert problem.task.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        problem.task[0] = 0


def test_rounding_noise_in_a_covariance_is_accepted():
    rank_one = np.outer([1.0, 1 / 3, 0.1], [1.0, 1 / 3, 0.1])
    rank_one[0, 1] *= 1 + 1e-15
    assert Problem(3, 4, np.ones(3), rank_one).feature_cov.shape == (3, 3)


def test_masked_arrays_are_refused():
    masked = np.ma.masked_array([1.0, 5.0], [False, True])
    for field in ("task", "feature_cov"):
        with pytest.raises(ValueError, match=f"{field} must not be masked, got 1 masked value"):
            Problem(**(GOOD | {field: masked}))
    assert Problem(2, 2, np.ma.masked_array([1.0, 5.0])).task.tolist() == [1.0, 5.0]


@pytest.mark.parametrize("field", [*GOOD])
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, lambda f: jax.grad(lambda x: f(x).sum())])
def test_traced_values_are_refused_with_the_function_that_takes_them(field, transform):
    values = jnp.ones((3, 2) if transform is jax.vmap and field == "task" else 2 if field == "task" else ())
    values = jnp.ones(3) if transform is jax.vmap and field != "task" else values
    with pytest.raises(ValueError, match=f"{field} has no value inside jit.*risk_coefficients") as error:
        transform(lambda x: Problem(**(GOOD | {field: x})).task)(values)
    assert "\n" not in str(error.value)


def test_traced_weights_and_step_sizes_are_refused():
    problem = Problem(**GOOD)
    with pytest.raises(ValueError, match="start has no value inside jit"):
        jax.grad(lambda w: exact_risk(problem, w).optimal)(0.1)
    with pytest.raises(ValueError, match="step_sizes has no value inside jit"):
        jax.jit(step_size_array)(jnp.ones(2))


@pytest.mark.parametrize(
    "ask",
    [
        lambda problem: exact_risk(problem, 0.0),
        lambda problem: asymptotic_risk(problem, 0.0),
        lambda problem: compare(problem, 0.0),
        lambda problem: risk_law(problem, 0.0),
        lambda problem: yardsticks(problem),
        yardstick_theory.labelled_pairs,
        yardstick_theory.least_squares_risk,
        yardstick_theory.ridge_penalty,
        lambda problem: yardstick_theory.ridge_risk(problem, 1.0),
        lambda problem: decisions.alignment(problem, 0.0),
        decisions.warm_or_cold,
        lambda problem: decisions.best_context(problem, max_n=2),
        decisions.best_split,
        decisions.best_scale,
        lambda problem: decisions.sample_complexity(problem, 0.5, max_n=2),
        lambda problem: finite_pretraining_risk(problem, 3),
        lambda problem: folds_curve(problem, 0.0, 2),
        lambda problem: one_batch(problem, 0.0, 1),
        lambda problem: several_steps.one_batch_risk(problem, 0.0, [0.1]),
        lambda problem: several_steps.best_steps_risk(problem, 0.0, 1),
        lambda problem: several_steps.best_step_sizes(problem, 1),
        lambda problem: several_steps.new_context_risk(problem, 0.0, [0.1]),
        lambda problem: several_steps.new_context_risk_leading(problem, 0.0, [0.1]),
        lambda problem: paper.lemma_b2(problem, 0.0),
        lambda problem: paper.misalignment(problem, 0.0),
        lambda problem: paper.proposition_5_2_risk(problem, 0.0),
        lambda problem: paper.theorem_5_3(problem, 0.0),
        lambda problem: paper.theorem_c4(problem, 0.0),
        lambda problem: paper.corollary_5_4_switch(problem, 0.0),
    ],
)
def test_what_is_asked_of_something_else_than_a_problem(ask):
    for value, said in (("p", "'p'"), (None, "None"), (Pretraining(n=2, d=2), "Pretraining")):
        with pytest.raises(ValueError, match=f"^problem must be a Problem, got {said}"):
            ask(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inference("old"), "context must be one of fresh, same, got 'old'"),
        (lambda: Inference("same", n=80), "n must be None for the context 'same', got 80"),
        (lambda: Inference("same", feature_cov=1.0), "feature_cov must be None for the context 'same'"),
        (lambda: Inference("same", noise_var=0.0), "noise_var must be None for the context 'same', got 0.0"),
        (lambda: Inference(n=0), "n must be an integer >= 1, got 0"),
        (lambda: Inference(query_noise_var=-1), "query_noise_var must be a finite number >= 0, got -1"),
        (lambda: Inference(query_feature_cov=[1.0, -1.0]), "query_feature_cov must be positive semi-definite"),
        (lambda: GaussianTasks(cov=-1, d=2), "^cov must be positive semi-definite, got the eigenvalue -1$"),
        (lambda: GaussianTasks(cov=[[1.0, 0.5], [0.0, 1.0]]), "^cov must be symmetric, got entries"),
        (lambda: GaussianTasks(cov=-1), "^d must be given where mean and cov are scalars, got None$"),
        (lambda: Inference(rescale=1), "rescale must be True or False, got 1"),
        (
            lambda: Problem(2, 2, [0.7, -0.4], evaluation=Inference(feature_cov=np.ones(3))),
            r"evaluation\.feature_cov must be for 2 features to agree with d, got 3",
        ),
        (
            lambda: Problem(2, 2, [1.0], feature_law="cauchy"),
            "feature_law must be one of gaussian, rademacher",
        ),
        (lambda: Problem(2, 2, [1.0], feature_law="student_t"), "dof must be given for feature_law 'student_t' and no"),
        (lambda: Problem(2, 2, [1.0], dof=9.0), "dof must be given for feature_law 'student_t' and no other, got 9.0"),
        (lambda: Problem(2, 2, [1.0], feature_law="student_t", dof=4), "dof must be above 4, got 4"),
        (lambda: Problem(2, 2, [0.7, -0.4], evaluation="new"), "evaluation must be one of fresh, same, got 'new'"),
    ],
)
def test_laws_without_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_fields_left_out_are_those_of_training():
    features = [0.5, 1.5]
    problem = Problem(5, 7, [0.7, -0.4], 2.0, 0.3, evaluation=Inference(n=9, feature_cov=features))
    assert replace(problem, evaluation=Inference(noise_var=0.5)).inference.query_noise_var == 0.5
    law = problem.inference
    assert (law.n, law.noise_var, law.query_noise_var) == (9, 0.3, 0.3)
    assert law.query_feature_cov.tolist() == features  # the query is drawn like the context
    same = replace(problem, evaluation="same").inference
    assert (same.context, same.n, same.feature_cov, same.query_noise_var) == ("same", None, None, 0.3)
    assert float(same.query_feature_cov) == 2.0
