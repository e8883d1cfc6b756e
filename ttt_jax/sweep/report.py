"""The report of a sweep: figures of the risk along its axes, the verdict and all numbers on one HTML page."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

from ttt_jax._internal.command import printable
from ttt_jax._internal.html import html_page, html_table
from ttt_jax._internal.plural import counted
from ttt_jax.plotting import MARKERS, Series, draw
from ttt_jax.sweep.axes import LABELS, label, setting, short, varying_columns
from ttt_jax.sweep.heat_maps import heat_maps
from ttt_jax.sweep.run import read_sweep
from ttt_jax.sweep.spec import Spec
from ttt_jax.verdict.agreement import judge

MAX_FIGURES = 24
ABOUT = (
    "Each cell is a learning problem: linear attention has n labelled pairs of d features in its context, is trained "
    "at test time on k more, and answers a new query. Its risk is the expected squared error of that answer.",
    "initial: the risk before that training. exact: after it, by a formula that holds at these sizes. asymptotic: to "
    "leading order in large sizes. estimate, stderr: mean and standard error of num_tasks simulated tasks. "
    "z: (estimate - exact) / stderr. note: what is missing, or what to beware of.",
)
SHOWN = ("cell", "lr", "initial", "exact", "asymptotic", "estimate", "stderr", "z", "num_tasks", "note")


def write_report(directory: Path) -> Path:
    """Write report.html, with the figures inside it, and the figures as PNG and SVG too.

    Returns:
        The path of the page.

    Raises:
        ValueError: there is no sweep in the directory, or no cell of it is finished.
    """
    spec, rows = read_sweep(directory)
    if not rows:
        raise ValueError(f"{directory}: no cell is finished yet")
    parts = [f"<p>{line}</p>" for line in ABOUT]
    parts.append(f"<p>Theory and simulation: {escape(str(judge(rows)))}.</p>")
    if len(rows) < len(spec.cells):
        parts.append(f"<p>Finished: {len(rows)} of {counted(len(spec.cells), 'cell')}.</p>")
    pages = [*heat_maps(spec, rows), *_figures(spec, rows)]
    for i, (title, figure) in enumerate(pages[:MAX_FIGURES], start=1):
        for suffix in ("png", "svg"):
            scratch = directory / f".figure.part.{suffix}"  # a link of that name is replaced, not followed
            figure.savefig(scratch, metadata={"Date": None} if suffix == "svg" else None)
            scratch.replace(directory / f"figure-{i:02}.{suffix}")
        image = BytesIO()
        figure.savefig(image, format="png")
        source = b64encode(image.getvalue()).decode()
        parts.append(f'<p><img src="data:image/png;base64,{source}" alt="{escape(title)}" style="max-width:100%"></p>')
    if len(pages) > MAX_FIGURES:
        parts.append(f"<p>Left out: {counted(len(pages) - MAX_FIGURES, 'figure')}; results.csv has every cell.</p>")
    settings = {"tasks per cell": spec.num_tasks, "target relative error": spec.target_relative_stderr or "none"}
    settings |= {"seed": spec.seed, "versions": rows[0]["versions"], "device": rows[0]["device"]}
    columns = [*SHOWN[:1], *varying_columns(spec), *SHOWN[1:]]
    parts.append(html_table(("setting", "value"), settings.items()))
    parts.append(html_table(columns, ([short(row.get(name)) for name in columns] for row in rows)))
    page = directory / "report.html"
    scratch = directory / ".report.html.part"
    scratch.write_text(html_page(printable(f"Sweep {directory.name}"), "\n".join(parts)), encoding="utf-8")
    return scratch.replace(page)


def _figures(spec: Spec, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """A figure per combination of the axes that are neither its horizontal axis nor its series."""
    columns = varying_columns(spec)
    numeric = [name for name in columns if all(isinstance(row.get(name), int | float) for row in rows)]
    x = max(numeric, key=lambda name: len({row[name] for row in rows}), default="cell")
    others = [name for name in columns if name != x]
    values = {name: list(dict.fromkeys(row.get(name) for row in rows)) for name in others}
    series = max(
        (name for name in others if len(values[name]) <= len(MARKERS)), key=lambda n: len(values[n]), default=None
    )
    rest = [name for name in others if name != series]
    for combination in product(*(values[name] for name in rest)):
        here = [row for row in rows if [row.get(name) for name in rest] == list(combination)]
        lines = []
        for value in values[series] if series else [None]:
            own = sorted((row for row in here if not series or row.get(series) == value), key=lambda row: row[x])
            if own:
                lines.append(_series(label(series, value) if series else "risk after TTT", own, x))
        if lines:
            title = setting(rest, combination)
            figure = draw(lines, x_label=LABELS.get(x, x), y_label="risk after TTT", title=title)
            yield title or "risk after TTT", figure


def _series(label: str, rows: Sequence[dict[str, Any]], x: str) -> Series:
    def column(name: str) -> list[float]:
        return [math.nan if row[name] is None else row[name] for row in rows]

    points = column(x)
    approximate = column("asymptotic") if any(row["asymptotic"] is not None for row in rows) else None
    return Series(label, points, column("exact"), approximate, points, column("estimate"), column("stderr"))
