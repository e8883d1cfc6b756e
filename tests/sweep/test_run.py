"""Sweeps as a user runs them: interrupted, on several devices, in several processes, with bad input."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from ttt_jax import estimate_risk
from ttt_jax.cli.main import main
from ttt_jax.simulation import driver as estimate
from ttt_jax.simulation.blocks import run_blocks
from ttt_jax.sweep import run as sweep
from ttt_jax.sweep.run import run_sweep
from ttt_jax.sweep.spec import load_spec

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
        options = {"sampler": "law", "evaluation": cell.evaluation, "seed": cell.seed, "block_size": 64}
        found = estimate_risk(problem, weights, lr, num_tasks=3000, **options)
        assert float(row["estimate"]) == found.mean
        assert float(row["stderr"]) == found.stderr
        marks = [r for r in table(undisturbed / "out", "convergence.csv") if r["cell"] == row["cell"]]
        assert [(int(r["num_tasks"]), float(r["mean"])) for r in marks] == [h[:2] for h in found.history]


def test_one_compilation_per_model_and_size(tmp_path):
    text = SPEC.replace("d = 3", 'd = [6, 7]\ninit = ["pretrained", "zero"]').replace("[4, 9]", "[4, 9, 20]")
    for sampler in ("data", "law"):
        before = run_blocks._cache_size()
        run_sweep(write_spec(tmp_path, sampler, text.replace("3000", "64")), tmp_path / sampler, progress=False)
        assert run_blocks._cache_size() == before + 2


def test_it_goes_on_from_the_middle_of_a_cell(undisturbed, tmp_path, monkeypatch):
    """Stopped after some block of some cell, three times, with a save after every block."""
    monkeypatch.setattr(sweep, "SECONDS_PER_SAVE", 0.0)
    simulate, left = sweep.simulate, [0]

    def interrupted(*arguments):
        for tally in simulate(*arguments):
            yield tally
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "simulate", interrupted)
    for blocks in (17, 40, 80):
        left[0] = blocks
        with pytest.raises(KeyboardInterrupt):
            run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
    left[0] = -1
    run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
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


def test_a_dead_process_ends_the_job_and_says_how_to_go_on(tmp_path):
    spec = write_spec(tmp_path, "law", SPEC.replace("3000", "1_000_000_000"))
    leader, follower = two_processes(spec, tmp_path / "out")
    for _ in range(600):
        if (tmp_path / "out" / "sweep.sqlite").exists():
            break
        time.sleep(0.1)
    time.sleep(1)
    follower.kill()
    _, error = leader.communicate(timeout=120)
    follower.communicate()
    assert leader.returncode != 0
    assert f"ttt-jax sweep {spec} --out {tmp_path / 'out'} --resume" in error


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
    assert error.strip().endswith(f"go on with: ttt-jax sweep {spec} --out '{out}' --resume")


def test_refusals_are_one_line_and_change_nothing(undisturbed, tmp_path, capsys):
    out, spec = undisturbed / "out", undisturbed / "spec.toml"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    changed = write_spec(tmp_path, "law", SPEC.replace("k = 6", "k = 7"))
    for arguments, message in (
        ([spec, "--out", out], "holds a sweep already; add --resume"),
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
    assert sweep.verdict(rows).startswith("agreement: no cell to judge")
    assert main(["report", str(tmp_path / "out")]) == 0
    assert "angle = ," not in (tmp_path / "out" / "report.html").read_text()


def test_an_emptied_store_is_not_started_again(undisturbed, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(undisturbed / "out", out)
    os.truncate(out / "sweep.sqlite", 0)
    assert main(["sweep", str(undisturbed / "spec.toml"), "--out", str(out), "--resume"]) == 2
    assert "sweep.sqlite: empty beside results.csv" in capsys.readouterr().err


def test_risks_that_overflow_are_counted_and_never_averaged(tmp_path):
    text = SPEC.replace('evaluation = ["fresh", "same"]', "lr = [1e30, 0.0]")
    rows = run_sweep(write_spec(tmp_path, "law", text), tmp_path / "out", progress=False)
    broken = [row for row in rows if row["lr"] == 1e30]
    assert all(row["num_nonfinite"] > 0 and row["estimate"] is None and "not finite" in row["note"] for row in broken)
    assert all(row["estimate"] is not None for row in rows if row["lr"] == 0.0)
    assert "2 with risks that are not finite" in sweep.verdict(rows)
    assert main(["report", str(tmp_path / "out")]) == 0


def test_a_target_stops_at_the_same_block_after_a_restart(tmp_path, monkeypatch):
    text = SPEC.replace("num_tasks = 3000", "target_relative_stderr = 0.02\nmax_tasks = 100_000")
    spec = write_spec(tmp_path, "law", text)
    rows = run_sweep(spec, tmp_path / "whole", progress=False)
    for row in rows:
        assert row["stderr"] <= 0.02 * row["estimate"] or row["num_tasks"] == 100_000
        assert row["num_tasks"] % 64 == 0
    monkeypatch.setattr(estimate.Plan, "fulfilled", lambda plan, tally: tally.num_blocks >= 3)
    monkeypatch.setattr(sweep, "SECONDS_PER_SAVE", 0.0)
    partial = sweep.simulate

    def stop(*arguments):
        yield from partial(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "simulate", stop)
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
