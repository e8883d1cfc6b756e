"""The examples run as a user types them, and say what their first lines promise."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import ttt_jax as ttt

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    def run_example(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_example


def test_quickstart(run, tmp_path):
    assert "z = (Monte Carlo - exact) / stderr" in run("quickstart.py", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_explore_shows_what_theory_says():
    pytest.importorskip("marimo")
    _, shown = runpy.run_path(str(EXAMPLES / "explore.py"))["app"].run()
    risk = ttt.exact_risk(ttt.Problem(n=20, k=80, task=np.ones(40) / 40**0.5), 1 / 61)
    assert shown["here"]["from the pretrained weights"] == pytest.approx(risk.optimal)
    assert shown["here"]["without TTT"] == pytest.approx(risk.initial)
    assert all(np.diff(curve[:-1]).max() < 0 for curve in shown["curves"][:2])  # more pairs to train on help


def test_check_a_formula_refutes_the_wrong_one_only(run, tmp_path):
    printed = run("check_a_formula.py", tmp_path / "figure.png")
    assert "--- wrong: is refuted" in printed
    assert "--- Theorem 4.5: passes" in printed
    assert "--- Theorem 4.2: passes as a leading order" in printed
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_tabular(run):
    lines = run("tabular.py").splitlines()
    scores = [float(line[32:37]) for line in lines]
    assert len(scores) == 4
    assert min(scores) > 0.8  # the larger class is 63% of the rows
