"""What experiments have in common: cells that are simulated and compared with the exact risk, and files."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ttt_jax import Problem, Trajectory, agreement_table, compare, family_verdict
from ttt_jax._internal.progress import progress_bar
from ttt_jax.simulation.driver import MAX_UNSEEN_VARIANCE
from ttt_jax.simulation.reliability import unseen_variance


@dataclass(frozen=True, eq=False)
class Cell:
    """One Monte Carlo marker.

    Args:
        series: the curve that it belongs to.
        x: its position on the axis.
        problem: the test-time problem; risks are reported in units of |b|^2.
        weights: W before the step.
        lr: step size.
        approximate: what an approximation says of the risk, in these units; None where there is none.
        evaluation: "fresh" or "same" context at evaluation.
        drawn: the value that is read off the paper's figure, where it is known.
    """

    series: str
    x: float
    problem: Problem
    weights: Any
    lr: float
    approximate: float | None = None
    evaluation: str = "fresh"
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
    def judged(self) -> list[float]:
        """The z-scores whose standard errors can be trusted."""
        return [row["z"] for row in self.rows if row["stderr_reliable"]]

    @property
    def agrees(self) -> bool:
        """Whether simulation and theory agree, over all cells together; true where there is no theory."""
        return not self.has_theory or (bool(self.judged) and family_verdict(self.judged)[0])

    @property
    def verdict(self) -> str:
        """Agreement in one line."""
        if not self.has_theory:
            return "no verdict: there is no theory for this experiment"
        return agreement_table([{"z": z} for z in self.judged] or [{"z": ""}], self.judged).rsplit("\n", 1)[-1]

    def table(self) -> str:
        """The agreement table with its family-wise verdict."""
        shown = ("series", "x", "d", "n", "k", "exact", "approximate", "drawn", "estimate", "stderr", "z")
        filled = [name for name in shown if any(row[name] is not None for row in self.rows)]
        rows = [
            {name: "" if row[name] is None else row[name] for name in filled}
            | {"judged": "yes" if row["stderr_reliable"] else "no"}
            for row in self.rows
        ]
        doubtful = sum(row["z"] is not None and not row["stderr_reliable"] for row in self.rows)
        table = agreement_table(rows, self.judged, doubtful)
        if not self.has_theory:
            table = table.rsplit("\n", 1)[0] + "\n" + self.verdict
        return "\n".join([table, *self.notes])

    def save(self, directory: Path) -> list[Path]:
        """Write NAME.csv, NAME.png and NAME.svg; each appears whole or not at all."""
        with tempfile.TemporaryDirectory(dir=directory, prefix=f".{self.name}-") as scratch:
            files = [Path(scratch) / f"{self.name}.{suffix}" for suffix in ("csv", "png", "svg")]
            with files[0].open("w", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(self.rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
            for file in files[1:]:
                self.figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
            return [file.replace(directory / file.name) for file in files]


def run_cells(cells: Sequence[Cell], *, normals: float, seed: int, title: str) -> list[dict[str, Any]]:
    """Simulate every cell on the data path with about `normals` Gaussian numbers each, 1,000 to 20,000 tasks."""
    rows = []
    for i, cell in enumerate(progress_bar(cells, title)):
        p = cell.problem
        num_tasks = int(np.clip(normals / ((2 * p.n + p.k) * p.d), 1000, 20_000))
        c = compare(p, cell.weights, cell.lr, evaluation=cell.evaluation, num_tasks=num_tasks, seed=seed + i)
        assert c.estimate is not None
        assert c.exact is not None
        unit = float(p.task @ p.task)
        rows.append(
            {
                "series": cell.series,
                "x": cell.x,
                "d": p.d,
                "n": p.n,
                "k": p.k,
                "evaluation": cell.evaluation,
                "lr": cell.lr,
                "exact": c.exact.at(cell.lr) / unit,
                "exact_optimum": c.exact.optimal / unit,
                "approximate": cell.approximate,
                "drawn": cell.drawn,
                "estimate": c.estimate.mean / unit,
                "stderr": c.estimate.stderr / unit,
                "z": c.z,
                "stderr_reliable": c.estimate.stderr_reliable,
                "num_tasks": num_tasks,
                "seed": seed + i,
            }
        )
    return rows


def trajectory_rows(
    series: str,
    problem: Problem,
    weights: Any,
    step_sizes: np.ndarray,
    found: Trajectory,
    exact: np.ndarray | None,
    approximate: np.ndarray | None,
    *,
    seed: int,
    evaluation: str = "fresh",
    drawn: Mapping[int, float] | None = None,
) -> list[dict[str, Any]]:
    """The rows of a simulated trajectory, one for each step from 1 on, with theory or not.

    They are judged where the number of tasks is enough for the tails of the risk after the first step.
    """
    unit = float(problem.task @ problem.task)
    unseen = unseen_variance(problem, np.asarray(weights), step_sizes[0], evaluation, found.num_tasks)
    return [
        {
            "series": series,
            "x": i,
            "d": problem.d,
            "n": problem.n,
            "k": problem.k,
            "evaluation": evaluation,
            "lr": lr,
            "exact": None if exact is None else exact[i] / unit,
            "approximate": None if approximate is None else approximate[i] / unit,
            "drawn": (drawn or {}).get(i),
            "estimate": found.mean[i] / unit,
            "stderr": found.stderr[i] / unit,
            "z": None if exact is None else (found.mean[i] - exact[i]) / found.stderr[i],
            "stderr_reliable": unseen <= MAX_UNSEEN_VARIANCE,
            "num_tasks": found.num_tasks,
            "seed": seed,
        }
        for i, lr in enumerate(step_sizes, start=1)
    ]


def markers(rows: Sequence[dict[str, Any]], series: str) -> dict[str, Any]:
    """The Monte Carlo part of a `plotting.Series`."""
    own = [row for row in rows if row["series"] == series]
    return {
        "points": [row["x"] for row in own],
        "means": [row["estimate"] for row in own],
        "stderrs": [row["stderr"] for row in own],
    }
