"""Shards of a sweep, run by themselves in any order, stopped and resumed, are merged to the bytes of the whole."""

import shutil
import signal
import time

import pytest

import ttt_jax.sweep.run as sweep
from tests.sweep.runs import SPEC, command, wait_until_started, write_spec
from ttt_jax.cli.main import build_parser, main
from ttt_jax.cli.sweep import PREEMPTED, resume_command
from ttt_jax.sweep.plan import estimated_seconds
from ttt_jax.sweep.run import Preempted, run_sweep
from ttt_jax.sweep.spec import load_spec

SAME = ("sweep.sqlite", "results.csv", "convergence.csv")


def contents(directory):
    return [(directory / name).read_bytes() for name in SAME]


@pytest.fixture(scope="module")
def shards(undisturbed, tmp_path_factory):
    """Three of three, the last first; the first was preempted after its first block, twice."""
    folder = tmp_path_factory.mktemp("shards")
    for i in (2, 0, 1):
        for _ in range(2 if i == 0 else 0):
            with pytest.raises(Preempted):
                run(undisturbed, folder / str(i), i, resume=True, preempted=lambda: True)
        run(undisturbed, folder / str(i), i, resume=True)
    return [folder / str(i) for i in range(3)]


def run(undisturbed, out, i, number=3, **options):
    return run_sweep(undisturbed / "spec.toml", out, progress=False, shard=(i, number), **options)


def test_merged_shards_are_the_whole_sweep(undisturbed, shards, tmp_path, capsys):
    order = [str(shards[i]) for i in (1, 2, 0)]
    assert main(["merge", *order, "--out", str(tmp_path / "merged")]) == 0
    assert "results.csv: 4 cells" in capsys.readouterr().out
    assert contents(tmp_path / "merged") == contents(undisturbed / "out")
    lines = (tmp_path / "merged" / "seconds.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["cell", "0", "1", "2", "3"]
    assert main(["report", str(tmp_path / "merged")]) == 0


def test_a_resumed_sweep_has_the_bytes_of_an_undisturbed_one(undisturbed, tmp_path):
    with pytest.raises(Preempted):
        run_sweep(undisturbed / "spec.toml", tmp_path, progress=False, preempted=lambda: True)
    run_sweep(undisturbed / "spec.toml", tmp_path, progress=False, resume=True)
    assert contents(tmp_path) == contents(undisturbed / "out")
    run_sweep(undisturbed / "spec.toml", tmp_path, progress=False, resume=True)
    assert contents(tmp_path) == contents(undisturbed / "out")


def test_a_shard_is_resumed_as_that_shard(undisturbed, shards):
    with pytest.raises(ValueError, match="--shard was 0/3, is 1/3"):
        run(undisturbed, shards[0], 1, resume=True)
    with pytest.raises(ValueError, match="--shard was 0/3, is missing"):
        run_sweep(undisturbed / "spec.toml", shards[0], progress=False, resume=True)


def refusal(capsys, *directories, out):
    assert main(["merge", *map(str, directories), "--out", str(out)]) == 2
    return capsys.readouterr().err.removeprefix("ttt-jax merge: ").strip()


def test_what_merge_refuses(undisturbed, shards, tmp_path, capsys, monkeypatch):
    first, second, third = shards
    out = tmp_path / "merged"
    assert refusal(capsys, first, out=out) == "shard 1/3, 2/3 is missing: give the directories of all 3"
    assert refusal(capsys, first, second, third, first, out=out) == f"{first}: is shard 0/3, as is {first}"
    whole = undisturbed / "out"
    assert refusal(capsys, first, whole, out=out) == f"{whole}: no shard of a sweep; run it with --shard"
    run(undisturbed, tmp_path / "half", 1, 2)
    assert "--shard was 0/3, is 1/2" in refusal(capsys, first, tmp_path / "half", out=out)
    other = write_spec(tmp_path, text=SPEC.replace("k = 6", "k = 7").replace("3000", "64"))
    run_sweep(other, tmp_path / "other", progress=False, shard=(1, 3))
    assert f"differs from the sweep in {first}: grid.k was 6, is 7" in refusal(
        capsys, first, tmp_path / "other", third, out=out
    )
    with pytest.raises(Preempted):
        run(undisturbed, tmp_path / "stopped", 1, preempted=lambda: True)
    unfinished = refusal(capsys, first, tmp_path / "stopped", third, out=out)
    assert unfinished == f"{tmp_path / 'stopped'}: 0 of 1 cells are finished; resume it first"
    shutil.copytree(whole, out)
    assert refusal(capsys, *shards, out=out) == f"{out}: already holds a sweep; choose another --out"


@pytest.mark.parametrize("shard", ["3/3", "1", "-1/3", "0/0", "a/b"])
def test_a_shard_that_is_none(shard, tmp_path, capsys):
    spec = write_spec(tmp_path)
    assert main(["sweep", str(spec), "--out", str(tmp_path / "out"), f"--shard={shard}"]) == 2
    message = f"ttt-jax sweep: --shard must be I/N with I from 0 to N - 1, got '{shard}'\n"
    assert capsys.readouterr().err == message
    assert main(["sweep", str(spec), "--out", str(tmp_path / "out"), "--shard", "4/5"]) == 2
    assert "--shard must be of at most 4, one per cell, got 4/5" in capsys.readouterr().err


def test_sigterm_saves_and_ends_with_a_status_of_its_own(tmp_path):
    spec, out = write_spec(tmp_path, text=SPEC.replace("3000", "1_000_000_000")), tmp_path / "out"
    options = ("--shard", "1/2", "--compilation-cache", tmp_path / "compiled")
    process = command("sweep", spec, "--out", out, *options)
    wait_until_started(out)
    for _ in range(600):
        if [*(tmp_path / "compiled").glob("jit_run_blocks*")]:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == PREEMPTED, error
    resume = f"ttt-jax sweep {spec} --out {out} --resume --shard 1/2 --compilation-cache {options[3]}"
    assert error.strip().endswith(f"preempted; resume with: {resume}")
    assert any((tmp_path / "compiled").iterdir())
    with sweep.Store(out, writable=False) as store:
        (begun,) = dict(store.records())["begun"].values()
    assert begun["tally"]["num_blocks"] > 0


def test_the_command_to_resume_a_shard_with():
    given = "sweep s.toml --out o --shard 1/4 --compilation-cache c"
    arguments = build_parser().parse_args(given.split())
    assert resume_command(arguments) == "ttt-jax sweep s.toml --out o --resume --shard 1/4 --compilation-cache c"


def test_a_dry_run_says_what_there_is_to_do(undisturbed, tmp_path, capsys):
    spec = str(undisturbed / "spec.toml")
    assert main(["sweep", spec, "--dry-run", "--shard", "0/2"]) == 0
    found = capsys.readouterr().out
    assert found.startswith(f"{spec}: 2 cells, 6000 tasks, about ")
    assert found.endswith(" s\n")
    assert main(["sweep", spec]) == 2
    assert capsys.readouterr().err == "ttt-jax sweep: the following arguments are required: --out\n"


def test_the_estimate_grows_with_the_tasks(undisturbed):
    spec, _ = load_spec(undisturbed / "spec.toml")
    whole, half = (estimated_seconds(spec, cells) for cells in (spec.cells, spec.cells[:2]))
    assert 0 < half < whole < 60
