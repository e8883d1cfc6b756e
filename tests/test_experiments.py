"""The experiments at sizes of a second, and their command line."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from experiments import __main__ as command
from experiments import fig1a, fig1b
from experiments.figure import run_cells
from ttt_jax import exact_risk
from ttt_jax.asymptotic import corollary_4_6_switch

TINY = {
    "fig1a": (fig1a, {"n": 40, "normals": 1e7}),
    "fig1b": (fig1b, {"n": 20, "d": 40, "num_points": 3, "normals": 1e7}),
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(fig1a, "K_OVER_D", (1, 2))
    monkeypatch.setattr(fig1a, "RATIOS", (1.0, 2.0, 4.0))
    for module, preset in TINY.values():
        monkeypatch.setitem(module.PRESETS, "quick", preset)


@pytest.mark.parametrize("name", TINY)
def test_files_and_table(tiny, name, tmp_path, capsys):
    assert command.main([name, "--out", str(tmp_path), "--seed", "4"]) == 0
    printed = capsys.readouterr().out
    assert "agree: all" in printed
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{name}.csv", f"{name}.png", f"{name}.svg"]
    with (tmp_path / f"{name}.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    for row in rows:
        z = (float(row["estimate"]) - float(row["exact"])) / float(row["stderr"])
        assert z == pytest.approx(float(row["z"]))
        assert float(row["exact"]) >= float(row["exact_optimum"])


def test_disagreement_is_reported(tiny, monkeypatch, tmp_path, capsys):
    compare_module = sys.modules["ttt_jax.compare"]
    monkeypatch.setattr(compare_module, "exact_risk", lambda p, w, e, **o: exact_risk(p, 0.9 * np.asarray(w), e))
    assert command.main(["fig1b", "--out", str(tmp_path)]) == 1
    assert "DISAGREE" in capsys.readouterr().out


def test_crossing_of_figure_1b():
    """At the paper's sizes the exact curves cross later than Corollary 4.6 says, and the drawn ones later still."""
    ks = range(1, 801, 10)
    x = np.array([k / 400 for k in ks])
    cells = {start: [fig1b.cell(200, k, 400, start) for k in ks] for start in fig1b.STARTS}
    exact = {s: np.array([exact_risk(c.problem, c.weights).optimal for c in cells[s]]) for s in cells}
    drawn = {s: np.array([c.approximate for c in cells[s]]) for s in cells}
    assert corollary_4_6_switch(0.5) < fig1b.crossing(x, exact) < fig1b.crossing(x, drawn) < 1.0
    assert fig1b.crossing(x, exact) == pytest.approx(0.948, abs=0.002)
    assert np.isnan(fig1b.crossing(x, {"cold": exact["cold"] + 400, "warm": exact["warm"]}))


def test_sample_sizes_follow_the_budget():
    cells = [fig1b.cell(20, 40, 40, "warm")]
    (row,) = run_cells(cells, normals=80 * 40 * 1000, seed=0, title="")
    assert row["num_tasks"] == 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig9"], "NAME must be all or one of fig1a, fig1b, got 'fig9'"),
        (["fig1a", "--preset", "huge"], "argument --preset: invalid choice: 'huge'"),
        (["fig1a", "--seed", "-1"], "--seed: seed must be an integer >= 0"),
        (["fig1a", "--out", "file/inside"], "--out:"),
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
