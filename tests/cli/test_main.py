"""The command line as a user types it."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

import ttt_jax
from ttt_jax import (
    Folds,
    GradientSteps,
    Inference,
    Pretraining,
    Problem,
    estimate_risk,
    exact_risk,
    pretrained_weights,
)
from ttt_jax._internal.command import CommandError, refuse_overwriting
from ttt_jax.cli.main import main
from ttt_jax.procedures import PROCEDURES
from ttt_jax.theory.yardsticks import ridge_risk


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "ttt_jax", *arguments], capture_output=True, text=True, check=False)


def risk_json(capsys, *arguments):
    assert main(["risk", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_text_output_and_no_control_characters():
    done = run("risk", "--d", "3", "--n", "12", "--k", "9", "--tasks", "64", "--noise-var", "0.2")
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
        problem = Problem(9, 12, arrays["task"], arrays["sx"], 0.1, evaluation=evaluation)
        exact = exact_risk(problem, arrays["w"])
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


def test_keys_of_the_json(capsys):
    result = risk_json(capsys, "--d", "3", "--n", "4", "--k", "4", "--tasks", "64")
    assert " ".join(result) == "d n k noise_var init evaluation seed lr optimal_lr initial ttt z yardsticks"
    assert " ".join(result["initial"]) == "exact"
    assert " ".join(result["yardsticks"]) == "least_squares ridge"
    assert " ".join(result["yardsticks"]["ridge"]) == "name pairs risk stderr reason exact"
    assert " ".join(result["ttt"]) == "exact asymptotic asymptotic_reason monte_carlo"
    assert " ".join(result["ttt"]["monte_carlo"]) == (
        "mean stderr stderr_exact num_tasks sampler stderr_reliable skewness kurtosis num_nonfinite block_size doubt"
    )


def test_procedures_and_laws_at_inference_as_tables(capsys):
    size = ("--d", "2", "--n", "4", "--k", "6", "--noise-var", "0.1", "--init", "zero")
    problem = Problem(4, 6, np.ones(2) / np.sqrt(2), 1.0, 0.1)
    folds = risk_json(capsys, *size, "--tasks", "200", "--procedure", 'name = "folds", folds = 5', "--lr", "1e-3")
    found = estimate_risk(problem, 0.0, Folds(5, 1e-3), num_tasks=200)
    assert folds["ttt"]["monte_carlo"]["mean"] == found.mean
    assert folds["ttt"]["monte_carlo"]["doubt"] == "not assessed"
    assert folds["ttt"]["exact"] == exact_risk(problem, 0.0, Folds(5)).at(1e-3)
    assert folds["procedure"] == 'name = "folds", folds = 5'
    law = Inference(n=8, noise_var=0.5, query_noise_var=0.0)
    exact = exact_risk(replace(problem, evaluation=law), 0.0)
    table = "n = 8, noise_var = 0.5, query_noise_var = 0.0"
    inference = risk_json(capsys, *size, "--tasks", "0", "--inference", table)
    assert (inference["ttt"]["exact"], inference["lr"]) == (exact.optimal, exact.optimal_lr)
    steps = 'name="steps", step_sizes=[1e-3, 1e-3], new_context=true'
    assert main(["risk", *size, "--tasks", "200", "--procedure", steps]) == 0
    out = capsys.readouterr().out
    assert f"evaluation = fresh, procedure = {{{steps}}}\n" in out
    assert f"{exact_risk(problem, 0.0, GradientSteps([1e-3, 1e-3], new_context=True)).final:.6g}\n" in out


def test_defaults(capsys):
    result = risk_json(capsys, "--d", "20", "--n", "20", "--k", "40", "--tasks", "0")
    assert result["initial"]["exact"] == pytest.approx(21 / 41)
    cold = risk_json(capsys, "--d", "20", "--n", "20", "--k", "40", "--tasks", "0", "--init", "zero")
    assert cold["initial"]["exact"] == pytest.approx(1.0)


def test_yardsticks_are_exact_simulated_or_missing(capsys, tmp_path):
    np.save(tmp_path / "sx.npy", np.linspace(0.5, 1.5, 30))
    size = ("--d", "30", "--n", "4", "--k", "6", "--noise-var", "0.5", "--lr", "0")
    common = (*size, "--feature-cov", str(tmp_path / "sx.npy"))
    exact = risk_json(capsys, *size, "--tasks", "0")["yardsticks"]["ridge"]
    assert exact["exact"]
    assert exact["risk"] == ridge_risk(Problem(4, 6, np.ones(30) / 30**0.5, noise_var=0.5))
    simulated = risk_json(capsys, *common, "--tasks", "10")["yardsticks"]["ridge"]
    assert not simulated["exact"]
    assert simulated["pairs"] == 14
    assert abs(simulated["risk"] - exact["risk"]) < 0.1
    assert 0 < simulated["stderr"] < 0.01
    missing = risk_json(capsys, *common, "--tasks", "0")["yardsticks"]["least_squares"]
    assert missing["risk"] is None
    assert missing["reason"].startswith("feature_cov must be a multiple of the identity")
    huge = risk_json(capsys, "--d", "40", "--n", "4", "--k", "1000000000", "--tasks", "0", "--noise-var", "1")
    assert huge["yardsticks"]["ridge"]["risk"] is None
    assert main(["risk", *common, "--tasks", "10"]) == 0
    assert "ridge, 14 pairs          " in capsys.readouterr().out


def test_overflow_and_single_tasks_are_null_with_a_reason(capsys):
    size = ("--d", "3", "--n", "4", "--k", "4")
    too_large = "the risk after GradientStep(lr=1e+300, left=None, right=None) overflows float64: lower the step size"
    assert main(["risk", *size, "--lr", "1e300"]) == 2
    assert capsys.readouterr() == ("", f"ttt-jax risk: {too_large}\n")
    in_float32 = (*size, "--lr", "1e30", "--tasks", "64")
    result = risk_json(capsys, *in_float32)
    assert result["ttt"]["exact"] > 1e60
    assert result["ttt"]["monte_carlo"]["mean"] is None
    assert "not finite" in result["ttt"]["monte_carlo"]["doubt"]
    assert main(["risk", *in_float32]) == 0
    out = capsys.readouterr().out
    assert "Monte Carlo            no value  (64 tasks)\n  the standard error is not reliable: the risk of 64" in out
    result = risk_json(capsys, *size, "--tasks", "1")
    assert result["ttt"]["monte_carlo"]["stderr_reliable"] is False
    assert "one task" in result["ttt"]["monte_carlo"]["doubt"]
    assert main(["risk", *size, "--tasks", "1"]) == 0
    out = capsys.readouterr().out
    assert "(1 task)\n  the standard error is not reliable: one task has no standard error\n" in out
    assert "nan" not in out


def test_a_value_that_does_not_apply_is_null_with_its_reason(capsys, tmp_path):
    np.save(tmp_path / "zero.npy", np.zeros(3))
    options = ("--n", "4", "--k", "4", "--noise-var", "1", "--tasks", "64")
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
        ("--d x --n 2 --k 2", "--d must be an integer, got 'x'"),
        ("--d 3 --n 2 --k 2 --lr fast", "--lr must be 'optimal' or a finite number, got 'fast'"),
        ("--d 3 --n 2 --k 2 --lr nan", "--lr must be 'optimal' or a finite number"),
        ("--d 3 --n 2 --k 2 --noise-var -1", "noise_var must be a finite number >= 0, got -1.0"),
        ("--d 3 --n 2 --k 2 --tasks -5", "--tasks must be an integer >= 0, got -5"),
        ("--d 3 --n 2 --k 2 --seed -1", "seed must be an integer >= 0, got -1"),
        ("--d 3 --n 2 --k 2 --init warm", "--init must be one of pretrained, zero, got 'warm'"),
        ("--d 3 --n 2 --k 2 --init it's", '--init must be one of pretrained, zero, got "it\'s"'),
        ("--d 3 --n 2 --k 2 --d", "--d: expected one argument (see ttt-jax risk --help)"),
        ("--d 3 --n 2 --k 2 --lrr 1", "unrecognized arguments: --lrr 1 (see ttt-jax risk --help)"),
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
        ("--d 2 --n 2 --k 2 --weights vector2.npy --init zero", "--weights and --init are mutually exclusive"),
        ("--d 2 --n 2 --k 2 --init zero --pretrain-n 3", "--pretrain-n has no effect with --init zero"),
        ("--d 2 --n 2 --k 10000000000 --tasks 5", "k must be at most 2147483639 to be simulated"),
        ("--d 2 --n 2 --k 2 --noise-var 1e200 --tasks 0", "the risk overflows float64"),
        ("--d 1000000000000 --n 2 --k 2 --tasks 0", "out of memory: Unable to allocate"),
        ("--d 3 --n 4 --k 6 --procedure folds", "--procedure must be like 'name = \"folds\", folds = 5', got 'folds'"),
        ("--d 3 --n 4 --k 6 --procedure folds=5", "--procedure.name must be one of step, folds, steps, optimizer"),
        ('--d 3 --n 4 --k 6 --procedure name="fold"', "--procedure.name must be one of step, folds, steps, optimizer"),
        ('--d 3 --n 4 --k 6 --procedure name="folds"', "--procedure: procedure 'folds' needs folds"),
        ('--d 3 --n 4 --k 6 --procedure name="folds",folds=5,lr=1', "--procedure must not give the lr; use --lr"),
        ('--d 3 --n 4 --k 6 --procedure name="folds",folds=3 --lr 1', "folds must divide n + k = 10, got 3"),
        (
            '--d 3 --n 4 --k 6 --procedure name="optimizer",optimizer="adam",learning_rate=0.1,num_steps=1 --lr 1',
            "--procedure: 'optimizer' takes no lr, got 1.0",
        ),
        (
            '--d 3 --n 4 --k 6 --procedure name="steps",step_sizes=[0.1] --lr 1',
            "--procedure: 'steps' takes no lr, got 1.0",
        ),
        (
            '--d 3 --n 4 --k 6 --procedure name="folds",folds=5 --lr 1 --sampler law',
            "sampler must be 'data' for Folds, got 'law'",
        ),
        ("--d 3 --n 4 --k 6 --inference 8", "--inference must be like 'n = 80, noise_var = 0.1', got '8'"),
        ("--d 3 --n 4 --k 6 --inference m=8", "--inference.m is not a key; the keys are context, n, feature_cov,"),
        ("--d 3 --n 4 --k 6 --inference n=0", "--inference.n must be an integer >= 1, got 0"),
        ('--d 3 --n 4 --k 6 --inference context="same"', "--inference must not give the context; use --evaluation"),
        (
            "--d 3 --n 4 --k 6 --inference feature_cov=[1,2]",
            "evaluation.feature_cov must be for 3 features to agree with d, got 2",
        ),
        ("--d 3 --n 4 --k 6 --inference n=8 --evaluation same", "--inference.n must be None for the context 'same'"),
        ("--n 2 --k 2 --task damaged.npy", "--task: damaged.npy is not a .npy file of numbers"),
        ("--n 2 --k 2 --task .", "--task: . cannot be read (Is a directory)"),
        ("--n 2 --k 2 --task small.npy --tasks 0", "the risk underflows float64, with values down to 1e-60"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("vector2.npy", np.ones(2))
    np.save("small.npy", 1e-60 * np.ones(2))
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), \"\"\"" + b" " * 60 + b"\n"
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header + bytes(24))
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
    """A run under a pseudo-terminal, as if it took long, shows a bar on standard error; standard output stays clean."""
    code = "from ttt_jax._internal import progress; progress.QUIET_SECONDS = -1.0; from ttt_jax.cli.main import main; "
    code += "raise SystemExit(main('risk --d 3 --n 4 --k 4 --tasks 64'.split()))"
    command = [sys.executable, "-c", code]
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


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"ttt-jax {ttt_jax.__version__}\n"


def test_closed_standard_error_and_a_reader_that_has_left(tmp_path):
    """`2>&-` is no error, nor `| true`; a full disk is one line and status 2."""
    risk = f"{sys.executable} -m ttt_jax risk --d 3 --n 4 --k 4 --tasks"
    for line, status, error in (
        (f"{risk} 64 2>&-", 0, ""),
        (f"{risk} -1 2>&-", 2, ""),
        (f"{risk} 0 | true; exit ${{PIPESTATUS[0]}}", 0, ""),
        (f"{risk} 0 > /dev/full", 2, "ttt-jax risk: standard output: No space left on device\n"),
    ):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (status, error), line


def test_memory_that_jax_does_not_get_is_one_line(monkeypatch, capsys):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 35200000392 bytes.\nmore")

    monkeypatch.setattr("ttt_jax.simulation.worklist.run_blocks", full)
    size = ["risk", "--d", "3", "--n", "4", "--k", "4", "--tasks", "1"]
    assert main(size) == 2
    assert capsys.readouterr().err == "ttt-jax risk: out of memory: a block of tasks does not fit the memory: lower d\n"
    monkeypatch.setattr("ttt_jax.verdict.comparison.exact_risk", full)
    assert main(size) == 2
    assert capsys.readouterr().err.startswith("ttt-jax risk: out of memory: lower d (RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(
    ("module", "imported"), [("ttt_jax", "optax"), ("ttt_jax", "ttt_jax.cli.risk"), ("experiments", "optax")]
)
def test_an_interrupt_during_the_imports_is_one_line(module, imported):
    code = (
        "import runpy, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == '{imported}': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = ['-m']\nrunpy.run_module('{module}', run_name='__main__', alter_sys=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "interrupted" in done.stderr
    assert done.stderr.count("\n") == 1
    if imported == "optax":  # a program that only uses the library sees the interrupt
        library = code.replace("runpy.run_module", "sys.argv = ['script.py']; import ttt_jax #")
        done = subprocess.run([sys.executable, "-c", library], capture_output=True, check=False)
        assert done.returncode not in (0, 130)


def test_a_sweep_without_any_value_has_status_1(tmp_path, capsys):
    spec = tmp_path / "spec.toml"
    spec.write_text("[sweep]\nnum_tasks = 10\n[grid]\nd = 3\nn = 4\nk = 4\nnoise_var = 1e200\n")
    assert main(["sweep", str(spec), "--out", str(tmp_path / "out")]) == 1
    said = "results.csv: 1 cell; no verdict: no cell has a z-score; 1 without values: the column note says why\n"
    assert capsys.readouterr().out.endswith(said)


def test_an_output_is_never_an_input(tmp_path):
    (tmp_path / "in.csv").write_text("")
    (tmp_path / "link.csv").symlink_to(tmp_path / "in.csv")
    os.link(tmp_path / "in.csv", tmp_path / "hard.csv")
    for output in ("in.csv", "link.csv", "hard.csv"):
        with pytest.raises(CommandError, match="is an input and would be overwritten"):
            refuse_overwriting([tmp_path / "in.csv"], [tmp_path / "other.csv", tmp_path / output])
    refuse_overwriting([tmp_path / "in.csv"], [tmp_path / "other.csv"])


def test_a_procedure_of_a_plugin(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_procedures.py").write_text(
        "from ttt_jax.procedures import PROCEDURES, GradientStep\nPROCEDURES['mine'] = GradientStep\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(PROCEDURES, "mine", raising=False)
    given = ["risk", "--d", "4", "--n", "9", "--k", "5", "--tasks", "0", "--procedure", "name = 'mine'", "--lr", "1e-3"]
    assert main(given) == 2
    assert "--procedure.name must be one of step, folds, steps, optimizer, got 'mine'" in capsys.readouterr().err
    assert main([*given, "--plugin", "no_such_module"]) == 2
    assert "--plugin: no_such_module cannot be imported (ModuleNotFoundError" in capsys.readouterr().err
    assert main([*given, "--plugin", "my_procedures"]) == 0
    assert "lr = 0.001" in capsys.readouterr().out
    del PROCEDURES["mine"]
    sys.modules.pop("my_procedures")
