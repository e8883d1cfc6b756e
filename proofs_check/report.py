"""A report of results: the table and the details of every claim as text, Markdown and HTML."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from proofs_check.claim import QUICK, Effort
from proofs_check.runner import Mutated, Result
from ttt_jax._internal.html import html_page, html_table
from ttt_jax._internal.plural import counted

MARKS = {True: "holds", False: "FAILS", None: "not judged"}
HEADER = ("claim", "number", "symbolic", "independent", "empirical", "detects", "seconds")
WIDTHS = 39, 31, 11, 12, 11, 8, 7
MUTATED_WIDTHS = 39, 31, 20, 11, 11
WAYS = HEADER[2:5]
DETECTS = "detects: the smallest relative error of a claim that its simulation would have noticed with probability 95%."


MUTATED = ("claim", "number", "coefficient + 5%", "symbolic", "independent")


def mutated_row(mutated: Mutated) -> tuple[str, ...]:
    ways = ("noticed" if ok is False else "NOT NOTICED" for ok in (mutated.symbolic, mutated.independent))
    return (mutated.name, mutated.number, mutated.coefficient, *ways)


def row(result: Result) -> tuple[str, ...]:
    detects = result.empirical.detects
    power = "" if math.isnan(detects) else f"{detects:.1%}"
    return (result.name, result.number, *(MARKS[v.ok] for v in result.verdicts), power, f"{result.seconds:.1f}")


def line(cells: Sequence[str], widths: Sequence[int] = WIDTHS) -> str:
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def header() -> str:
    return line(HEADER)


def lines(result: Result) -> list[str]:
    """Its row and the three verdicts."""
    return [line(row(result)), *(f"    {way:<12}{v.detail}" for way, v in zip(WAYS, result.verdicts, strict=True))]


def summary(results: Sequence[Result]) -> str:
    count = {ok: sum(result.ok is ok for result in results) for ok in MARKS}
    claims = counted(len(results), "claim")
    return f"{claims} checked: {count[True]} held, {count[False]} failed, {count[None]} not judged"


def conditions(effort: Effort, seconds: float) -> str:
    """When the report was made, with how much simulation and in how long."""
    kind = "quick" if effort == QUICK else "full"
    return f"{date.today()}, {kind} effort, seed {effort.seed}, {seconds:.0f} s on {os.cpu_count()} cores."


def markdown(results: Sequence[Result], made: str) -> str:
    """A page that the documentation can take as it is."""
    lines = ["# Every claim on trial", "", f"{summary(results)}.", "", f"Made by `python -m proofs_check`: {made}", ""]
    lines += [DETECTS, ""]
    lines += [f"| module | {' | '.join(HEADER[1:])} |", "|" + "---|" * len(HEADER)]
    lines += [f"| [{one.module}](#{one.module}) | {' | '.join(row(one)[1:])} |" for one in results]
    for result in results:
        lines += ["", f"## {result.module}", "", f"{result.number}: {result.name}", "", "```text", result.statement]
        lines += ["```", ""]
        lines += [
            f"- {way}: {MARKS[verdict.ok]}: {verdict.detail}"
            for way, verdict in zip(WAYS, result.verdicts, strict=True)
        ]
    return "\n".join(lines) + "\n"


def html(results: Sequence[Result], made: str) -> str:
    details = [
        (f"{result.number}: {result.name}", result.statement, *(f"{MARKS[v.ok]}: {v.detail}" for v in result.verdicts))
        for result in results
    ]
    table = html_table(HEADER, [row(result) for result in results])
    return html_page(f"{summary(results)}; {made}", table + html_table(("claim", "statement", *WAYS), details))


def save(out: Path, results: Sequence[Result], made: str) -> tuple[Path, Path]:
    page, site = out / "proofs.md", out / "proofs.html"
    page.write_text(markdown(results, made), encoding="utf-8")
    site.write_text(html(results, made), encoding="utf-8")
    return page, site
