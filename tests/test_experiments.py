"""The experiments at sizes of a second, and their command line."""

import csv
import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import __main__ as command
from experiments import (
    correlated_features,
    fig1a,
    fig1b,
    fig2a,
    fig2b,
    fig2c,
    fig3b,
    figure,
    finite_pretraining,
    harm,
    kfold,
    lora,
    same_context,
    sample_complexity,
    several_steps,
)
from experiments.figure import Result, read_rows, run_cells
from experiments.starts import crossing as crosses
from ttt_jax import exact_risk
from ttt_jax.theory.paper import corollary_4_6_switch
from ttt_jax.verdict import comparison
from ttt_jax.verdict.comparison import FLOAT32_ROUNDING

TINY = {
    "fig1a": (fig1a, {"n": 40, "normals": 1e7, "num_tasks": 1000}, 6),
    "fig1b": (fig1b, {"n": 20, "d": 40, "every": 13, "normals": 1e7, "num_tasks": 1000}, 6),
    "fig2a": (fig2a, {"n": 20, "d": 40, "every": 20, "normals": 1e7, "num_tasks": 1000}, 6),
    "fig2b": (fig2b, {"n": 60, "d": 60, "every": 20, "normals": 1e9, "num_tasks": 2000}, 6),
    "fig2c": (fig2c, {"n": 40, "d": 10, "num_tasks": 500}, 40),
    "several_steps": (several_steps, {"d": 20, "num_tasks": 200}, 26),
    "same_context": (same_context, {"n": 20, "d": 40, "every": 20, "normals": 1e7, "num_tasks": 1000}, 8),
    "correlated_features": (correlated_features, {"sizes": (40, 80), "normals": 3e7}, 4),
    "sample_complexity": (sample_complexity, {"sizes": (16, 32), "simulated": (32,), "normals": 3e7}, 4),
    "kfold": (kfold, {"d": 10, "num_tasks": 500}, 5),
    "finite_pretraining": (finite_pretraining, {"d": 8, "sizes": (4, 8), "repeats": 2, "normals": 2e6}, 24),
    "harm": (harm, {"d": 6, "num_tasks": 500, "points": (1.0, 3.0)}, 4),
    "lora": (lora, {"d": 10, "draws": 2, "num_tasks": 500}, 8),
    "fig3b": (
        fig3b,
        {
            "blocks": (1, 1, 1),
            "n": 4,
            "ks": (4, 8),
            "model": {"layers": 1, "width": 8, "heads": 2},
            "pretraining": {"num_steps": 10, "batch_size": 8, "num_queries": 2, "learning_rate": 1e-3},
            "epochs": 1,
            "minibatch": 4,
            "step_sizes": (1e-3, 1e-2),
            "num_tasks": 4,
            "together": 2,
            "seeds": 1,
        },
        6,
    ),
}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fig1a, "K_OVER_D", (1, 2))
    monkeypatch.setattr(fig1a, "RATIOS", (1.0, 2.0, 4.0))
    monkeypatch.setattr(correlated_features, "LINE_SIZES", (16, 64))
    monkeypatch.setattr(kfold, "CASES", kfold.CASES[:1])
    monkeypatch.setattr(kfold, "FOLDS", (2,))
    monkeypatch.setattr(harm, "LINE", (1.0, 2.0))
    monkeypatch.setattr(harm, "CASES", dict([*harm.CASES.items()][1:4:2]))
    for module, preset, _ in TINY.values():
        monkeypatch.setitem(module.PRESETS, "quick", preset)


@pytest.mark.parametrize("name", TINY)
def test_files_and_table(tiny, name, monkeypatch, tmp_path, capsys):
    """Of the paper's figures at its preset, whose table has the values that the paper draws."""
    module, sizes, number = TINY[name]
    in_paper, out = name in ("fig1b", "fig2a", "fig2b", "fig2c"), tmp_path / "out"
    monkeypatch.setitem(module.PRESETS, "paper", sizes)
    preset = ["--preset", "paper"] if in_paper else []
    assert command.main([name, "--out", str(out), "--seed", "4", *preset]) == 0
    printed = capsys.readouterr().out
    has_theory = name != "fig3b"
    assert ("agree: largest |z| " if has_theory else "no verdict: there is no theory") in printed
    names = [f"{name}.csv", f"{name}.pdf", f"{name}.png"]
    assert sorted(file.name for file in out.iterdir()) == sorted(names)
    with (out / f"{name}.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == number
    assert all(row["drawn"] for row in rows if in_paper)
    assert ("the paper's " in printed) == in_paper
    for row in rows:
        assert float(row["stderr"]) > FLOAT32_ROUNDING * float(row["estimate"])
        if row["exact"]:
            z = (float(row["estimate"]) - float(row["exact"])) / float(row["stderr"])
            assert z == pytest.approx(float(row["z"]))
        if row.get("exact_optimum"):
            assert float(row["exact"]) >= float(row["exact_optimum"])


def test_values_drawn_in_the_paper_are_in_figure_1a(tiny, monkeypatch):
    """The rest of its table needs all of the paper's ratios."""
    monkeypatch.setitem(fig1a.PRESETS, "paper", TINY["fig1a"][1])
    assert all(row["drawn"] is not None for row in fig1a.simulate("paper", 4))


def test_several_experiments_get_a_page_that_one_alone_leaves(tiny, tmp_path):
    assert command.main(["same_context", "fig2a", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert page.count("<summary>agree: largest |z|") == 2
    assert command.main(["same_context", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").read_text() == page


def test_every_experiment_is_in_the_list_and_is_tested():
    modules = {file.stem for file in Path(command.__file__).parent.glob("*.py") if "\nPRESETS" in file.read_text()}
    assert set(TINY) == set(command.NAMES) == modules - {"fig3a"}  # which has options of its own


def test_presets_of_the_paper_have_its_sizes():
    """Settings as its captions give them; k up to 4 n in Figure 2."""
    sizes = {"fig1a": {"n": 300}, "fig1b": {"n": 200, "d": 400}, "fig2a": {"n": 300, "d": 600}}
    sizes |= {"fig2b": {"n": 250, "d": 500}, "fig2c": {"n": 50, "d": 100}, "fig3b": {"n": 40, "blocks": (25, 10, 25)}}
    for name, values in sizes.items():
        assert values.items() <= TINY[name][0].PRESETS["paper"].items()


def test_interrupted_cells_are_not_computed_again(tmp_path):
    file, calls = tmp_path / "work" / "cells.json", []

    def compute():
        calls.append(None)
        return {"losses": [1.5], "lr": 0.1}

    for name in ("0 scratch 64", "0 scratch 128", "0 scratch 64"):
        assert fig3b.remembered(file, name, compute) == {"losses": [1.5], "lr": 0.1}
    assert len(calls) == 2


def test_no_standard_error_to_be_trusted_is_no_agreement():
    rows = [{"z": 0.1, "stderr_reliable": False}]
    assert not Result("fig1a", rows, None).agrees
    assert Result("fig3b", rows, None, has_theory=False).agrees


def test_crossing_of_the_curves():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    assert crosses(x, np.array([1.0, 0.9, 0.5, 0.2]), np.array([0.6, 0.6, 0.6, 0.6])) == pytest.approx(1.75)
    assert np.isnan(crosses(x, np.ones(4), np.zeros(4)))
    for name, at, drawn in (("aligned", 1.070, 1.04), ("reversed", 0.697, 0.68)):
        from ttt_jax import make_shift, pretrained_weights

        weights = pretrained_weights(make_shift(name, n=300, k=1, d=600)[0], dense=False)
        ks = [round(600 * g) for g in np.arange(0.5, 1.5, 0.02)]
        problems = [make_shift("aligned", n=300, k=k, d=600)[1] for k in ks]
        warm, cold = (np.array([exact_risk(p, w).optimal for p in problems]) for w in (weights, 0.0))
        assert crosses(np.array(ks) / 600, cold, warm) == pytest.approx(at, abs=0.002)
        assert abs(at - drawn) < 0.04


def test_disagreement_is_reported(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(comparison, "exact_risk", lambda p, w, step, **o: exact_risk(p, 0.9 * np.asarray(w), step))
    assert command.main(["fig1b", "--out", str(tmp_path)]) == 1
    assert "DISAGREE" in capsys.readouterr().out


def test_crossing_of_figure_1b():
    """At the paper's sizes the exact curves cross later than Corollary 4.6 says, and the drawn ones later still."""
    figure, ks = fig1b.figure_of("paper"), range(1, 801, 10)
    x = np.array(ks) / 400
    exact, drawn = ({"warm": w, "cold": c} for w, c in zip(*(figure.risks(s, ks) for s in figure.starts), strict=True))
    assert (
        corollary_4_6_switch(0.5)
        < crosses(x, exact["cold"], exact["warm"])
        < crosses(x, drawn["cold"], drawn["warm"])
        < 1.0
    )
    assert crosses(x, exact["cold"], exact["warm"]) == pytest.approx(0.948, abs=0.002)
    assert np.isnan(crosses(x, exact["cold"] + 1, exact["warm"]))


def test_a_diagonal_has_the_risk_of_weights_averaged_over_weights_and_tasks():
    weights = [np.random.default_rng(seed).normal(size=(4, 4)) / 20 for seed in range(3)]
    for evaluation in ("fresh", "same"):
        one = finite_pretraining.problem(2, 4, evaluation)
        found = exact_risk(one, finite_pretraining.averaged(weights))
        curves = [exact_risk(replace(one, task=task), w) for w in weights for task in np.eye(4)]
        for name in ("c0", "c1", "c2"):
            assert getattr(found, name) == pytest.approx(np.mean([getattr(curve, name) for curve in curves]), rel=1e-12)


def test_a_cell_of_too_many_numbers_is_drawn_from_the_law():
    cells = [fig1a.cell(40, 40, 1), fig1a.cell(40, 40, 2)]  # 4,800 and 6,400 numbers for a task
    rows = run_cells(cells, normals=4800 * 1200, seed=0, title="")
    assert [(row["num_tasks"], row["sampler"]) for row in rows] == [(1200, "data"), (100_000, "law")]
    assert all(abs(row["z"]) < 4 for row in rows)


def test_rows_are_read_as_they_were_written(tiny, monkeypatch, tmp_path, capsys):
    """`--rows` draws a record anew, without a simulation."""
    assert command.main(["fig1b", "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "fig1b.csv")
    monkeypatch.setattr(figure, "compare", None)

    def emit(text):  # a reader that leaves loses no figure
        assert len(list((tmp_path / "again").glob("fig1b.*"))) == 3

    with monkeypatch.context() as patch:
        patch.setattr(command, "emit", emit)
        assert command.main(["fig1b", "--rows", str(tmp_path), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "fig1b.csv").read_text() == (tmp_path / "fig1b.csv").read_text()
    assert read_rows(tmp_path / "again" / "fig1b.csv") == rows
    assert command.main(["fig1b", "--rows", "nowhere", "--out", str(tmp_path)]) == 2
    capsys.readouterr()
    assert command.main(["fig1b", "--preset", "paper", "--rows", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "fig1b.csv has n = 20; preset paper has 200" in capsys.readouterr().err
    (tmp_path / "fig1b.csv").write_text("a,b\n1,2\n")
    assert command.main(["fig1b", "--rows", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "fig1b.csv has no column n; it is no result of fig1b" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig9"], "NAME must be all or one of fig1a, fig1b, "),
        (["fig1a", "--preset", "huge"], "--preset must be one of quick, paper, got 'huge'"),
        (["fig1a", "--seed", "-1"], "--seed must be an integer from 0 to 1000000, got -1"),
        (["fig1a", "--seed", "4294967295"], "--seed must be an integer from 0 to 1000000, got 4294967295"),
        (["fig1a", "--out", "file"], "--out must be a directory that can be written to, got 'file' (File exists)"),
        (
            ["fig1a", "--out", "file/inside"],
            "--out must be a directory that can be written to, got 'file/inside'",
        ),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_has_examples():
    done = subprocess.run([sys.executable, "-m", "experiments", "--help"], capture_output=True, text=True, check=True)
    assert "examples:" in done.stdout


def test_a_long_run_goes_on_from_its_cells(tiny, monkeypatch, tmp_path, capsys):
    """Interrupted in its third cell: the same run computes the rest, with the same rows; another seed starts anew."""
    whole = fig1b.simulate("quick", 4)
    assert not list(tmp_path.glob(".fig1b-*"))
    monkeypatch.setattr(figure, "KEEP_AFTER_SECONDS", -1.0)
    calls, compare = [], figure.compare

    def interrupted(*arguments, **options):
        calls.append(options["seed"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compare(*arguments, **options)

    monkeypatch.setattr(figure, "compare", interrupted)
    assert command.main(["fig1b", "--seed", "4", "--out", str(tmp_path / "out")]) == 130
    assert len(list(tmp_path.glob(".fig1b-*.json"))) == 1
    assert fig1b.simulate("quick", 4) == whole
    assert calls == [4, 5, 6, 6, 7, 8, 9]
    fig1b.simulate("quick", 5)
    assert len(calls) == 7 + 6
    assert command.main(["fig1b", "--seed", "4", "--out", str(tmp_path / "out")]) == 0
    assert len(list(tmp_path.glob(".fig1b-*"))) == 0
    assert "interrupted" in capsys.readouterr().err


def test_what_cannot_be_saved_is_printed_and_status_2(tiny, monkeypatch, tmp_path, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Result, "save", full)
    assert command.main(["fig1b", "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "agree: largest |z| " in printed.out
    assert printed.err == "python -m experiments: No space left on device\n"


def test_a_reader_that_has_left_loses_no_figure(tmp_path):
    code = "import sys; from experiments import __main__ as m, fig1b\n"
    code += (
        f"fig1b.PRESETS['quick'] = {TINY['fig1b'][1]}\nsys.exit(m.main(['fig1b', '--seed', '4', '--out', sys.argv[1]]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (0, b"")
    assert len(list(tmp_path.glob("fig1b.*"))) == 3


@pytest.mark.parametrize(
    ("command", "option", "message"),
    [
        ("prior_samples", "--seed=-1", "--seed must be an integer >= 0, got -1"),
        ("prior_learnability", "--tables=0", "--tables must be an integer >= 1, got 0"),
    ],
)
def test_commands_of_the_prior_refuse_bad_input_in_one_line(command, option, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"experiments.{command}").main([option])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
