"""The command line as a user types it."""

import json
import os
import pty
import subprocess
import sys

import numpy as np
import pytest

from ttt_jax import Pretraining, Problem, exact_risk, pretrained_weights
from ttt_jax.cli.main import main


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "ttt_jax", *arguments], capture_output=True, text=True, check=False)


def risk_json(capsys, *arguments):
    assert main(["risk", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_text_output_and_no_control_characters():
    done = run("risk", "--d", "6", "--n", "12", "--k", "9", "--tasks", "2000", "--noise-var", "0.2")
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("exact", "asymptotic", "Monte Carlo", "z = "):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_json_of_a_general_problem(capsys, tmp_path):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    arrays = {"task": rng.normal(size=3), "sx": root @ root.T, "w": rng.normal(size=(3, 3)) / 30, "sb": [1.0, 0.5, 0.0]}
    files = {}
    for name, array in arrays.items():
        files[name] = str(tmp_path / f"{name}.npy")
        np.save(files[name], array)
    common = ("--n", "9", "--k", "12", "--task", files["task"], "--feature-cov", files["sx"], "--noise-var", "0.1")
    for evaluation in ("fresh", "same"):
        options = ("--weights", files["w"], "--lr", "1e-5", "--tasks", "3000", "--evaluation", evaluation)
        result = risk_json(capsys, *common, *options)
        exact = exact_risk(Problem(9, 12, arrays["task"], arrays["sx"], 0.1), arrays["w"], evaluation)
        assert result["ttt"]["exact"] == pytest.approx(exact.at(1e-5))
        assert result["initial"]["exact"] == pytest.approx(exact.initial)
        assert abs(result["z"]) < 4
        assert set(result["ttt"]["monte_carlo"]) >= {"mean", "stderr", "num_tasks", "sampler", "stderr_reliable"}
    shifted = ("--task-cov", files["sb"], "--pretrain-n", "20", "--pretrain-noise-var", "0.5", "--tasks", "0")
    result = risk_json(capsys, *common, *shifted, "--pretrain-feature-cov", files["sb"])
    weights = pretrained_weights(Pretraining(20, arrays["sb"], arrays["sb"], 0.5))
    exact = exact_risk(Problem(9, 12, arrays["task"], arrays["sx"], 0.1), weights)
    assert result["lr"] == pytest.approx(exact.optimal_lr)
    assert result["ttt"]["monte_carlo"] is None
    assert result["z"] is None


def test_defaults(capsys):
    result = risk_json(capsys, "--d", "20", "--n", "20", "--k", "40", "--tasks", "0")
    assert result["initial"]["exact"] == pytest.approx(21 / 41)
    cold = risk_json(capsys, "--d", "20", "--n", "20", "--k", "40", "--tasks", "0", "--init", "zero")
    assert cold["initial"]["exact"] == pytest.approx(1.0)


def test_overflow_and_single_tasks_are_null_with_a_reason(capsys):
    size = ("--d", "3", "--n", "4", "--k", "4")
    result = risk_json(capsys, *size, "--lr", "1e300", "--tasks", "20")
    assert result["ttt"]["exact"] is None
    assert result["ttt"]["monte_carlo"]["mean"] is None
    assert "overflowed" in result["ttt"]["monte_carlo"]["doubt"]
    result = risk_json(capsys, *size, "--tasks", "1")
    assert result["ttt"]["monte_carlo"]["stderr_reliable"] is False
    assert "one task" in result["ttt"]["monte_carlo"]["doubt"]


def test_a_value_that_does_not_apply_is_null_with_its_reason(capsys, tmp_path):
    np.save(tmp_path / "zero.npy", np.zeros(2))
    options = ("--n", "4", "--k", "4", "--noise-var", "1", "--tasks", "100")
    result = risk_json(capsys, "--task", str(tmp_path / "zero.npy"), *options)
    assert result["ttt"]["asymptotic"] is None
    assert "signal" in result["ttt"]["asymptotic_reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--d 3 --n 0 --k 2", "n must be an integer >= 1, got 0"),
        ("--d 3 --n 2 --k 0", "k must be an integer >= 1, got 0"),
        ("--d 0 --n 2 --k 2", "--d must be an integer >= 1, got 0"),
        ("--n 2 --k 2", "--d is required"),
        ("--d 3 --n 2", "the following arguments are required: --k"),
        ("--d x --n 2 --k 2", "argument --d: invalid int value: 'x'"),
        ("--d 3 --n 2 --k 2 --lr fast", "--lr must be 'optimal' or a finite number, got 'fast'"),
        ("--d 3 --n 2 --k 2 --lr nan", "--lr must be 'optimal' or a finite number"),
        ("--d 3 --n 2 --k 2 --noise-var -1", "noise_var must be a finite number >= 0, got -1.0"),
        ("--d 3 --n 2 --k 2 --tasks -5", "--tasks must be an integer >= 0, got -5"),
        ("--d 3 --n 2 --k 2 --seed -1", "seed must be an integer >= 0, got -1"),
        ("--d 3 --n 2 --k 2 --init warm", "argument --init: invalid choice: 'warm'"),
        ("--d 3 --n 2 --k 2 --task missing.npy", "--task: no such file: missing.npy"),
        ("--d 3 --n 2 --k 2 --task pickle.npy", "--task: pickle.npy is not a .npy file of numbers"),
        ("--d 3 --n 2 --k 2 --task vector2.npy", "--task must have shape (3,) to fit --d, got (2,)"),
        ("--d 3 --n 2 --k 2 --weights vector2.npy", "weights"),
        ("--d 3 --n 2 --k 2 --feature-cov asymmetric.npy", "feature_cov must be symmetric"),
        (
            "--d 2 --n 2 --k 2 --task complex.npy",
            "task must be an array of real numbers, got values of type complex128",
        ),
        ("--d 2 --n 2 --k 2 --task empty.npy", "--task: empty.npy is not a .npy file of numbers"),
        ("--d 2 --n 2 --k 2 --pretrain-n 0", "in pretraining, n must be an integer >= 1, got 0"),
        ("--d 2 --n 2 --k 2 --weights vector2.npy --init zero", "--weights and --init exclude each other"),
        ("--d 2 --n 2 --k 2 --init zero --pretrain-n 3", "--pretrain-n has no effect with --init zero"),
        ("--d 2 --n 2 --k 10000000000 --tasks 5", "k must be at most 2147483639 to be simulated"),
        ("--d 2 --n 2 --k 2 --noise-var 1e200 --tasks 0", "the risk overflows float64"),
        ("--d 1000000000000 --n 2 --k 2 --tasks 0", "Unable to allocate"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("vector2.npy", np.ones(2))
    np.save("complex.npy", np.ones(2, complex))
    np.save("empty.npy", np.ones(0))
    np.save("asymmetric.npy", np.triu(np.ones((3, 3))))
    np.save("pickle.npy", np.array([object()]), allow_pickle=True)
    try:
        status = main(["risk", *arguments.split()])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_progress_bar_on_a_terminal_only():
    """A run of several seconds under a pseudo-terminal shows a bar on standard error; standard output stays clean."""
    command = [sys.executable, "-m", "ttt_jax", "risk", "--d", "64", "--n", "300", "--k", "300", "--tasks", "30000"]
    terminal, end = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True)

    os.close(end)
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    out, _ = process.communicate()
    assert b"Monte Carlo" in shown
    assert "\x1b" not in out
    assert process.returncode == 0


def _read(terminal):

    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux reports the end of a pseudo-terminal as an input/output error
        return b""
