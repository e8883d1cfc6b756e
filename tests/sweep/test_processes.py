"""Sweeps on several devices and in several processes."""

import os
import socket

import pytest

from tests.sweep.runs import SPEC, command, table, wait_until_started, write_spec
from ttt_jax.cli.main import main


def test_eight_devices_give_the_same_bits(undisturbed, tmp_path):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    process = command("sweep", undisturbed / "spec.toml", "--out", tmp_path, XLA_FLAGS=flags)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    for name in ("sweep.sqlite", "results.csv", "convergence.csv"):
        assert (tmp_path / name).read_bytes() == (undisturbed / "out" / name).read_bytes()


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
    wait_until_started(tmp_path / "out")
    follower.kill()
    _, error = leader.communicate(timeout=120)
    _, last = follower.communicate()
    assert leader.returncode == 1
    assert error.splitlines()[-1].startswith("ttt-jax sweep: process 0 has lost another process")
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
