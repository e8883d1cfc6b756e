"""The referee's page is what the module prints, and its verdicts fit the claims that they rest on."""

import importlib
import re
from pathlib import Path

import pytest

from proofs_check import referee
from proofs_check.claims import NAMES
from proofs_check.paper_numbers import SECTIONS, main

DOCS = Path(__file__).parents[2] / "docs"
APPROXIMATE = re.compile("approximate|leading order")


def claim(name):
    return importlib.import_module(f"proofs_check.claims.{name}")


def test_the_page_has_the_table_and_the_counts():
    page = (DOCS / "referee.md").read_text()
    assert f"\n{referee.summary()}\n\n{referee.table()}\n" in page


def test_every_claim_about_a_statement_of_the_paper_is_used():
    used = {name for one in referee.STATEMENTS for name in one.claims}
    papers = re.compile(r"(section|Proposition|Lemmas?|Theorem|Corollary|Figure) [\dBC]")
    assert {name for name in NAMES if papers.match(claim(name).CLAIM.number)} <= used


@pytest.mark.parametrize("one", referee.STATEMENTS, ids=lambda one: one.where)
def test_the_verdict_fits_its_evidence(one):
    approximate = [bool(APPROXIMATE.search(claim(name).__doc__)) for name in one.claims]
    assert not (one.verdict == referee.EXACT and any(approximate))
    assert not (one.verdict == referee.LEADING and not any(approximate))
    assert bool(one.commands()) == (one.verdict != referee.NOT_JUDGED)
    assert set(one.numbers) <= set(SECTIONS)


def test_every_claim_behind_a_verdict_held_in_the_last_record():
    record = (DOCS / "records" / "proofs.md").read_text()
    for name in {name for one in referee.STATEMENTS for name in one.claims}:
        assert re.search(rf"^\| \[{name}\].*\| holds \| holds \| holds \|", record, re.MULTILINE), name


def test_the_numbers_of_a_section_and_of_all(monkeypatch):
    called = []
    for name in SECTIONS:
        monkeypatch.setitem(SECTIONS, name, lambda name=name: called.append(name))
    main(["humps"])
    main([])
    assert called == ["humps", *SECTIONS]
