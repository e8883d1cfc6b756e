"""`ttt-jax check`: verdicts, files and the exit status; what has been computed is not computed again."""

import csv

import pytest

from ttt_jax.cli.main import main
from ttt_jax.simulation import together
from ttt_jax.verdict import measured

HEAD = """
import numpy as np
import ttt_jax as ttt

problems = [ttt.Problem(n, k, np.ones(4) / 2) for n, k in ((60, 8), (90, 4))]
cold = {"start": "zero", "quantity": "gain", "num_tasks": 500}

"""
RIGHT = """
def right(n, k, d):
    '''Theorem 2.'''
    return k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d)

theorem_2 = ttt.Claim(right, problems, **cold)
"""
WRONG = """
wrong = ttt.Claim(lambda k, d: k / (k + d), problems, **cold)
"""
OPEN = """
untried = ttt.Claim(lambda k: k > 0, problems, relation="iff", procedure=1e-8, against={"procedure": 0.0}, num_tasks=0)
"""


@pytest.fixture
def check(tmp_path, capsys):
    def run(text, *options):
        file = tmp_path / "claims.py"
        if text is not None:
            file.write_text(text)
        status = main(["check", str(file), "--out", str(tmp_path / "out"), *options])
        return status, *capsys.readouterr(), tmp_path / "out"

    return run


@pytest.fixture
def simulations(monkeypatch):
    """Of how many cases the risk has been simulated."""
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return together.estimate_together(*arguments, **options)

    monkeypatch.setattr(measured, "estimate_together", counted)
    return calls


def test_claims_that_hold_are_status_0_with_a_table_a_figure_and_a_page(check):
    status, out, err, folder = check(HEAD + RIGHT)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "theorem_2: holds"
    assert out.splitlines()[-1] == str(folder / "report.html")
    with open(folder / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["claim"], row["verdict"], row["n"]) for row in rows] == [
        ("theorem_2", "holds", "60"),
        ("theorem_2", "holds", "90"),
    ]
    assert (folder / "theorem_2.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert "Theorem 2." in page
    assert "<p>start=zero, procedure=optimal, quantity=gain</p>" in page
    assert "z = (simulated - claimed) / standard error" in page
    assert "data:image/png;base64," in page
    assert "http" not in page


def test_a_claim_that_is_refuted_or_open_is_status_1(check):
    status, out, _, _ = check(HEAD + RIGHT + WRONG, "--tasks", "0")
    assert status == 1
    assert "wrong: refuted\n  exact: DISAGREES" in out
    status, out, _, _ = check(HEAD + OPEN)
    assert status == 1
    assert "untried: open" in out
    assert "one side was not tried" in out


def test_an_equal_call_computes_nothing_and_a_stopped_one_goes_on(check, simulations, monkeypatch):
    first = check(HEAD + RIGHT)
    assert len(simulations) == 2
    assert check(None)[:2] == first[:2]
    assert len(simulations) == 2
    assert check(None, "--seed", "7")[0] == 0
    assert len(simulations) == 4
    assert check(HEAD + RIGHT + "# edited\n", "--seed", "7")[0] == 0
    assert len(simulations) == 6

    def stopped(*arguments, **options):
        if len(simulations) == 7:
            raise KeyboardInterrupt
        simulations.append(arguments)
        return together.estimate_together(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(measured, "estimate_together", stopped)
        assert check(None, "--seed", "8")[0] == 130
    assert check(None, "--seed", "8")[0] == 0
    assert len(simulations) == 8  # the row that was finished is not computed again


def test_a_record_that_is_cut_short_is_computed_again(check, simulations):
    folder = check(HEAD + RIGHT)[-1]
    record = folder / "rows" / "theorem_2.json"
    record.write_text(record.read_text()[:40])
    assert check(None)[0] == 0
    assert len(simulations) == 4


def test_a_module_beside_the_file_is_part_of_it(check, simulations, tmp_path, monkeypatch):
    text = HEAD + "from beside import FACTOR\nproblems = problems[:1]\n" + RIGHT.replace("k / (k", "FACTOR * k / (k")
    (tmp_path / "beside.py").write_text("FACTOR = 1.0\n")
    assert check(text)[0] == 0
    monkeypatch.delitem(__import__("sys").modules, "beside")
    (tmp_path / "beside.py").write_text("FACTOR = 1.1  # another\n")
    assert check(text)[0] == 1
    monkeypatch.delitem(__import__("sys").modules, "beside")
    assert len(simulations) == 2


def test_only_one_claim(check):
    assert "wrong" not in check(HEAD + RIGHT + WRONG, "--only", "theorem_2", "--tasks", "0")[1]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (HEAD + "def broken(:\n", (), "claims.py:8: invalid syntax"),
        (HEAD + "x = 1 / 0\n", (), "claims.py:8: ZeroDivisionError: division by zero"),
        ("import missing_module_of_mine\n", (), "claims.py:1: ModuleNotFoundError: No module named"),
        ("raise SystemExit(0)\n", (), "claims.py:1: SystemExit: 0"),
        (HEAD, (), "claims.py: must have claims, such as theorem_1 = ttt_jax.Claim(formula, problems), got none"),
        (HEAD + RIGHT, ("--only", "theorem_3"), "--only must be one of theorem_2, got 'theorem_3'"),
        (HEAD + RIGHT, ("--tasks", "-1"), "theorem_2: num_tasks must be an integer >= 0, got -1"),
        (HEAD + RIGHT, ("--seed", "-1"), "theorem_2: seed must be an integer >= 0, got -1"),
        (HEAD + "a = ttt.Claim(0, 0, quantiy=0)", (), "claims.py:8: ValueError: Claim takes claim,"),
        (HEAD + RIGHT + "a = ttt.Claim(lambda n: n / 0, problems)", (), "a: claim must not raise, got Zero"),
        (HEAD + RIGHT + "a = ttt.Claim(lambda q: q, problems)", (), "a: claim may use n, k, d, "),
        (HEAD + RIGHT + "a = ttt.Claim(right, problems, procedure=ttt.Folds(7))", (), "a: folds must divide n + k ="),
        (HEAD + RIGHT + "globals()['../a'] = theorem_2", (), "with names such as theorem_1, got '../a'"),
        (HEAD + RIGHT + "globals()['a' * 201] = theorem_2", (), "names such as theorem_1, got 'aaaa"),
        (HEAD + RIGHT + "a = ttt.Claim(lambda n: n, [])", (), "a: problems must not be empty"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_nothing_is_computed(check, simulations, text, options, message):
    status, out, err, folder = check(text, *options)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("ttt-jax check: ")
    assert message in err
    assert not simulations
    assert not folder.exists()


def test_a_file_that_is_missing_and_a_folder_that_is_a_file(check, tmp_path, capsys):
    assert main(["check", str(tmp_path / "none.py"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith("none.py: No such file or directory\n")
    (tmp_path / "out").write_text("")
    status, _, err, _ = check(HEAD + RIGHT, "--tasks", "0")
    assert status == 2
    assert "--out must be a directory that can be written to" in err


def test_a_parameter_with_dollars_is_no_formula_of_the_figure(check):
    claim = RIGHT.replace("**cold", r"parameters={'a': ['$\\foo$', 'x\\ny']}, **cold")
    status, _, err, folder = check(HEAD + claim, "--tasks", "0")
    assert (status, err) == (0, "")
    assert (folder / "report.html").exists()
