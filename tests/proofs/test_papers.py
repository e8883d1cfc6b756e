"""Every statement of another paper has the verdict that its module records, and another with a wrong coefficient."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import sympy as sp

import proofs_check
from proofs_check.__main__ import main
from proofs_check.claim import Effort, Verdict
from proofs_check.papers import NAMES
from proofs_check.runner import run_paper

PAPERS = {name: importlib.import_module(f"proofs_check.papers.{name}").PAPER for name in NAMES}
STATEMENTS = {f"{name}, {one.number}": one for name, paper in PAPERS.items() for one in paper.statements}
COEFFICIENTS = [
    (key, i) for key, one in STATEMENTS.items() for i, c in enumerate(one.corrected or one.coefficients) if c
]
SHORT = Effort(4000, 1600)


def changed(statement, i, share):
    """The true coefficients, one of them wrong by this share; a bound is made tighter."""
    factor = 1 - share if statement.bound else 1 + share
    return [c * (factor if j == i else 1) for j, c in enumerate(statement.corrected or statement.coefficients)]


def test_every_module_is_listed():
    files = Path(proofs_check.__file__).parent.glob("papers/*.py")
    assert sorted(NAMES) == sorted(file.stem for file in files if file.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_the_verdicts_are_the_recorded_ones(name):
    for finding in run_paper(name, SHORT).findings:
        assert finding.ok, finding


@pytest.mark.parametrize("key", STATEMENTS)
def test_exact_theory_has_the_recorded_verdict(key):
    statement = STATEMENTS[key]
    assert statement.exact(statement.coefficients).ok is (statement.corrected is None)
    if statement.corrected:
        assert statement.exact(statement.corrected).ok


@pytest.mark.parametrize(("key", "i"), COEFFICIENTS)
def test_a_wrong_coefficient_is_noticed(key, i):
    """By exact theory, at 3%."""
    assert STATEMENTS[key].exact(changed(STATEMENTS[key], i, sp.Rational(3, 100))).ok is False


@pytest.mark.parametrize("name", NAMES)
def test_simulation_alone_notices_a_gross_error(name):
    statement = PAPERS[name].statements[-1]
    assert statement.simulated(changed(statement, 0, sp.Rational(3, 2)), SHORT).ok is False


def test_the_command_prints_a_table_and_writes_its_report(tmp_path, capsys):
    assert main(["papers", "--quick", "--only", "oswald_2022", "javanmard_2026", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "3 statements of 2 papers: 3 hold, 0 are false as printed" in out
    assert "where it stops being true at finite size" in out
    page = (tmp_path / "papers.md").read_text()
    assert "Read: the full text" in page
    assert "Conventions: " in page
    assert "Proposition 5.1, (5.1)" in (tmp_path / "papers.html").read_text()


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, 0, "1 hold"),
        ({"coefficients": (1.05, 1, 1)}, 1, "1 with another verdict than recorded"),
        ({"coefficients": (1.05, 1, 1), "corrected": (1, 1, 1)}, 0, "1 are false as printed"),
        ({"corrected": (1, 1, 1)}, 1, "NOT AS RECORDED"),
        ({"simulated": lambda c, effort: Verdict(None, "too few")}, 3, "1 not judged"),
    ],
)
def test_the_exit_status_compares_with_the_record(changes, status, word, monkeypatch, capsys):
    module = importlib.import_module("proofs_check.papers.oswald_2022")
    (statement,) = module.PAPER.statements
    monkeypatch.setattr(module, "PAPER", replace(module.PAPER, statements=(replace(statement, **changes),)))
    assert main(["papers", "--quick", "--only", "oswald_2022"]) == status
    assert word in capsys.readouterr().out


@pytest.mark.parametrize("flags", ["papers --only theorem_4_5", "--only lu_2024", "theorems"])
def test_a_name_of_another_trial_is_an_error(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
