"""What a cell of a sweep is and what its row holds; what a sweep refuses."""

import json
import sys
from dataclasses import replace

import pytest

import ttt_jax.sweep.run as sweep
from tests.sweep.runs import SPEC, table, write_spec
from ttt_jax import Folds, GradientSteps, Inference, asymptotic_risk, compare, estimate_risk, exact_risk
from ttt_jax.cli.main import main
from ttt_jax.procedures import make_procedure
from ttt_jax.shifts import SHIFTS
from ttt_jax.simulation.blocks import run_blocks
from ttt_jax.sweep.run import run_sweep
from ttt_jax.sweep.spec import load_spec
from ttt_jax.theory.yardsticks import least_squares_risk, ridge_risk
from ttt_jax.verdict import Verdict, judge
from ttt_jax.verdict.agreement import critical_z


def test_a_cell_is_compare(undisturbed):
    spec, _ = load_spec(undisturbed / "spec.toml")
    for cell, row in zip(spec.cells, table(undisturbed / "out"), strict=True):
        problem, weights = cell.problem()
        lr = float(row["lr"])
        options = {"sampler": "law", "seed": cell.seed, "block_size": 64}
        compared = compare(problem, weights, lr, num_tasks=3000, **options)
        found = compared.estimate
        assert float(row["estimate"]) == found.mean
        assert float(row["stderr"]) == compared.stderr()
        marks = [r for r in table(undisturbed / "out", "convergence.csv") if r["cell"] == row["cell"]]
        assert [(int(r["num_tasks"]), float(r["mean"])) for r in marks] == [h[:2] for h in found.history]


def test_a_row_holds_the_theory_of_its_cell(undisturbed):
    spec, _ = load_spec(undisturbed / "spec.toml")
    for cell, row in zip(spec.cells, table(undisturbed / "out"), strict=True):
        problem, weights = cell.problem()
        lr = float(row["lr"])
        exact, leading = (risk(problem, weights) for risk in (exact_risk, asymptotic_risk))
        assert (float(row["initial"]), float(row["exact"])) == (exact.initial, exact.at(lr))
        assert float(row["asymptotic"]) == leading.at(lr)
        for name, yardstick in (("least_squares", least_squares_risk), ("ridge", ridge_risk)):
            assert float(row[name]) == yardstick(problem)
        assert (float(row["n_over_d"]), float(row["k_over_d"])) == (cell.n / 3, 2.0)
        assert float(row["z"]) == pytest.approx((float(row["estimate"]) - exact.at(lr)) / float(row["stderr"]))


ADAM = {"name": "optimizer", "optimizer": "adam", "learning_rate": 1e-2, "num_steps": 2}
PROCEDURES = """procedure = ["step", {name = "steps", step_sizes = [1e-3, 5e-4], new_context = true},
  {name = "optimizer", optimizer = "adam", learning_rate = 1e-2, num_steps = 2}]"""


def procedures_text(lines):
    text = SPEC.replace("3000", "256").replace("{sampler}", "data").replace("[4, 9]", "4")
    return text.replace('evaluation = ["fresh", "same"]', lines)


def test_procedures_of_several_steps_are_cells(tmp_path):
    """The estimate of every one, theory where there is some, and a verdict that says what it rests on."""
    rows = run_sweep(write_spec(tmp_path, text=procedures_text(PROCEDURES)), tmp_path / "out", progress=False)
    names = [json.loads(row["procedure"])["name"] if "{" in row["procedure"] else row["procedure"] for row in rows]
    assert names == ["step", "steps", "optimizer"]
    (problem, weights), seeds = load_spec(tmp_path / "spec.toml")[0].cells[0].problem(), [row["seed"] for row in rows]
    steps, adam = GradientSteps([1e-3, 5e-4], new_context=True), make_procedure(**ADAM)
    for row, procedure, seed in zip(rows[1:], (steps, adam), seeds[1:], strict=True):
        found = estimate_risk(problem, weights, procedure, num_tasks=256, seed=seed, block_size=64)
        assert (row["estimate"], row["stderr"]) == (found.mean[-1], found.stderr[-1])
        assert row["lr"] is row["stderr_reliable"] is None
        assert row["lr_rule"] == "given"
        assert "the reliability of the standard error is not assessed" in row["note"]
    assert rows[1]["exact"] == exact_risk(problem, weights, steps).final
    assert rows[2]["exact"] is rows[2]["z"] is None
    assert "no exact risk is known for Optimizer" in rows[2]["note"]
    assert [row["stderr_reliable"] for row in rows] == [False, None, None]
    largest = abs(rows[1]["z"])
    assert judge(rows) == Verdict(1, outside=0, bound=critical_z(0.99), largest=largest, unassessed=1, unreliable=1)
    assert str(judge(rows[2:])) == "no verdict: no cell has a z-score"
    assert main(["report", str(tmp_path / "out")]) == 0
    assert run_sweep(tmp_path / "spec.toml", tmp_path / "out", resume=True, progress=False) == rows


def test_folds_have_an_exact_risk_and_step_size_in_their_cell(tmp_path):
    text = procedures_text('procedure = {folds = 5, name = "folds"}\nlr = [1e-3, "optimal"]')
    given, free = run_sweep(write_spec(tmp_path, text=text), tmp_path / "out", progress=False)
    problem, weights = load_spec(tmp_path / "spec.toml")[0].cells[0].problem()
    found = estimate_risk(problem, weights, Folds(5, 1e-3), num_tasks=256, seed=given["seed"], block_size=64)
    curve = exact_risk(problem, weights, Folds(5))
    assert (given["lr"], given["estimate"], given["exact"]) == (1e-3, found.mean, curve.at(1e-3))
    assert (free["lr"], free["exact"]) == (curve.optimal_lr, curve.optimal)
    assert {*given} == {*free}
    assert (free["sampler"], free["block_size"], free["num_tasks"]) == ("data", 64, 256)


def test_step_sizes_by_rule_are_the_optima_of_theory(tmp_path):
    text = SPEC.replace("3000", "64").replace("[4, 9]", "4").replace('["fresh", "same"]', '"fresh"')
    path = write_spec(tmp_path, text=text.replace("{sampler}", "law") + 'lr = ["optimal", "asymptotic"]\n')
    rows = run_sweep(path, tmp_path / "out", progress=False)
    problem, weights = load_spec(path)[0].cells[0].problem()
    assert [row["lr"] for row in rows] == [risk(problem, weights).optimal_lr for risk in (exact_risk, asymptotic_risk)]
    assert rows[0]["lr"] != rows[1]["lr"]
    assert [row["lr_rule"] for row in rows] == ["optimal", "asymptotic"]


def test_a_law_at_inference_is_an_axis(tmp_path):
    table = 'evaluation = ["fresh", {n = 8, noise_var = 0.5, query_noise_var = 0.0}]'
    text = SPEC.replace("[4, 9]", "4").replace('evaluation = ["fresh", "same"]', table)
    fresh, other = run_sweep(write_spec(tmp_path, text=text), tmp_path / "out", progress=False)
    assert (fresh["evaluation"], json.loads(other["evaluation"])["n"]) == ("fresh", 8)
    problem, weights = load_spec(tmp_path / "spec.toml")[0].cells[0].problem()
    law = replace(problem, evaluation=Inference(n=8, noise_var=0.5, query_noise_var=0.0))
    assert other["exact"] == exact_risk(law, weights).optimal != fresh["exact"]
    assert max(abs(fresh["z"]), abs(other["z"])) < 4
    assert main(["report", str(tmp_path / "out")]) == 0


def test_one_compilation_per_model_and_size(tmp_path):
    grid = 'd = [6, 7]\ninit = ["pretrained", "zero"]\nshift = "features"'
    text = SPEC.replace("d = 3", grid).replace("[4, 9]", "[4, 9, 20]").replace("3000", "64")
    for sampler, d in (("data", "[6, 7]"), ("law", "6")):  # the law has fresh and same apart
        before = run_blocks._cache_size()
        run_sweep(write_spec(tmp_path, sampler, text.replace("[6, 7]", d)), tmp_path / sampler, progress=False)
        assert run_blocks._cache_size() == before + 2
    isotropic = text.replace("[6, 7]", "[6, 7, 8]").replace('shift = "features"', "")
    run_sweep(write_spec(tmp_path, "law", isotropic), tmp_path / "isotropic", progress=False)
    assert run_blocks._cache_size() <= before + 4  # fresh and same, for all d


def test_theory_alone(undisturbed, tmp_path):
    """num_tasks = 0: the theory of a sweep that is simulated, and nothing else."""
    rows = run_sweep(write_spec(tmp_path, text=SPEC.replace("3000", "0")), tmp_path / "out", progress=False)
    assert [row["estimate"] for row in rows] == [None] * 4
    assert {row["num_tasks"] for row in rows} == {0}
    for row, simulated in zip(rows, table(undisturbed / "out"), strict=True):
        for name in ("lr", "initial", "exact", "asymptotic", "ridge"):
            assert row[name] == float(simulated[name])
    assert main(["report", str(tmp_path / "out")]) == 0


def test_refusals_are_one_line_and_change_nothing(undisturbed, tmp_path, capsys):
    out, spec = undisturbed / "out", undisturbed / "spec.toml"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    changed = write_spec(tmp_path, "law", SPEC.replace("k = 6", "k = 7"))
    for arguments, message in (
        ([spec, "--out", out], "already holds this sweep; add --resume"),
        ([changed, "--out", out], "grid.k was 6, is 7; undo that, or choose another --out"),
        ([changed, "--out", out, "--resume"], "grid.k was 6, is 7"),
        ([tmp_path / "none.toml", "--out", tmp_path / "x"], "No such file"),
        ([spec, "--out", spec], "must be a directory, but a file is in the way"),
        ([spec, "--out", tmp_path / "x", "--process-id", "0"], "must be given together"),
    ):
        assert main(["sweep", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert not (tmp_path / "x").exists()


def test_shifts_with_parameters_of_their_own(tmp_path):
    """One column for every parameter, together, empty where a shift does not have it; nothing to judge is said."""
    shifts = "".join(
        f"[[grid.shift]]\nname = {line}\n"
        for line in ('"none"', '"rotated"\nangle = [0, 30]', '"power_law"\nexponent = 2')
    )
    text = SPEC.replace("3000", "64").replace('evaluation = ["fresh", "same"]\n', "") + shifts
    rows = run_sweep(write_spec(tmp_path, "law", text), tmp_path / "out", progress=False)
    cells = table(tmp_path / "out")
    assert [*cells[0]][7:11] == ["shift", "shift_angle", "shift_exponent", "init"]
    assert [(row["shift"], row["shift_angle"], row["shift_exponent"]) for row in cells[:4]] == [
        ("none", "", ""),
        ("rotated", "0", ""),
        ("rotated", "30", ""),
        ("power_law", "", "2"),
    ]
    assert str(judge(rows)).startswith("no verdict: no cell has a standard error that can be trusted; 8 not judged")
    assert main(["report", str(tmp_path / "out")]) == 0
    assert "angle = ," not in (tmp_path / "out" / "report.html").read_text()


def test_risks_that_overflow_are_counted_and_never_averaged(tmp_path):
    text = SPEC.replace('evaluation = ["fresh", "same"]', "lr = [1e30, 0.0]")
    rows = run_sweep(write_spec(tmp_path, "law", text), tmp_path / "out", progress=False)
    broken = [row for row in rows if row["lr"] == 1e30]
    assert all(row["num_nonfinite"] > 0 and row["estimate"] is None and "not finite" in row["note"] for row in broken)
    assert all(row["estimate"] is not None for row in rows if row["lr"] == 0.0)
    assert "2 with risks that are not finite" in str(judge(rows))
    assert main(["report", str(tmp_path / "out")]) == 0


def test_a_doubtful_standard_error_is_not_judged():
    rows = [{"z": z, "stderr_reliable": z < 50, "num_nonfinite": 0} for z in (0.3, 99.0)]
    line = str(judge(rows))
    assert line.startswith("agree: largest |z| 0.30 of 1 cell, critical 2.58 (family-wise level 1%); 1 not judged")


def test_a_cell_without_values_says_why_and_stops_nothing(tmp_path):
    text = SPEC.replace('evaluation = ["fresh", "same"]\nnoise_var = 0.1', "noise_var = [0.1, 1e200, 0.2]")
    rows = run_sweep(write_spec(tmp_path, "law", text), tmp_path / "out", progress=False)
    assert [row["estimate"] is None for row in rows] == [False, True, False] * 2
    for row in rows[1::3]:
        assert "overflows float64" in row["note"]
        assert row["exact"] is row["lr"] is row["z"] is None
    assert "2 without values: the column note says why" in str(judge(rows))
    assert main(["report", str(tmp_path / "out")]) == 0
    assert rows == run_sweep(tmp_path / "spec.toml", tmp_path / "out", resume=True, progress=False)


def test_results_of_another_kind_are_left_alone(tmp_path, capsys):
    spec, out = write_spec(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "results.csv").write_text("mine")
    for arguments in ([spec, "--out", out], [spec, "--out", out, "--resume"], [out / "results.csv", "--out", out]):
        assert main(["sweep", *map(str, arguments)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert [file.name for file in out.iterdir()] == ["results.csv"]
    assert (out / "results.csv").read_text() == "mine"


def test_a_specification_is_not_overwritten(tmp_path, capsys):
    for name in sweep.FILES:
        (tmp_path / name).write_text("[grid]")
        assert main(["sweep", str(tmp_path / name), "--out", str(tmp_path)]) == 2
        assert "is an input and would be overwritten" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "[grid]"


PLUGIN = """
import numpy as np
import ttt_jax as ttt
def sparse(n, k, d, noise_var, *, nonzero=1):
    task = (np.arange(d) < nonzero) / np.sqrt(nonzero)
    return ttt.Pretraining(n, d=d, noise_var=noise_var), ttt.Problem(n, k, task, noise_var=noise_var)
ttt.SHIFTS["sparse"] = sparse
"""


def test_a_shift_of_a_plugin(tmp_path, monkeypatch, capsys):
    """The module is found in the working directory, kept in the store, and not needed by the report."""
    (tmp_path / "my_shifts.py").write_text(PLUGIN)
    text = SPEC.replace("3000", "64") + '[grid.shift]\nname = "sparse"\nnonzero = [1, 2]\n'
    write_spec(tmp_path, "law", text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(SHIFTS, "sparse", raising=False)
    sweep_it = ["sweep", "spec.toml", "--out", "out"]
    assert main(sweep_it) == 2
    assert "shift must be one of" in capsys.readouterr().err
    assert main([*sweep_it, "--plugin", "no_such_module"]) == 2
    assert "--plugin: no_such_module cannot be imported (ModuleNotFoundError" in capsys.readouterr().err
    assert main([*sweep_it, "--plugin", "my_shifts"]) == 0
    assert main([*sweep_it, "--resume"]) == 2
    assert "--plugin was ['my_shifts'], is missing" in capsys.readouterr().err
    assert main([*sweep_it, "--resume", "--plugin", "my_shifts"]) == 0
    del SHIFTS["sparse"]
    assert main(["report", "out"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<th>shift_nonzero</th>" in page
    assert "<th>shift</th>" not in page  # it is the same in every cell
    sys.modules.pop("my_shifts")


def test_models_by_name_are_starts(tmp_path):
    """Linear attention that is trained by gradient descent is near W*."""
    trained = '{model = "linear", num_steps = 300, learning_rate = 3e-3}'
    grid = f'd = 2\nn = 8\nk = 4\nlr = 1e-4\ninit = ["zero", "pretrained", {trained}]'
    path = tmp_path / "spec.toml"
    path.write_text(f'[sweep]\nnum_tasks = 500\nsampler = "data"\n[grid]\n{grid}\n')
    cold, warm, model = run_sweep(path, tmp_path / "out", progress=False)
    assert json.loads(model["init"])["model"] == "linear"
    assert model["exact"] is None
    assert "model with parameters" in model["note"]
    assert abs(model["estimate"] - warm["estimate"]) < 0.2 * (cold["estimate"] - warm["estimate"])
    assert main(["report", str(tmp_path / "out")]) == 0
