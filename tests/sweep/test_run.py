"""Sweeps as a user runs them: interrupted, on several devices, in several processes, with bad input."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import ttt_jax.sweep.run as sweep
from ttt_jax import Folds, GradientSteps, Inference, asymptotic_risk, estimate_risk, exact_risk
from ttt_jax.cli.main import build_parser, main
from ttt_jax.cli.sweep import resume_command
from ttt_jax.procedures import make_procedure
from ttt_jax.shifts import SHIFTS
from ttt_jax.simulation.blocks import BLOCK_BYTES, run_blocks
from ttt_jax.simulation.estimate import Run
from ttt_jax.sweep.run import run_sweep
from ttt_jax.sweep.spec import load_spec
from ttt_jax.sweep.store import Store
from ttt_jax.verdict import Verdict, judge
from ttt_jax.verdict.agreement import critical_z

SPEC = """
[sweep]
num_tasks = 3000
block_size = 64
sampler = "{sampler}"
[grid]
d = 3
n = [4, 9]
k = 6
evaluation = ["fresh", "same"]
noise_var = 0.1
"""
CHANGING = ("seconds", "device")


def write_spec(directory, sampler="law", text=SPEC):
    file = directory / "spec.toml"
    file.write_text(text.replace("{sampler}", sampler))
    return file


def command(*arguments, **environment):
    process = [sys.executable, "-m", "ttt_jax", *map(str, arguments)]
    return subprocess.Popen(
        process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def table(directory, name="results.csv"):
    with (directory / name).open() as stream:
        return [{k: v for k, v in row.items() if k not in CHANGING} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    run_sweep(write_spec(directory), directory / "out", progress=False)
    return directory


def test_a_cell_is_estimate_risk(undisturbed):
    spec, _ = load_spec(undisturbed / "spec.toml")
    for cell, row in zip(spec.cells, table(undisturbed / "out"), strict=True):
        problem, weights = cell.problem()
        lr = float(row["lr"])
        options = {"sampler": "law", "seed": cell.seed, "block_size": 64}
        found = estimate_risk(problem, weights, lr, num_tasks=3000, **options)
        assert float(row["estimate"]) == found.mean
        assert float(row["stderr"]) == found.stderr
        marks = [r for r in table(undisturbed / "out", "convergence.csv") if r["cell"] == row["cell"]]
        assert [(int(r["num_tasks"]), float(r["mean"])) for r in marks] == [h[:2] for h in found.history]


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
    assert judge(rows) == Verdict(judged=1, outside=0, bound=critical_z(0.99), unassessed=1, unreliable=1)
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
    text = SPEC.replace("d = 3", 'd = [6, 7]\ninit = ["pretrained", "zero"]').replace("[4, 9]", "[4, 9, 20]")
    for sampler in ("data", "law"):
        before = run_blocks._cache_size()
        run_sweep(write_spec(tmp_path, sampler, text.replace("3000", "64")), tmp_path / sampler, progress=False)
        assert run_blocks._cache_size() == before + 2


def test_it_resumes_in_the_middle_of_a_cell(undisturbed, tmp_path, monkeypatch):
    """Stopped after some block of some cell, three times, with a save after every block."""
    monkeypatch.setattr(sweep, "SECONDS_PER_SAVE", 0.0)
    tallies, left = Run.tallies, [0]

    def interrupted(*arguments):
        for tally in tallies(*arguments):
            yield tally
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(Run, "tallies", interrupted)
    for blocks in (17, 40, 80):
        left[0] = blocks
        with pytest.raises(KeyboardInterrupt):
            run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
    assert main(["report", str(tmp_path)]) == 0
    assert "2 of 4 cells are finished" in (tmp_path / "report.html").read_text()
    left[0] = -1
    run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
    assert left[0] == -1 - (4 * 47 - 17 - 40 - 80)  # of 47 blocks in every cell, none is computed twice
    assert table(tmp_path) == table(undisturbed / "out")
    assert table(tmp_path, "convergence.csv") == table(undisturbed / "out", "convergence.csv")


def test_killed_at_any_moment(tmp_path):
    """kill -9 again and again, then to the end; benchmarks/kill_and_resume.py does it many more times."""
    text = SPEC.replace("3000", "400_000")
    spec = write_spec(tmp_path, "law", text)
    run_sweep(spec, tmp_path / "whole", progress=False)
    rng = np.random.default_rng(0)
    for _ in range(2):
        process = command("sweep", spec, "--out", tmp_path / "killed", "--resume")
        time.sleep(rng.uniform(2, 6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = command("sweep", spec, "--out", tmp_path / "killed", "--resume")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert "4 cells" in out
    assert table(tmp_path / "killed") == table(tmp_path / "whole")


def test_eight_devices_give_the_same_bits(undisturbed, tmp_path):
    process = command(
        "sweep", undisturbed / "spec.toml", "--out", tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8"
    )
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert table(tmp_path) == table(undisturbed / "out")


def two_processes(spec, out):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ("--coordinator", address, "--num-processes", 2, "--process-id")
    return [command("sweep", spec, "--out", out, "--resume", *flags, i) for i in range(2)]


def test_two_processes_give_the_same_bits(undisturbed, tmp_path):
    processes = two_processes(undisturbed / "spec.toml", tmp_path)
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "4 cells" in outputs[0][0]
    assert "cells" not in outputs[1][0]
    assert table(tmp_path) == table(undisturbed / "out")


def test_a_dead_process_ends_the_job_and_says_how_to_resume(tmp_path):
    spec = write_spec(tmp_path, "law", SPEC.replace("3000", "1_000_000_000"))
    leader, follower = two_processes(spec, tmp_path / "out")
    for _ in range(600):
        if (tmp_path / "out" / "sweep.sqlite").exists():
            break
        time.sleep(0.1)
    time.sleep(1)
    follower.kill()
    _, error = leader.communicate(timeout=120)
    _, last = follower.communicate()
    assert leader.returncode == 1
    assert error.splitlines()[-1].startswith("ttt-jax sweep: process 0 has lost another one")
    resume = f"ttt-jax sweep {spec} --out {tmp_path / 'out'} --resume --coordinator"
    assert resume in error.splitlines()[-1]
    for i, text in enumerate((error, last)):  # also of the one that had no time to say anything
        first, second = text.splitlines()[:2]
        assert resume in first
        assert first.endswith(f"--process-id {i}")
        assert second.startswith(f"ttt-jax sweep: process {i} of 0 to 1 uses 1 device of kind cpu")


def test_bad_input_is_shared_by_all_processes(tmp_path):
    spec = write_spec(tmp_path, "law", SPEC.replace("k = 6", "k = 0"))
    for process in two_processes(spec, tmp_path / "out"):
        _, error = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "grid.k must be an integer >= 1, got 0" in error


def test_ctrl_c_leaves_a_resumable_directory(tmp_path):
    spec = write_spec(tmp_path, "law", SPEC.replace("3000", "1_000_000_000"))
    out = tmp_path / "my out"
    # what a shell starts in the background, such as a whole test run, ignores interrupts, and so would the sweep
    heeds = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    arguments = [sys.executable, "-m", "ttt_jax", "sweep", spec, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-c", heeds, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    for _ in range(600):
        if (out / "sweep.sqlite").exists():
            break
        time.sleep(0.1)
    time.sleep(1)
    for _ in range(6):  # JAX swallows an interrupt that comes in the middle of some of its callbacks
        process.send_signal(signal.SIGINT)
        try:
            _, error = process.communicate(timeout=10)
            break
        except subprocess.TimeoutExpired:
            continue
    else:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert error.strip().endswith(f"resume with: ttt-jax sweep {spec} --out '{out}' --resume")


def test_refusals_are_one_line_and_change_nothing(undisturbed, tmp_path, capsys):
    out, spec = undisturbed / "out", undisturbed / "spec.toml"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    changed = write_spec(tmp_path, "law", SPEC.replace("k = 6", "k = 7"))
    for arguments, message in (
        ([spec, "--out", out], "already holds a sweep; add --resume"),
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


def test_an_emptied_store_is_not_started_again(undisturbed, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(undisturbed / "out", out)
    os.truncate(out / "sweep.sqlite", 0)
    assert main(["sweep", str(undisturbed / "spec.toml"), "--out", str(out), "--resume"]) == 2
    assert "sweep.sqlite: empty, although there is a results.csv" in capsys.readouterr().err


def test_risks_that_overflow_are_counted_and_never_averaged(tmp_path):
    text = SPEC.replace('evaluation = ["fresh", "same"]', "lr = [1e30, 0.0]")
    rows = run_sweep(write_spec(tmp_path, "law", text), tmp_path / "out", progress=False)
    broken = [row for row in rows if row["lr"] == 1e30]
    assert all(row["num_nonfinite"] > 0 and row["estimate"] is None and "not finite" in row["note"] for row in broken)
    assert all(row["estimate"] is not None for row in rows if row["lr"] == 0.0)
    assert "2 with risks that are not finite" in str(judge(rows))
    assert main(["report", str(tmp_path / "out")]) == 0


def test_a_target_stops_at_the_same_block_after_a_restart(tmp_path, monkeypatch):
    text = SPEC.replace("num_tasks = 3000", "target_relative_stderr = 0.02\nmax_tasks = 100_000")
    spec = write_spec(tmp_path, "law", text)
    rows = run_sweep(spec, tmp_path / "whole", progress=False)
    for row in rows:
        assert row["stderr"] <= 0.02 * row["estimate"] or row["num_tasks"] == 100_000
        assert row["num_tasks"] % 64 == 0
    monkeypatch.setattr(Run, "_fulfilled", lambda _, tally: tally.num_blocks >= 3)
    monkeypatch.setattr(sweep, "SECONDS_PER_SAVE", 0.0)
    partial = Run.tallies

    def stop(*arguments):
        yield from partial(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "tallies", stop)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(spec, tmp_path / "again", progress=False)
    monkeypatch.undo()
    again = run_sweep(spec, tmp_path / "again", resume=True, progress=False)
    assert [(row["estimate"], row["num_tasks"]) for row in again] == [
        (row["estimate"], row["num_tasks"]) for row in rows
    ]


def test_the_report_is_one_page_and_parquet_has_the_same_rows(undisturbed, tmp_path, capsys):
    from pyarrow import parquet

    arguments = [str(undisturbed / "spec.toml"), "--out", str(undisturbed / "out"), "--resume", "--parquet"]
    assert main(["sweep", *arguments]) == 0
    rows = parquet.read_table(undisturbed / "out" / "results.parquet").to_pylist()
    assert [str(row["estimate"]) for row in rows] == [row["estimate"] for row in table(undisturbed / "out")]
    assert main(["report", str(undisturbed / "out")]) == 0
    page = (undisturbed / "out" / "report.html").read_text()
    assert page.count("<img ") == 1
    assert "http" not in page.replace("http-equiv", "")
    assert main(["report", str(tmp_path)]) == 2
    assert "no sweep here" in capsys.readouterr().err


def test_a_row_holds_the_theory_of_its_cell(undisturbed):
    spec, _ = load_spec(undisturbed / "spec.toml")
    for cell, row in zip(spec.cells, table(undisturbed / "out"), strict=True):
        problem, weights = cell.problem()
        lr = float(row["lr"])
        exact, leading = (risk(problem, weights) for risk in (exact_risk, asymptotic_risk))
        assert (float(row["initial"]), float(row["exact"])) == (exact.initial, exact.at(lr))
        assert float(row["asymptotic"]) == leading.at(lr)
        assert (float(row["n_over_d"]), float(row["k_over_d"])) == (cell.n / 3, 2.0)
        assert float(row["z"]) == pytest.approx((float(row["estimate"]) - exact.at(lr)) / float(row["stderr"]))


def test_a_doubtful_standard_error_is_not_judged():
    rows = [{"z": z, "stderr_reliable": z < 50, "num_nonfinite": 0} for z in (0.3, 99.0)]
    line = str(judge(rows))
    assert line.startswith("agree: |z| <= 2.58 in all 1 cells (family-wise level 1%); 1 not judged")


def test_a_cell_resumes_in_blocks_of_the_size_it_was_begun_with(tmp_path, monkeypatch):
    """The default depends on the platform, and a run may resume on another one."""
    text = SPEC.replace("[4, 9]", "4").replace('["fresh", "same"]', '"fresh"').replace("block_size = 64\n", "")
    spec = write_spec(tmp_path, "law", text.replace("3000", "10_000"))
    run_sweep(spec, tmp_path / "whole", progress=False)
    tallies = Run.tallies

    def one_block(*arguments):
        yield next(tallies(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "SECONDS_PER_SAVE", -1.0)
        patch.setattr(Run, "tallies", one_block)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(spec, tmp_path / "again", progress=False)
    monkeypatch.setitem(BLOCK_BYTES, "cpu", 2**12)
    run_sweep(spec, tmp_path / "again", resume=True, progress=False)
    assert table(tmp_path / "again") == table(tmp_path / "whole")


def test_a_cell_without_values_says_why_and_stops_nothing(tmp_path):
    text = SPEC.replace('evaluation = ["fresh", "same"]\nnoise_var = 0.1', "noise_var = [0.1, 1e200, 0.2]")
    rows = run_sweep(write_spec(tmp_path, "law", text), tmp_path / "out", progress=False)
    assert [row["estimate"] is None for row in rows] == [False, True, False] * 2
    for row in rows[1::3]:
        assert "overflows float64" in row["note"]
        assert row["exact"] is row["lr"] is row["z"] is None
    assert "2 without values, their notes say why" in str(judge(rows))
    assert main(["report", str(tmp_path / "out")]) == 0
    assert rows == run_sweep(tmp_path / "spec.toml", tmp_path / "out", resume=True, progress=False)


def test_a_cell_without_memory_is_named_and_the_others_are_kept(tmp_path, monkeypatch, capsys):
    def full():
        raise MemoryError("a block of tasks does not fit the memory: lower d")

    spec, out = write_spec(tmp_path), tmp_path / "out"
    tallies = Run.tallies
    monkeypatch.setattr(Run, "tallies", lambda run, first: full() if run.problem.n == 9 else tallies(run, first))
    assert main(["sweep", str(spec), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        "ttt-jax sweep: out of memory: cell 2, d = 3: a block of tasks does not fit the memory: lower d\n"
    )
    monkeypatch.undo()
    assert len(sweep.read_sweep(out)[1]) == 2
    run_sweep(spec, out, resume=True, progress=False)


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


def test_killed_before_anything_was_written(tmp_path, capsys):
    """The store is there and empty: a report has nothing, a sweep starts."""
    spec, out = write_spec(tmp_path), tmp_path / "out"
    with Store(out):
        pass
    assert main(["report", str(out)]) == 2
    assert capsys.readouterr().err == f"ttt-jax report: {out}: no cell is finished yet\n"
    assert len(run_sweep(spec, out, progress=False)) == 4


def test_a_report_beside_other_names_and_links(undisturbed, tmp_path, capsys):
    """A directory name that is no UTF-8; a figure that is a link is replaced and not written through."""
    out = tmp_path / os.fsdecode(b"out\xff")
    shutil.copytree(undisturbed / "out", out)
    (out / "figure-01.png").unlink(missing_ok=True)  # of an earlier report
    (out / "figure-01.png").symlink_to(out / Store.FILE)
    before = (out / Store.FILE).read_bytes()
    assert main(["report", os.fspath(out)]) == 0
    assert "out?" in capsys.readouterr().out
    assert (out / Store.FILE).read_bytes() == before
    assert not (out / "figure-01.png").is_symlink()


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


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (("foo", "2", "0"), "--coordinator must be HOST:PORT, got 'foo'"),
        (("foo:70000", "2", "0"), "--coordinator must be HOST:PORT, got 'foo:70000'"),
        (("foo:1", "0", "0"), "--num-processes must be an integer >= 1, got 0"),
        (("foo:1", "2", "2"), "--process-id must be from 0 to 1, got 2"),
    ],
)
def test_an_address_is_checked_before_anyone_is_called(tmp_path, capsys, address, message):
    flags = ("--coordinator", "--num-processes", "--process-id")
    options = [word for pair in zip(flags, address, strict=True) for word in pair]
    assert main(["sweep", "spec.toml", "--out", str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err == f"ttt-jax sweep: {message}\n"


def test_the_command_to_resume_with_is_whole():
    given = "sweep s.toml --out o --plugin a --parquet --coordinator h:1 --num-processes 2 --process-id 1"
    expected = (
        "ttt-jax sweep s.toml --out o --resume --plugin a --parquet --coordinator h:1 --num-processes 2 --process-id 1"
    )
    assert resume_command(build_parser().parse_args(given.split())) == expected
    assert resume_command(build_parser().parse_args(["sweep", "s.toml", "--out", "o", "--distributed"])).endswith(
        "--resume --distributed"
    )
