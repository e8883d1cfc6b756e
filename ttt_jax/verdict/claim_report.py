"""What is written about claims: a table of all rows, a figure of each claim, and one HTML page with everything."""

from __future__ import annotations

import csv
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from ttt_jax._internal.command import printable, replace_file
from ttt_jax._internal.html import html_page, html_table
from ttt_jax._internal.validate import shown
from ttt_jax.plotting import draw_values
from ttt_jax.verdict.outcome import Check, CheckRow
from ttt_jax.verdict.stated import Claim

TABLE, PAGE = "results.csv", "report.html"
LEGEND = (
    "claimed: the value of the claim. exact: that of exact theory. simulated: the mean over simulated tasks and its "
    "standard error. z = (simulated - claimed) / standard error. margin: by how much a bound holds."
)
COLUMNS = "n", "k", "d", "claimed", "side", "exact", "exact_stderr", "estimate", "stderr", "z", "stderr_reliable"


def write_report(found: Mapping[str, tuple[Claim, Check]], directory: Path, title: str) -> Path:
    """Write results.csv, a figure NAME.png of every claim, and report.html, which contains them all.

    Returns:
        The path of the page.
    """
    writer = csv.writer(table := StringIO(newline=""))
    writer.writerow(("claim", "verdict", "quantity", "relation", "parameters", *COLUMNS))
    for name, (_, check) in found.items():
        about = name, check.verdict, check.quantity, check.relation
        writer.writerows((*about, _parameters(row), *(getattr(row, c) for c in COLUMNS)) for row in check.rows)
    replace_file(directory / TABLE, printable(table.getvalue()))
    rows = [(name, check.verdict, claim.statement) for name, (claim, check) in found.items()]
    parts = [html_table(("claim", "verdict", "statement"), rows), f"<p>{LEGEND}</p>"]
    for name, (claim, check) in found.items():
        image = BytesIO()
        draw_values(check, title=name).savefig(image, format="png")
        replace_file(directory / f"{name}.png", image.getvalue())
        source = b64encode(image.getvalue()).decode()
        asked = ", ".join(f"{option}={_shown(value)}" for option, value in claim.asked.items())
        parts.append(f"<h2>{escape(name)}: {check.verdict}</h2>\n<p>{escape(asked)}</p>")
        parts.append(f"<pre>{escape(str(check))}</pre>")
        parts.append(f'<p><img src="data:image/png;base64,{source}" alt="{escape(name)}" style="max-width:100%"></p>')
    return replace_file(directory / PAGE, html_page(printable(title), "\n".join(parts)))


def _shown(value: Any) -> str:
    return getattr(value, "__name__", None) or shown(value, str)


def _parameters(row: CheckRow) -> str:
    values: dict[str, Any] = dict(row.parameters)
    return "; ".join(f"{name} = {value}" for name, value in values.items())
