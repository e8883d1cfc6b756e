"""Procedures as values: what they refuse, and how they are made of a number or by name."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ttt_jax import Folds, GradientStep, GradientSteps, Inference, Optimizer, Problem, exact_risk
from ttt_jax.procedures import PROCEDURES, as_procedure, has_free_lr, make_procedure, with_lr


@pytest.mark.parametrize("number", [0, -1e-3, np.float32(0.5), np.array(2.0), jnp.float32(0.5)])
def test_a_number_is_one_step_of_this_size(number):
    step = as_procedure(number)
    assert (type(step), step.lr, step.left, step.right) == (GradientStep, float(number), None, None)


def test_optimal_is_a_free_step_size_and_a_procedure_is_itself():
    assert has_free_lr(as_procedure("optimal"))
    folds = Folds(3)
    assert as_procedure(folds) is folds
    assert has_free_lr(folds)
    assert (with_lr(folds, 0.1).folds, with_lr(folds, 0.1).lr) == (3, 0.1)
    assert not any(map(has_free_lr, (with_lr(folds, 0.1), GradientSteps([0.1]), Optimizer(optax.sgd(0.1), 1))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_procedure(None), "procedure must be a step size or a procedure such as .*, got None"),
        (lambda: as_procedure([0.1]), "procedure must be a step size or a procedure"),
        (lambda: as_procedure(GradientStep), "procedure must be a step size or a procedure"),
        (lambda: as_procedure(np.nan), "lr must be a finite number, got nan"),
        (lambda: as_procedure(True), "lr must be a finite number, got True"),
        (lambda: as_procedure(np.ones(2)), "lr must be a finite number"),
        (lambda: GradientStep("best"), "lr must be a finite number or 'optimal', got 'best'"),
        (lambda: GradientStep(None), "lr must be a finite number, got None"),
        (lambda: GradientStep(left="I"), "left must be an array of real numbers"),
        (lambda: GradientStep(right=np.inf), "right must hold finite numbers only, got inf"),
        (lambda: Folds(1), "folds must be an integer >= 2, got 1"),
        (lambda: Folds(2.5), r"folds must be an integer >= 2, got 2\.5"),
        (lambda: GradientSteps(0.1), "step_sizes must be a sequence of finite numbers, at least one, got 0.1"),
        (lambda: GradientSteps([np.inf]), "step_sizes must be a sequence of finite numbers"),
        (lambda: GradientSteps(["0.1"]), "step_sizes must be a sequence of finite numbers"),
        (lambda: GradientSteps([True, False]), "step_sizes must be a sequence of finite numbers"),
        (lambda: GradientSteps([0.1 + 1j]), "step_sizes must be a sequence of finite numbers"),
        (lambda: Optimizer(optax.sgd, 3), "optimizer must be an optax optimiser such as"),
        (lambda: Optimizer(optax.sgd(0.1), 2.0), "num_steps must be an integer >= 1, got 2.0"),
        (lambda: Optimizer(optax.sgd(0.1), 2, held_out=1.5), "held_out must be an integer >= 0, got 1.5"),
    ],
)
def test_values_without_meaning_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


SAME = Problem(4, 5, [0.6, 0.8], evaluation=Inference("same", query_noise_var=0.1))


@pytest.mark.parametrize(
    ("procedure", "message"),
    [
        (GradientStep(left=np.ones(3)), r"left must be a scalar or have shape \(2,\) or \(2, 2\), got \(3,\)"),
        (GradientStep(right=np.ones((2, 1))), r"right must be a scalar or have shape \(2,\) or \(2, 2\), got \(2, 1\)"),
        (Folds(2), r"folds must divide n \+ k = 9, got 2"),
        (
            GradientSteps([0.1], new_context=True),
            "evaluation must be 'fresh' for new contexts at every step, got 'same'",
        ),
        (Optimizer(optax.sgd(0.1), 1, new_context=True), "evaluation must be 'fresh' for new contexts"),
    ],
)
def test_procedures_that_do_not_fit_the_problem_are_refused(procedure, message):
    for refuse in (procedure.check, lambda problem: exact_risk(problem, 0.1, procedure)):
        with pytest.raises(ValueError, match=message):
            refuse(SAME)


def test_procedures_that_fit_are_not():
    for procedure in (GradientStep(left=2.0, right=np.eye(2)), Folds(3), Folds(9), GradientSteps([0.1])):
        procedure.check(SAME)
    assert (Folds(3).context(SAME), Folds(9).context(SAME)) == (6, 8)


def test_every_procedure_is_made_by_name():
    made = {
        "step": make_procedure("step", lr=0.1, left=2.0),
        "folds": make_procedure("folds", folds=3),
        "steps": make_procedure("steps", step_sizes=[0.1, 0.2], new_context=True),
        "optimizer": make_procedure("optimizer", optimizer="adam", learning_rate=0.1, num_steps=3, held_out=4),
    }
    assert {name: type(procedure) for name, procedure in made.items()} == PROCEDURES
    assert (made["step"].lr, float(made["step"].left)) == (0.1, 2.0)
    assert made["folds"].lr == "optimal"
    assert (made["steps"].num_steps, made["steps"].new_context) == (2, True)
    assert (made["optimizer"].num_steps, made["optimizer"].held_out) == (3, 4)
    update, _ = made["optimizer"].optimizer.update(1.0, made["optimizer"].optimizer.init(0.0))
    assert float(update) == pytest.approx(-0.1, rel=1e-5)  # Adam's first step is its learning rate


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("leap", {}, "procedure must be one of step, folds, steps, optimizer, got 'leap'"),
        ("step", {"rate": 1}, "procedure 'step' takes lr, left, right, got rate"),
        ("folds", {}, "procedure 'folds' needs folds"),
        ("folds", {"folds": 0}, "folds must be an integer >= 2, got 0"),
        ("steps", {}, "procedure 'steps' needs step_sizes"),
        ("optimizer", {"optimizer": "adam", "learning_rate": 0.1}, "procedure 'optimizer' needs num_steps"),
        ("optimizer", {"num_steps": 3}, "optimizer must be the name of an optax optimiser such as 'adam', got None"),
        ("optimizer", {"optimizer": "leap"}, "optimizer must be the name of an optax optimiser .* got 'leap'"),
        *(
            (
                "optimizer",
                {"optimizer": name, "learning_rate": 0.1, "num_steps": 3},
                f"optimizer must be the name of an optax optimiser such as 'adam', got '{name}'",
            )
            for name in ("constant_schedule", "chain", "Params", "__doc__", "projections")
        ),
        ("optimizer", {"optimizer": "adam"}, "learning_rate must be a finite number, got None"),
        ("optimizer", {"optimizer": "adam", "learning_rate": "x"}, "learning_rate must be a finite number, got 'x'"),
        (
            "optimizer",
            {"optimizer": "adam", "learning_rate": 0.1, "steps": 3},
            "takes optimizer, learning_rate, num_steps, new_context, held_out, got steps",
        ),
    ],
)
def test_names_and_parameters_that_are_not_known_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_procedure(name, **parameters)
