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
from ttt_jax.sweep.run import read_sweep
from ttt_jax.sweep.spec import Spec
from ttt_jax.verdict.agreement import judge

MAX_FIGURES = 24
SHOWN = ("cell", "lr", "initial", "exact", "asymptotic", "estimate", "stderr", "z", "num_tasks", "note")
LABELS = {
    "d": "d, features",
    "n": "n, context pairs",
    "k": "k, training queries",
    "n_over_d": "n / d",
    "k_over_d": "k / d",
    "noise_var": "variance of the label noise",
    "lr": "step size",
}


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
    parts = [f"<p>{escape(str(judge(rows)))}.</p>"]
    if len(rows) < len(spec.cells):
        parts.append(f"<p>Finished: {len(rows)} of {counted(len(spec.cells), 'cell')}.</p>")
    pages = list(_figures(spec, rows))
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
    columns = [*SHOWN[:1], *_columns(spec), *SHOWN[1:]]
    parts.append(html_table(("setting", "value"), settings.items()))
    parts.append(html_table(columns, ([_short(row.get(name)) for name in columns] for row in rows)))
    page = directory / "report.html"
    scratch = directory / ".report.html.part"
    scratch.write_text(html_page(printable(f"Sweep {directory.name}"), "\n".join(parts)), encoding="utf-8")
    return scratch.replace(page)


def _figures(spec: Spec, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """A figure per combination of the axes that are neither its horizontal axis nor its series."""
    columns = _columns(spec)
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
                lines.append(_series(_label(series, value) if series else "risk after TTT", own, x))
        if lines:
            given = ((name, value) for name, value in zip(rest, combination, strict=True) if value is not None)
            title = ", ".join(_label(name, value) for name, value in given)
            figure = draw(lines, x_label=LABELS.get(x, x), y_label="risk after TTT", title=title)
            yield title or "risk after TTT", figure


def _series(label: str, rows: Sequence[dict[str, Any]], x: str) -> Series:
    def column(name: str) -> list[float]:
        return [math.nan if row[name] is None else row[name] for row in rows]

    points = column(x)
    approximate = column("asymptotic") if any(row["asymptotic"] is not None for row in rows) else None
    return Series(label, points, column("exact"), approximate, points, column("estimate"), column("stderr"))


def _columns(spec: Spec) -> list[str]:
    """The columns of the rows that vary, in the order of the axes."""
    names = []
    for axis, values in spec.axes.items():
        if axis != "shift":
            names.append("lr_rule" if axis == "lr" and any(isinstance(value, str) for value in values) else axis)
            continue
        keys = dict.fromkeys(key for shift in values for key in shift)
        varying = [key for key in keys if len({repr(shift.get(key)) for shift in values}) > 1]
        names += ["shift" if key == "name" else f"shift_{key}" for key in varying]
    return names


def _label(name: str, value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{name.replace('_over_', ' / ')} = {_short(value)}"


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
