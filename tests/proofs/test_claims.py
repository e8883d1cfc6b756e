"""Every claim passes, and none does with one of its coefficients changed by 5%."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sympy as sp

from proofs_check.__main__ import main
from proofs_check.claim import QUICK, Effort
from proofs_check.claims import NAMES
from proofs_check.runner import run

CLAIMS = {name: importlib.import_module(f"proofs_check.claims.{name}").CLAIM for name in NAMES}
COEFFICIENTS = [(name, i) for name, claim in CLAIMS.items() for i in range(len(claim.coefficients))]


def changed(coefficients: tuple, i: int) -> list:
    return [c * (sp.Rational(21, 20) if j == i else 1) for j, c in enumerate(coefficients)]


@pytest.mark.parametrize("name", NAMES)
def test_the_claim_holds(name):
    claim = CLAIMS[name]
    for verdict in (claim.symbolic(claim.coefficients), claim.independent(claim.coefficients)):
        assert verdict.ok, verdict.detail


@pytest.mark.parametrize(("name", "i"), COEFFICIENTS)
def test_a_coefficient_off_by_five_percent_is_noticed(name, i):
    claim = CLAIMS[name]
    wrong = changed(claim.coefficients, i)
    assert claim.symbolic(wrong).ok is False
    assert claim.independent(wrong).ok is False


def test_simulation_notices_a_coefficient_that_carries_the_whole_claim():
    for name, i, effort in (("lemma_c1", 0, Effort(200_000, 1)), ("proposition_3_1", 0, QUICK), ("lemma_b2", 6, QUICK)):
        claim = CLAIMS[name]
        assert claim.empirical(claim.coefficients, effort).ok
        assert claim.empirical(changed(claim.coefficients, i), effort).ok is False


def test_the_command_writes_its_report(tmp_path, capsys):
    assert main(["--quick", "--only", "proposition_3_1", "lemma_c1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr()
    assert "2 claims checked, 0 missed" in out.out
    assert not out.err  # no progress off a terminal
    assert "Proposition 3.1" in (tmp_path / "proofs.md").read_text()
    assert "Proposition 3.1" in (tmp_path / "proofs.html").read_text()


def test_a_miss_is_exit_status_1(monkeypatch):
    from dataclasses import replace

    import proofs_check.claims.lemma_c1 as module

    monkeypatch.setattr(module, "CLAIM", replace(module.CLAIM, coefficients=(2.1, 2)))
    assert main(["--quick", "--only", "lemma_c1"]) == 1


@pytest.mark.parametrize("flags", [["--fast"], ["--only", "theorem_9"], ["--out", __file__]])
def test_bad_flags_are_one_line_and_status_2(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        main(flags)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_every_verdict_says_something():
    result = run("corollary_4_4", QUICK)
    assert result.empirical.ok is None
    assert all(verdict.detail for verdict in result.verdicts)


def test_a_missing_extra_is_one_line(tmp_path):
    (tmp_path / "sympy.py").write_text("raise ModuleNotFoundError(\"No module named 'sympy'\", name='sympy')")
    command = [sys.executable, "-m", "proofs_check", "--quick"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert done.stderr == "proofs_check: sympy is not installed; pip install '.[proofs]'\n"
