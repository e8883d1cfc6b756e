"""Every claim passes, and none does with one of its coefficients changed by 5%."""

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from proofs_check.__main__ import main
from proofs_check.claim import FULL, QUICK, Effort, Verdict, both
from proofs_check.claims import NAMES
from proofs_check.report import conditions, markdown
from proofs_check.runner import Result, run

ROOT = Path(__file__).parents[2]
CLAIMS = {name: importlib.import_module(f"proofs_check.claims.{name}").CLAIM for name in NAMES}
COEFFICIENTS = [(name, i) for name, claim in CLAIMS.items() for i in range(len(claim.coefficients))]


@pytest.mark.parametrize("name", NAMES)
def test_the_claim_holds(name):
    """By algebra and rational arithmetic; `make test` simulates all of them with `python -m proofs_check --quick`."""
    claim = CLAIMS[name]
    c = claim.coefficients
    for verdict in (claim.symbolic(c), claim.independent(c)):
        assert verdict.ok is True, verdict.detail


@pytest.mark.parametrize(("name", "i"), COEFFICIENTS)
def test_a_coefficient_off_by_five_percent_is_noticed(name, i):
    claim = CLAIMS[name]
    wrong = claim.with_wrong(i)
    assert claim.symbolic(wrong).ok is False
    assert claim.independent(wrong).ok is False


@pytest.mark.parametrize(
    ("name", "i", "effort"),
    [
        ("lemma_c1", 0, Effort(200_000, 1)),
        ("proposition_3_1", 0, QUICK),
        ("lemma_b2", 6, QUICK),
        ("theorem_4_2", 3, QUICK),
    ],
)
def test_simulation_notices_a_coefficient_that_carries_the_whole_claim(name, i, effort):
    claim = CLAIMS[name]
    assert claim.empirical(claim.coefficients, effort).ok
    assert claim.empirical(claim.with_wrong(i), effort).ok is False


def test_the_command_writes_its_report(tmp_path, capsys):
    assert main(["--quick", "--only", "proposition_3_1", "lemma_c1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr()
    assert "2 claims checked: 2 held, 0 failed, 0 not judged" in out.out
    assert not out.err  # no progress off a terminal
    assert "Proposition 3.1" in (tmp_path / "proofs.md").read_text()
    assert "Proposition 3.1" in (tmp_path / "proofs.html").read_text()


def test_the_command_prints_what_each_coefficient_off_by_five_percent_does(monkeypatch, capsys):
    assert main(["--mutate", "--only", "lemma_c1", "scaling"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = sum(len(CLAIMS[name].coefficients) for name in ("lemma_c1", "scaling"))
    assert [line.count(" noticed") for line in lines[1:-1]] == [2] * count
    assert lines[-1] == f"{count} coefficients changed by 5%: {count} noticed both ways, 0 not"
    module = importlib.import_module("proofs_check.claims.lemma_c1")
    blind = replace(module.CLAIM, independent=lambda c: Verdict(True, "all is well"))
    monkeypatch.setattr(module, "CLAIM", blind)
    assert main(["--mutate", "--only", "lemma_c1"]) == 1
    assert "noticed     NOT NOTICED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"coefficients": (2.1, 2)}, 1, "1 claim checked: 0 held, 1 failed, 0 not judged"),
        ({"empirical": lambda c, effort: Verdict(None, "too few tasks")}, 3, "claim checked: 0 held, 0 failed, 1 not"),
    ],
)
def test_the_exit_status_tells_a_failure_from_what_was_not_judged(changes, status, word, monkeypatch, capsys):
    module = importlib.import_module("proofs_check.claims.lemma_c1")
    monkeypatch.setattr(module, "CLAIM", replace(module.CLAIM, **changes))
    assert main(["--quick", "--only", "lemma_c1"]) == status
    assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("oks", "status"), [((True, True), 0), ((True, None), 3), ((None, False, True), 1), ((False, None), 1)]
)
def test_the_exit_status_of_a_whole_run(oks, status, monkeypatch, capsys):
    held = Verdict(True, "held")
    results = [Result("module", "name", "number", "statement", held, held, Verdict(ok, "judged"), 0.0) for ok in oks]
    monkeypatch.setattr("proofs_check.__main__.run_all", lambda *_: iter(results))
    assert main([]) == status
    assert f"{len(oks)} claims checked: {oks.count(True)} held" in capsys.readouterr().out


def test_the_report_is_a_page_of_the_documentation():
    verdicts = Verdict(True, "identity"), Verdict(True, "equal"), Verdict(True, "max |z| 1", 0.031)
    page = markdown([Result("lemma_1", "Name", "Lemma 1", "W* = [a](b)", *verdicts, 2.0)], conditions(FULL, 60))
    assert page.startswith("# Every claim on trial\n")
    assert "full effort, seed 0, 60 s" in page
    assert "| [lemma_1](#lemma_1) | Lemma 1 | holds | holds | holds | 3.1% | 2.0 |" in page
    assert "\n## lemma_1\n" in page  # what other pages link to
    assert "```text\nW* = [a](b)\n```" in page  # formulas are no Markdown


def test_a_verdict_of_several_fails_before_it_is_not_judged():
    holds, fails, open_ = Verdict(True, "a"), Verdict(False, "b"), Verdict(None, "c")
    assert both(holds, open_, fails) is fails
    assert both(holds, open_) is open_
    assert both(holds, holds).detail == "a; a"
    assert both(holds, Verdict(True, "d", 0.1), Verdict(True, "e", 0.3)).detects == 0.3


def test_a_simulation_too_short_for_the_tails_judges_nothing():
    claim = CLAIMS["law_identity"]
    assert claim.empirical(claim.coefficients, Effort(50, 1)).ok is None


def test_a_failure_says_at_which_setting():
    noiseless = importlib.import_module("proofs_check.claims.theorem_4_5").CLAIM
    detail = noiseless.independent([*noiseless.coefficients[:7], 0, 1, 1, *noiseless.coefficients[10:]]).detail
    assert "s2 = 3" in detail
    assert "d = 4" in detail


def launch(*arguments, **options):
    command = [sys.executable, "-m", "proofs_check", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def workers_of(process):
    """The worker processes below it, once there is one."""
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # it or a child has ended since
            below = psutil.Process(process.pid).children()
            if workers := [one for one in below if any("spawn_main" in word for word in one.cmdline())]:
                return workers
        time.sleep(0.1)
    raise AssertionError("it ended before it started a worker")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_ends_at_once_and_leaves_no_worker(sent):
    with launch("--quick", start_new_session=True) as process:
        process.stdout.readline()  # it has begun
        workers = workers_of(process) if os.cpu_count() > 1 else []
        started = time.monotonic()
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does
        else:
            process.kill()
        assert process.wait(timeout=30) == (130 if sent == signal.SIGINT else -9)
        _, left = psutil.wait_procs(workers, timeout=30 - (time.monotonic() - started))
        assert all(one.status() == psutil.STATUS_ZOMBIE for one in left)
        if sent == signal.SIGINT:
            assert process.stderr.read() == "proofs_check: interrupted\n"


def test_a_reader_who_leaves_loses_no_report(tmp_path):
    with launch("--quick", "--only", "proposition_3_1", "--out", str(tmp_path)) as process:
        process.stdout.close()
        assert not process.stderr.read()
    assert process.returncode == 0
    assert "1 claim checked: 1 held" in (tmp_path / "proofs.md").read_text()


@pytest.mark.parametrize(
    "flags", ["--fast", "--only theorem_9", "--mutate --out x", f"--out {__file__}", f"--out {__file__}/sub"]
)
def test_bad_flags_are_one_line_and_status_2(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    if flags.startswith("--out"):
        assert "--out must be a directory that can be written to, got '/" in error


@pytest.mark.parametrize(
    ("flags", "ending"),
    [
        ("--only leading_ordr", "must be names of claims, got 'leading_ordr'; did you mean leading_order?"),
        ("--only oswald_2022", "must be names of claims, got 'oswald_2022', none of token_attention, "),
        ("papers --only lu_2025", "must be names of papers, got 'lu_2025'; did you mean lu_2024?"),
    ],
)
def test_an_unknown_name_is_met_with_the_nearest_or_all(flags, ending, capsys):
    with pytest.raises(SystemExit):
        main(flags.split())
    assert ending in capsys.readouterr().err


def test_every_verdict_says_something():
    result = run("proposition_3_1", QUICK)
    assert all(verdict.detail for verdict in result.verdicts)


def test_a_missing_extra_is_one_line(tmp_path):
    (tmp_path / "sympy.py").write_text("raise ModuleNotFoundError(\"No module named 'sympy'\", name='sympy')")
    command = [sys.executable, "-m", "proofs_check", "--quick"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "proofs_check: sympy is not installed; pip install '.[proofs]'\n"
