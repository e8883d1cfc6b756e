"""The report on statements of other papers: a table, what was read, the conventions and the evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from proofs_check.runner import Finding, PaperResult
from ttt_jax._internal.html import html_page, html_table
from ttt_jax._internal.plural import counted

HEADER = ("paper", "statement", "verdict", "detects", "where it stops being true at finite size")
WIDTHS = 34, 31, 16, 7, 0
DETECTS = "detects: the smallest relative error that the simulation would have noticed with probability 95%."


def verdict(finding: Finding) -> str:
    """In one word; what differs from the record of the module is in capitals."""
    if finding.ok is None:
        return "not judged"
    if finding.ok:
        return "false as printed" if finding.corrected else "holds"
    return "NOT AS RECORDED"


def row(result: PaperResult, finding: Finding) -> tuple[str, ...]:
    found = finding.corrected or finding.printed
    power = "" if math.isnan(found.detects) else f"{found.detects:.1%}"
    return result.paper.name, finding.statement.number, verdict(finding), power, finding.statement.at_finite_size


def rows(results: Sequence[PaperResult]) -> list[tuple[str, ...]]:
    return [row(result, finding) for result in results for finding in result.findings]


def line(cells: Sequence[str]) -> str:
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def header() -> str:
    return line(HEADER)


def lines(result: PaperResult) -> list[str]:
    """Its rows, and the evidence where the verdict is not the recorded one."""
    found = []
    for finding in result.findings:
        found.append(line(row(result, finding)))
        if not finding.ok:
            found += [f"    {words}" for words in evidence(finding)]
    return found


def evidence(finding: Finding) -> list[str]:
    words = {True: "holds", False: "fails", None: "not judged"}
    judged = {"as printed": finding.printed} | ({"corrected": finding.corrected} if finding.corrected else {})
    return [f"{name}: {words[found.ok]}: {found.detail}" for name, found in judged.items()]


def summary(results: Sequence[PaperResult]) -> str:
    found = [verdict(finding) for result in results for finding in result.findings]
    parts = [f"{found.count('holds')} hold", f"{found.count('false as printed')} are false as printed"]
    parts += [f"{found.count(name)} {words}" for name, words in BAD.items() if name in found]
    return f"{counted(len(found), 'statement')} of {counted(len(results), 'paper')}: {', '.join(parts)}"


BAD = {"NOT AS RECORDED": "with another verdict than recorded", "not judged": "not judged"}


def markdown(results: Sequence[PaperResult], made: str) -> str:
    """A page that the documentation can take as it is."""
    page = ["# Other papers on trial", "", f"{summary(results)}.", ""]
    page += [f"Made by `python -m proofs_check papers`: {made}", "", DETECTS, ""]
    page += [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    page += [f"| {' | '.join(_cell(cell) for cell in cells)} |" for cells in rows(results)]
    for result in results:
        paper = result.paper
        page += ["", f"## {paper.name}", "", f"Read: {paper.read}.", "", f"Conventions: {paper.convention}."]
        for finding in result.findings:
            page += ["", f"### {finding.statement.number}", "", "```text", finding.statement.text, "```", ""]
            page += [
                f"- {words}" for words in (*evidence(finding), f"where it stops: {finding.statement.at_finite_size}")
            ]
    return "\n".join(page) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def html(results: Sequence[PaperResult], made: str) -> str:
    table = html_table(HEADER, rows(results))
    details = [
        (result.paper.name, finding.statement.number, finding.statement.text, "; ".join(evidence(finding)))
        for result in results
        for finding in result.findings
    ]
    read = [(result.paper.name, result.paper.read, result.paper.convention) for result in results]
    tables = html_table(("paper", "statement", "text", "evidence"), details)
    return html_page(f"{summary(results)}; {made}", table + tables + html_table(("paper", "read", "conventions"), read))


def save(out: Path, results: Sequence[PaperResult], made: str) -> tuple[Path, Path]:
    page, site = out / "papers.md", out / "papers.html"
    page.write_text(markdown(results, made), encoding="utf-8")
    site.write_text(html(results, made), encoding="utf-8")
    return page, site
