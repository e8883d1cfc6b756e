"""Sweeps that were interrupted, killed or stopped by an error end with the same results."""

import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import ttt_jax.sweep.run as sweep
from tests.sweep.runs import SPEC, command, table, wait_until_started, write_spec
from ttt_jax.cli.main import build_parser, main
from ttt_jax.cli.sweep import resume_command
from ttt_jax.simulation import worklist
from ttt_jax.simulation.blocks import BLOCK_BYTES, run_blocks
from ttt_jax.simulation.worklist import tallies
from ttt_jax.sweep.run import run_sweep
from ttt_jax.sweep.store import Store


class Stopped(Exception):
    pass


def stopping(calls):
    """`tallies` that ends with an error after so many calls."""

    def some(works):
        for found, _ in zip(tallies(works), range(calls), strict=False):
            yield found
        raise Stopped

    return some


@pytest.fixture
def one_block_per_call(monkeypatch):
    """A save after every block."""
    monkeypatch.setattr(sweep, "SECONDS_PER_SAVE", -1.0)
    monkeypatch.setattr(worklist, "SECONDS_PER_CALL", 0.0)


def test_it_resumes_in_the_middle_of_a_cell(undisturbed, tmp_path, monkeypatch, one_block_per_call):
    """Stopped after some block of some cell, three times; of 47 blocks in each of 4 cells, none is added twice."""
    for blocks in (17, 40, 80):
        monkeypatch.setattr(sweep, "tallies", stopping(blocks))
        with pytest.raises(Stopped):
            run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
    assert main(["report", str(tmp_path)]) == 0
    assert "Finished: 2 of 4 cells" in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(sweep, "tallies", stopping(4 * 47 - 17 - 40 - 80))
    with pytest.raises(Stopped):
        run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
    monkeypatch.setattr(sweep, "tallies", stopping(0))
    with pytest.raises(Stopped):
        run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
    monkeypatch.setattr(sweep, "tallies", lambda works: list(works))
    run_sweep(undisturbed / "spec.toml", tmp_path, resume=True, progress=False)
    assert table(tmp_path) == table(undisturbed / "out")
    assert table(tmp_path, "convergence.csv") == table(undisturbed / "out", "convergence.csv")


def test_a_cell_resumes_in_blocks_of_the_size_it_was_begun_with(tmp_path, monkeypatch, one_block_per_call):
    """The default depends on the platform, and a run may resume on another one."""
    text = SPEC.replace("[4, 9]", "4").replace('["fresh", "same"]', '"fresh"').replace("block_size = 64\n", "")
    spec = write_spec(tmp_path, "law", text.replace("3000", "10_000"))
    run_sweep(spec, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "tallies", stopping(1))
        with pytest.raises(Stopped):
            run_sweep(spec, tmp_path / "again", progress=False)
    monkeypatch.setitem(BLOCK_BYTES, "cpu", 2**12)
    run_sweep(spec, tmp_path / "again", resume=True, progress=False)
    assert table(tmp_path / "again") == table(tmp_path / "whole")


def test_a_target_stops_at_the_same_block_after_a_restart(tmp_path, monkeypatch, one_block_per_call):
    text = SPEC.replace("num_tasks = 3000", "target_relative_stderr = 0.08\nmax_tasks = 8_000")
    spec = write_spec(tmp_path, "law", text)
    rows = run_sweep(spec, tmp_path / "whole", progress=False)
    for row in rows:
        mean = row["exact" if row["stderr_exact"] else "estimate"]
        assert row["stderr"] <= 0.08 * mean or row["num_tasks"] == 8_000
        assert row["stderr_exact"] or row["num_tasks"] % 64 == 0
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "tallies", stopping(3))
        with pytest.raises(Stopped):
            run_sweep(spec, tmp_path / "again", progress=False)
    again = run_sweep(spec, tmp_path / "again", resume=True, progress=False)
    assert [(row["estimate"], row["num_tasks"]) for row in again] == [
        (row["estimate"], row["num_tasks"]) for row in rows
    ]


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


def test_killed_before_anything_was_written(tmp_path, capsys):
    """The store is there and empty: a report has nothing, a sweep starts."""
    spec, out = write_spec(tmp_path), tmp_path / "out"
    with Store(out):
        pass
    assert main(["report", str(out)]) == 2
    assert capsys.readouterr().err == f"ttt-jax report: {out}: no cell is finished yet\n"
    assert len(run_sweep(spec, out, progress=False)) == 4


def test_an_emptied_store_is_not_started_again(undisturbed, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(undisturbed / "out", out)
    os.truncate(out / "sweep.sqlite", 0)
    assert main(["sweep", str(undisturbed / "spec.toml"), "--out", str(out), "--resume"]) == 2
    assert "sweep.sqlite: empty, although there is a results.csv" in capsys.readouterr().err


def test_a_cell_without_memory_is_named_and_the_others_are_kept(tmp_path, monkeypatch, capsys, one_block_per_call):
    def full_at_the_next(seeds, settings, entries, *rest, **options):
        work, block, _ = entries[0, 0]
        if work == 1 and block == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return run_blocks(seeds, settings, entries, *rest, **options)

    spec, out = write_spec(tmp_path), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(worklist, "run_blocks", full_at_the_next)
        assert main(["sweep", str(spec), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        "ttt-jax sweep: out of memory: cell 2, d = 3: a block of tasks does not fit the memory: "
        "lower block_size, which is 64, or d\n"
    )
    assert [row["cell"] for row in sweep.read_sweep(out)[1]] == [0]
    run_sweep(spec, out, resume=True, progress=False)


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
    wait_until_started(out)
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


def test_the_command_to_resume_with_is_whole():
    given = "sweep s.toml --out o --plugin a --parquet --coordinator h:1 --num-processes 2 --process-id 1"
    expected = (
        "ttt-jax sweep s.toml --out o --resume --plugin a --parquet --coordinator h:1 --num-processes 2 --process-id 1"
    )
    assert resume_command(build_parser().parse_args(given.split())) == expected
    assert resume_command(build_parser().parse_args(["sweep", "s.toml", "--out", "o", "--distributed"])).endswith(
        "--resume --distributed"
    )
