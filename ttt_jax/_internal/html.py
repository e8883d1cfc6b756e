"""Self-contained HTML pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_page", "html_table"]

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
img{max-width:100%;height:auto}
table{border-collapse:collapse;margin:1.5rem 0}th,td{padding:.3rem .7rem;text-align:left;vertical-align:top;
border-bottom:1px solid #ddd;white-space:pre-line}th{background:#f4f4f4}"""


def html_page(title: str, body: str) -> str:
    """One HTML document without references to anything outside it.

    Args:
        title: plain text, also the heading.
        body: HTML.

    Example:
        >>> html_page("A & B", "<p>text</p>").count("A &amp; B")
        2
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of plain text.

    Example:
        >>> html_table(["n", "risk"], [[1, "<0.5"]]).count("&lt;0.5")
        1
    """
    cells = [[f"<td>{escape(str(cell))}</td>" for cell in row] for row in rows]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{''.join(row)}</tr>" for row in cells) + "</table>\n"
