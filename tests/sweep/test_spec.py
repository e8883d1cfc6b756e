from dataclasses import dataclass
from datetime import date

import pytest

from ttt_jax import (
    SHIFTS,
    Folds,
    GaussianTasks,
    GradientStep,
    GradientSteps,
    Optimizer,
    Pretraining,
    Problem,
    SingleIndex,
)
from ttt_jax.procedures import PROCEDURES, Procedure
from ttt_jax.sweep.spec import load_spec, make_spec

FOLDS = {"name": "folds", "folds": 4}
STEPS = {"name": "steps", "step_sizes": [1e-3, 5e-4]}
ADAM = {"name": "optimizer", "optimizer": "adam", "learning_rate": 1e-3, "num_steps": 2}


@dataclass(frozen=True)
class Unknown(Procedure):
    """A procedure with a step size that theory knows nothing of."""

    lr: float | str = "optimal"


def spec(sweep=None, **grid):
    return make_spec({"sweep": {"num_tasks": 100, **(sweep or {})}, "grid": {"d": 4, "n": 3, "k": 5, **grid}})


def test_every_axis_multiplies_and_the_last_is_fastest():
    cells = spec(noise_var=[0.0, 0.1], init=["pretrained", "zero"], evaluation=["fresh", "same"]).cells
    assert len(cells) == 8
    assert [(c.noise_var, c.init, c.evaluation) for c in cells[:3]] == [
        (0.0, "pretrained", "fresh"),
        (0.0, "pretrained", "same"),
        (0.0, "zero", "fresh"),
    ]
    assert len({c.seed for c in cells}) == 8


def test_a_shift_to_labels_with_a_link_is_simulated_from_data_at_given_step_sizes(monkeypatch):
    def signs(n, k, d, noise_var):
        return Pretraining(n, d=d), Problem(n, k, SingleIndex(GaussianTasks(d=d), "sign"), noise_var=noise_var)

    monkeypatch.setitem(SHIFTS, "signs", signs)
    data = {"sampler": "data"}
    assert len(spec(data, shift="signs", lr=[0.0, 0.1]).cells) == 2
    assert len(spec(data, shift="signs", procedure=STEPS).cells) == 1
    with pytest.raises(ValueError, match=r"^grid.shift: sampler must be 'data' for 'signs', got 'law'"):
        spec(shift="signs", lr=0.1)
    with pytest.raises(ValueError, match=r"^grid.lr must be a number where no formula gives the optimal one of 'step'"):
        spec(data, shift="signs")


def test_shifts_are_axes():
    tables = [{"name": "rotated", "angle": [0, 30]}, {"name": "none"}]
    cells = spec(shift=tables).cells
    assert [(c.shift, c.shift_parameters) for c in cells] == [
        ("rotated", {"angle": 0}),
        ("rotated", {"angle": 30}),
        ("none", {}),
    ]
    problem, weights = cells[1].problem()
    assert weights.shape == (problem.d, problem.d)


def test_procedures_are_an_axis():
    cells = spec({"sampler": "data"}, procedure=["step", STEPS, ADAM, {"folds": 4, "name": "folds"}]).cells
    step, steps, adam, folds = (cell.what() for cell in cells)
    assert isinstance(step, GradientStep)
    assert isinstance(steps, GradientSteps)
    assert steps.step_sizes.tolist() == [1e-3, 5e-4]
    assert isinstance(adam, Optimizer)
    assert isinstance(folds, Folds)
    assert (step.lr, adam.num_steps, folds.folds, folds.lr) == ("optimal", 2, 4, "optimal")
    (cell,) = spec({"sampler": "data"}, procedure=FOLDS, lr=0.1).cells
    assert cell.what().lr == 0.1


def test_a_table_of_evaluation_is_the_law_at_inference():
    plain, other = spec(evaluation=["same", {"n": 9, "feature_cov": [1.0, 2.0, 3.0, 4.0]}]).cells
    assert plain.problem()[0].inference.context == "same"
    law = other.problem()[0].inference
    assert (law.context, law.n, law.query_feature_cov.tolist()) == ("fresh", 9, [1.0, 2.0, 3.0, 4.0])


def test_zero_start_and_ratios():
    (cell,) = make_spec(
        {"sweep": {"num_tasks": 1}, "grid": {"d": 8, "n_over_d": 0.5, "k_over_d": 2.0, "init": "zero"}}
    ).cells
    assert (cell.n, cell.k) == (4, 16)
    assert not cell.problem()[1].any()


@pytest.mark.parametrize(
    ("sweep", "grid", "message"),
    [
        ({}, {"n": 0}, "grid.n must be an integer >= 1, got 0"),
        ({}, {"n": 2.5}, "grid.n must be an integer >= 1, got 2.5"),
        ({}, {"n": "many"}, "grid.n must be an integer >= 1, got 'many'"),
        ({}, {"n": []}, "grid.n must not be an empty list"),
        ({}, {"n": [3, 3]}, "grid.n must not contain a value twice"),
        ({}, {"n_over_d": 0.5}, "grid.n must be given either as n or as n_over_d, got both"),
        ({}, {"noise_var": -1}, "grid.noise_var must be a finite number >= 0, got -1"),
        ({}, {"noise_var": float("nan")}, "grid.noise_var must be a finite number >= 0, got nan"),
        ({}, {"lr": "best"}, "grid.lr must be one of optimal, asymptotic, got 'best'"),
        ({}, {"lr": True}, "grid.lr must be a finite number, got True"),
        ({}, {"init": "warm"}, "grid.init must be one of pretrained, zero, got 'warm'"),
        ({}, {"evaluation": 1}, "grid.evaluation must be one of fresh, same, got 1"),
        ({}, {"noise": 1}, "grid.noise is not a key; the keys are d, n, n_over_d, k,"),
        ({}, {"shift": "sideways"}, "grid.shift: shift must be one of"),
        ({}, {"shift": {"name": "rotated", "ratio": "a"}}, "grid.shift: ratio must be"),
        ({}, {"shift": {"name": "none", "angle": 3}}, "grid.shift: shift 'none' takes no parameters, got angle"),
        ({}, {"shift": {"angle": 3}}, "grid.shift.name is missing"),
        ({}, {"shift": 3}, "grid.shift must be a table, got 3"),
        ({}, {"shift": {"name": "rotated", "angle": date(2020, 1, 1)}}, "grid.shift.angle must be a number, got"),
        ({}, {"shift": {"name": {"a": 1}}}, "grid.shift.name must be a name, got {'a': 1}"),
        ({}, {"shift": {"name": "rotated", "n": 3}}, "grid.shift.n is not a parameter of a shift; set grid.n instead"),
        ({}, {"shift": {"name": "power_law", "exponent": -1e4}}, "grid.shift: "),
        ({}, {"n": 10**23}, "grid.n must be at most 2147483639, got 1"),
        ({}, {"d": 10**10}, "grid.d must be at most 2147483639, got 1"),
        ({}, {"n": list(range(1, 2000)), "k": list(range(1, 2000))}, "grid must have at most 1000000 cells, got 4e+06"),
        ({"num_tasks": -1}, {}, "sweep.num_tasks must be an integer >= 0, got -1"),
        ({"seed": -1}, {}, "seed must be an integer >= 0, got -1"),
        ({"x64": "yes"}, {}, "sweep.x64 must be true or false, got 'yes'"),
        ({"tasks": 3}, {}, "sweep.tasks is not a key; the keys are seed, num_tasks,"),
        ({"max_tasks": 3}, {}, "sweep needs either num_tasks"),
        ({"target_relative_stderr": 0.1}, {}, "sweep needs either num_tasks"),
        ({}, {"init": {"temperature": 1}}, "grid.init.model is missing: one of linear,"),
        ({}, {"init": {"model": "gpt"}}, "grid.init.model must be one of linear,"),
        ({}, {"init": {"model": "softmax", "layers": 2}}, "grid.init: model 'softmax' takes temperature, scale, got"),
        ({}, {"init": {"model": "softmax", "num_steps": 0}}, "grid.init.num_steps must be an integer >= 1, got 0"),
        ({}, {"init": {"model": "softmax"}}, "grid.sampler must be 'data' for the model 'softmax', got 'law'"),
        (
            {"sampler": "data"},
            {"init": {"model": "softmax"}},
            "must be a number where no formula gives the optimal one of the model 'softmax'",
        ),
        ({"sampler": "rows"}, {}, "grid.sampler must be one of data, law, got 'rows'"),
        ({"block_size": 0}, {}, "sweep.block_size must be an integer >= 1, got 0"),
        ({"block_size": 10**14}, {}, "sweep.block_size must be at most 1048576, got 1"),
        ({}, {"procedure": "leap"}, "grid.procedure.name must be one of step, folds, steps, optimizer, got 'leap'"),
        ({}, {"procedure": {"folds": 4}}, "grid.procedure.name must be one of step, folds, steps, optimizer, got None"),
        ({}, {"procedure": 4}, "grid.procedure must be a table, got 4"),
        ({}, {"procedure": {**FOLDS, "lr": 0.1}}, "grid.procedure must not give the lr; use grid.lr"),
        ({}, {"procedure": {"name": "folds"}}, "grid.procedure: procedure 'folds' needs folds"),
        ({}, {"procedure": {**FOLDS, "number": 4}}, "grid.procedure: procedure 'folds' takes folds, lr, got number"),
        ({}, {"procedure": {**FOLDS, "folds": 3}}, "grid.procedure: folds must divide n + k = 8, got 3"),
        ({}, {"procedure": FOLDS, "k": [5, 6]}, "grid.procedure: folds must divide n + k = 9, got 4"),
        ({}, {"procedure": {**FOLDS, "folds": date(2020, 1, 1)}}, "grid.procedure: folds must be an integer >= 2, got"),
        ({"sampler": "law"}, {"procedure": FOLDS}, "grid.sampler must be 'data' for the procedure 'folds', got 'law'"),
        ({}, {"procedure": STEPS, "lr": ["optimal", 0.1]}, "grid.procedure: 'steps' takes no lr, got 0.1"),
        ({}, {"procedure": STEPS, "lr": "asymptotic"}, "grid.procedure: 'steps' takes no lr, got 'asymptotic'"),
        (
            {},
            {"procedure": {**STEPS, "new_context": True}, "evaluation": "same"},
            "grid.procedure: evaluation must be 'fresh' for new contexts at every step, got 'same'",
        ),
        ({}, {"procedure": {**ADAM, "optimizer": "eve"}}, "grid.procedure: optimizer must be the name of an optax"),
        (
            {},
            {"procedure": FOLDS, "lr": "asymptotic"},
            "grid.lr must be a number where no formula gives the asymptotic",
        ),
        (
            {},
            {"procedure": FOLDS, "shift": "rademacher"},
            "grid.lr must be a number where no formula gives the optimal",
        ),
        ({}, {"evaluation": {"m": 1}}, "grid.evaluation.m is not a key; the keys are context, n, feature_cov,"),
        ({}, {"evaluation": {"n": 0}}, "grid.evaluation.n must be an integer >= 1, got 0"),
        ({}, {"evaluation": {"n": date(2020, 1, 1)}}, "grid.evaluation.n must be an integer >= 1, got"),
        (
            {},
            {"evaluation": {"feature_cov": [1.0, 2.0]}},
            "grid.evaluation.feature_cov must be for",
        ),
    ],
)
def test_errors_name_the_key_and_what_would_be_right(sweep, grid, message):
    if "procedure" in grid:
        sweep = {"sampler": "data", **sweep}
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        spec(sweep, **grid)
    assert message in str(error.value)


def test_a_step_size_that_theory_cannot_choose_must_be_a_number(monkeypatch):
    monkeypatch.setitem(PROCEDURES, "unknown", Unknown)
    message = "^grid.lr must be a number where no formula gives the optimal one of 'unknown', got 'optimal'$"
    for lr in ({}, {"lr": [0.1, "optimal"]}):
        with pytest.raises(ValueError, match=message):
            spec({"sampler": "data"}, procedure="unknown", **lr)
    assert len(spec({"sampler": "data"}, procedure="unknown", lr=[0.1, 0.2]).cells) == 2


@pytest.mark.parametrize("missing", ["d", "n", "k"])
def test_missing_sizes_are_named(missing):
    grid = {"d": 4, "n": 3, "k": 5}
    del grid[missing]
    with pytest.raises(ValueError, match=f"grid.{missing} "):
        make_spec({"sweep": {"num_tasks": 1}, "grid": grid})


def test_a_ratio_too_small_is_refused():
    with pytest.raises(ValueError, match=r"grid.n_over_d must give at least one row, got 0.1 at d = 4"):
        make_spec({"sweep": {"num_tasks": 1}, "grid": {"d": 4, "n_over_d": 0.1, "k": 5}})


@pytest.mark.parametrize("ratio", [1e9, 1e308])
def test_a_ratio_too_large_is_refused(ratio):
    with pytest.raises(ValueError, match=r"grid.n_over_d must give at most 2147483639 rows, got 1"):
        make_spec({"sweep": {"num_tasks": 1}, "grid": {"d": 4, "n_over_d": ratio, "k": 5}})


def test_a_target_needs_a_cap():
    data = {"target_relative_stderr": 0.01, "max_tasks": 1000}
    assert make_spec({"sweep": data, "grid": {"d": 4, "n": 3, "k": 5}}).target_relative_stderr == 0.01
    with pytest.raises(ValueError, match=r"sweep.target_relative_stderr must be between 0 and 1, got 2"):
        make_spec({"sweep": {**data, "target_relative_stderr": 2}, "grid": {"d": 4, "n": 3, "k": 5}})


def test_files_that_are_no_specification(tmp_path):
    file = tmp_path / "spec.toml"
    for path in (file, tmp_path):
        with pytest.raises(ValueError, match=r": cannot be read \("):
            load_spec(path)
    for content, message in (
        (b"[sweep", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        (b"a = 1", "a is not a key; the keys are sweep, grid"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            load_spec(file)
        assert str(file) in str(error.value)


def test_a_ratio_gives_the_nearest_number_of_rows():
    (cell,) = make_spec({"sweep": {"num_tasks": 1}, "grid": {"d": 6, "n_over_d": 0.3, "k_over_d": 0.4}}).cells
    assert (cell.n, cell.k) == (2, 2)  # 1.8 and 2.4


def test_deep_nesting_is_one_line(tmp_path):
    (tmp_path / "deep.toml").write_text("x = " + "[" * 3000 + "]" * 3000)
    with pytest.raises(ValueError, match=r"deep.toml: not a specification: nested too deeply"):
        load_spec(tmp_path / "deep.toml")


@pytest.mark.parametrize("length", ["num_tasks = ", "target_relative_stderr = 0.1\nmax_tasks = "])
def test_a_length_that_cannot_be_counted_names_its_key(tmp_path, length):
    (tmp_path / "long.toml").write_text(f"[sweep]\n{length}{'9' * 30}\n[grid]\nd = 3\nn = 4\nk = 4\n")
    with pytest.raises(ValueError, match=rf"sweep.{length.split()[-2]} must be at most 1000000000000000, got 9+$"):
        load_spec(tmp_path / "long.toml")
