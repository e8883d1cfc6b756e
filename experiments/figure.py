"""What experiments have in common: cells that are simulated and compared with the exact risk, and files."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

import ttt_jax
from ttt_jax import Comparison, GradientSteps, Problem, RiskCurve, Verdict, agreement_table, compare, judge
from ttt_jax._internal.progress import progress_bar
from ttt_jax.theory.yardsticks import least_squares_risk

KEEP_AFTER_SECONDS = 60.0
LEAST_TASKS, LAW_TASKS = 1000, 100_000


@dataclass(frozen=True, eq=False)
class Point:
    """One Monte Carlo marker.

    Args:
        series: the curve that it belongs to.
        x: its position on the axis.
        problem: the test-time problem; risks are reported in units of |b|^2.
        weights: W before the step.
        lr: step size.
        approximate: what an approximation says of the risk, in these units; None where there is none.
        drawn: the paper's own marker there, where it has one.
    """

    series: str
    x: float
    problem: Problem
    weights: Any
    lr: float
    approximate: float | None = None
    drawn: float | None = None


@dataclass(frozen=True)
class Result:
    """A finished experiment: rows of numbers, a figure, and what there is to say about it."""

    name: str
    rows: list[dict[str, Any]]
    figure: Any
    notes: list[str] = field(default_factory=list)
    has_theory: bool = True

    @property
    def verdict(self) -> Verdict | None:
        """Agreement of simulation and theory, over all cells together; None where there is no theory."""
        return judge(self.rows) if self.has_theory else None

    @property
    def agrees(self) -> bool:
        """True where there is no theory; False where there is, and nothing could be judged."""
        return self.verdict is None or self.verdict.agrees is True

    def summary(self) -> str:
        """Agreement in one line."""
        return "no verdict: there is no theory for this experiment" if self.verdict is None else str(self.verdict)

    def table(self) -> str:
        """The agreement table with its family-wise verdict, and the notes."""
        shown = ("series", "x", "d", "n", "k", "exact", "approximate", "drawn", "estimate", "stderr", "z")
        filled = [name for name in shown if any(row[name] is not None for row in self.rows)]
        judged = {True: "yes", False: "no", None: "not assessed"}
        rows = [
            {name: "" if row[name] is None else row[name] for name in filled}
            | {"judged": judged[row["stderr_reliable"]]}
            for row in self.rows
        ]
        return "\n".join([agreement_table(rows, self.summary()), *self.notes])

    def save(self, directory: Path) -> list[Path]:
        """Write NAME.csv, NAME.png and NAME.pdf; each appears whole or not at all."""
        with tempfile.TemporaryDirectory(dir=directory, prefix=f".{self.name}-") as scratch:
            files = [Path(scratch) / f"{self.name}.{suffix}" for suffix in ("csv", "png", "pdf")]
            with files[0].open("w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(self.rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
            for file in files[1:]:
                self.figure.savefig(file, metadata={"CreationDate": None} if file.suffix == ".pdf" else None)
            return [file.replace(directory / file.name) for file in files]


def run_cells(
    cells: Sequence[Point], *, normals: float, seed: int, title: str, num_tasks: int = 20_000
) -> list[dict[str, Any]]:
    """Simulate every cell: sampled rows where 1,000 tasks take at most `normals` Gaussian numbers, else the law.

    On rows as many tasks as these numbers are for, at most num_tasks; from the law of the summaries 100,000.

    A run of more than a minute keeps its finished cells in .TITLE-*.json of the working directory. The same run resumes
    from them; with other cells, code or versions it starts anew.
    """
    file = Path(f".{title}-{_digest(cells, normals, seed, num_tasks)}.json")
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    started = time.monotonic()
    for i in progress_bar(range(len(rows), len(cells)), f"{title}, cells", log=True):
        cell, p = cells[i], cells[i].problem
        affordable = int(normals / ((2 * p.n + p.k) * p.d))
        on_rows = affordable >= LEAST_TASKS
        tasks, sampler = (min(affordable, num_tasks), "data") if on_rows else (LAW_TASKS, "law")
        c = compare(p, cell.weights, cell.lr, num_tasks=tasks, seed=seed + i, sampler=sampler)
        row = record(cell.series, cell.x, c, p, approximate=cell.approximate, drawn=cell.drawn)
        assert isinstance(c.exact, RiskCurve)
        rows.append(row | {"exact_optimum": c.exact.optimal / float(p.task @ p.task)})
        if time.monotonic() - started > KEEP_AFTER_SECONDS:
            scratch = file.with_suffix(".new")
            scratch.write_text(json.dumps(rows))
            scratch.replace(file)
    return rows


def _digest(cells: Sequence[Point], *settings: float) -> str:
    """A name for these cells as this code computes them."""
    digest = hashlib.sha256(repr((settings, jax.__version__)).encode())
    for source in (Path(__file__), *sorted(Path(str(ttt_jax.__file__)).parent.rglob("*.py"))):
        digest.update(source.read_bytes())
    for cell in cells:
        digest.update(
            repr((cell.series, cell.x, cell.lr, cell.approximate, cell.problem.inference, cell.drawn)).encode()
        )
        problem = cell.problem
        digest.update(repr((problem.n, problem.k, problem.noise_var)).encode())
        for array in (problem.task, problem.feature_cov, cell.weights):
            digest.update(np.asarray(array, np.float64).tobytes())
    return digest.hexdigest()[:12]


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a NAME.csv as they were before they were written."""
    with file.open(newline="") as stream:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(stream)]


def _value(text: str) -> Any:
    """What a cell of a CSV says: None, a boolean, a number or a text.

    Example:
        >>> [_value(text) for text in ("", "True", "3", "0.5", "k/d = 1")]
        [None, True, 3, 0.5, 'k/d = 1']
    """
    words = {"": None, "True": True, "False": False}
    if text in words:
        return words[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def path_rows(
    series: str,
    comparison: Comparison,
    problem: Problem,
    *,
    drawn: Mapping[int, float] | None = None,
) -> list[dict[str, Any]]:
    """The rows of several steps, one for each from 1 on."""
    rows = []
    assert isinstance(comparison.procedure, GradientSteps)
    for i, lr in enumerate(comparison.procedure.step_sizes, start=1):
        row = record(series, i, comparison, problem, step=i, drawn=(drawn or {}).get(i))
        rows.append(row | {"lr": lr, "approximate": row["asymptotic"]})
    return rows


def record(
    series: str,
    x: float,
    comparison: Comparison,
    problem: Problem,
    *,
    step: int = -1,
    approximate: float | None = None,
    drawn: float | None = None,
) -> dict[str, Any]:
    """`Comparison.row` in units of |b|^2, with the place of the point in the figure."""
    row = comparison.row(float(problem.task @ problem.task), step)
    place = {"series": series, "x": x, "d": problem.d, "n": problem.n, "k": problem.k}
    place["evaluation"] = problem.inference.context
    return place | {"drawn": drawn, "approximate": approximate} | row


LEAST_SQUARES = "least squares, n + k pairs"


def least_squares(
    x: Sequence[float], problems: Sequence[Problem], curves: Mapping[str, ArrayLike]
) -> tuple[dict[str, tuple[ArrayLike, ArrayLike]], str]:
    """The line of least squares on the n + k training pairs, and a note on where it is below the exact curves.

    With a new context TTT has seen n pairs more. The first x may be 0, where a problem has k = 1 and k is 0.
    """
    pairs = [p.n + (p.k if at else 0) for at, p in zip(x, problems, strict=True)]
    units = [float(p.task @ p.task) for p in problems]
    risks, on_all = (
        np.array([least_squares_risk(p, size) / unit for p, size, unit in zip(problems, sizes, units, strict=True)])
        for sizes in (pairs, [p.n + size for p, size in zip(problems, pairs, strict=True)])
    )
    above = {name: np.flatnonzero(risks >= np.asarray(curve)) for name, curve in curves.items()}
    parts = [f"not below {name} up to {x[rows[-1]]:.3g}" for name, rows in above.items() if len(rows)]
    where = "; ".join(parts) or "below every exact curve everywhere"
    note = f"{LEAST_SQUARES}, exact: {where}; on all 2 n + k pairs at most {on_all.max():.3g}"
    return {LEAST_SQUARES: (x, risks)}, note


LOOKS = {"warm": 0, "pretrained": 0, "cold": 1, "scratch": 1, "aligned": 2, "best": 2, "misaligned": 3, "worst": 3}
"""Starts have one colour and one marker in all figures: with the task in green, against it in purple."""
BLUES = 8, 7, 6, 0
"""Places of the colours of a family that starts from the pretrained weights, from light to dark."""


def look_of(series: str) -> int | None:
    """The place of a series among the colours, by the start that its name begins with.

    Example:
        >>> look_of("cold, same context"), look_of("misaligned"), look_of("K folds")
        (1, 3, None)
    """
    return LOOKS.get(series.split(",")[0])


def markers(rows: Sequence[dict[str, Any]], series: str) -> dict[str, Any]:
    """The Monte Carlo part of a `plotting.Series`."""
    own = [row for row in rows if row["series"] == series]
    return {
        "points": [row["x"] for row in own],
        "means": [row["estimate"] for row in own],
        "stderrs": [row["stderr"] for row in own],
    }
