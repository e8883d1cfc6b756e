"""Figure 3a: accuracy on real tables against the context length n, for the plain PFN and after test-time training.

`python -m experiments fig3a --preset quick|cpu|more-updates|paper --out DIR [--weights PATH]`; what the results say:
`python -m experiments.fig3a_report DIR/fig3a.csv`.

Of each table 1,000 rows are demonstrations. The plain PFN reads n of them. An update of test-time training is a step on
a batch of queries after a context of n other rows, both drawn anew; a fifth of the rows outside the prediction's
context is held out to choose the number of updates, 0 included. Both predict from the same n rows. At n = 1,000 no row
is left to train on, so both are equal by definition. The paper makes 50 updates for each of 1000 / n groups; `quick`
and `cpu` make as many as read 12,000 rows (fewer if a row has more than 20 columns), `more-updates` and `paper` all.
Contexts hold the classes in proportion.

Results are appended to DIR/fig3a.csv row by row, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.classical import classical
from experiments.fig3a_report import COLUMNS, draw, left_out, read_rows, report
from experiments.tables import DEMONSTRATIONS, NAMES, RealTable, load
from ttt_jax._internal.command import OneLineParser, emit, exit_status, refuse_overwriting
from ttt_jax._internal.progress import progress_bar

_USUAL_COLUMNS = 20
CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


@dataclass(frozen=True)
class Preset:
    """Which cells are computed, and at what effort.

    Attributes:
        tables, seeds, contexts: a cell for each combination.
        rows_read: by all updates of a cell, n + batch_size rows each, if a row has up to 20 columns; of wider tables
            fewer, so that time does not grow with the width.
        batch_size: queries per update.
        n_estimators: members of the ensemble.
    """

    tables: tuple[str, ...]
    seeds: tuple[int, ...]
    contexts: tuple[int, ...]
    rows_read: float
    batch_size: int
    n_estimators: int

    def updates(self, n: int, columns: int) -> int:
        """Of a cell, at most as many as the paper's.

        Example:
            >>> [QUICK.updates(n, columns=20) for n in (1, 64, 512, 1000)]
            [184, 93, 20, 0]
            >>> [QUICK.updates(n, columns=60) for n in (1, 64, 512, 1000)]
            [61, 31, 6, 0]
        """
        rows = self.rows_read * min(1, _USUAL_COLUMNS / columns)
        return int(min(rows / (n + self.batch_size), paper_updates(n)))


def paper_updates(n: int) -> int:
    """50 for each of the 1,000 / n groups; no row is left to train on at n = 1,000."""
    return 50 * (DEMONSTRATIONS // n) if n < DEMONSTRATIONS else 0


def rate_factor(n: int) -> int:
    """What the classifier's usual learning rate is multiplied by.

    A network whose context shows hardly any class has far to go. Chosen of 1/2, 1, 2 and 4 at n = 1 and 8 on five
    development tables (`python -m benchmarks.tabular_short_contexts`).

    Example:
        >>> [rate_factor(n) for n in (1, 2, 4, 64)]
        [4, 4, 2, 1]
    """
    return 4 if n <= 2 else 2 if n < 64 else 1


QUICK = Preset(
    tables=("banana", "magic", "penbased", "phoneme", "titanic"),
    seeds=(0,),
    contexts=(1, 4, 16, 64, 256, 1000),
    rows_read=12_000,
    batch_size=64,
    n_estimators=2,
)
PRESETS = {
    "quick": QUICK,
    "cpu": replace(QUICK, tables=tuple(name for name in NAMES if name not in left_out(set(NAMES))), contexts=CONTEXTS),
    "more-updates": replace(QUICK, contexts=(64, 128, 256), rows_read=math.inf),
    "paper": Preset(NAMES, (0, 1, 2), CONTEXTS, rows_read=math.inf, batch_size=256, n_estimators=4),
}


def run(preset: Preset, weights: str, file: Path) -> list[dict[str, Any]]:
    """Compute the cells that the file lacks, append them, and return the preset's rows."""
    rows = read_rows(file) if file.exists() else []
    done = {(row["table"], row["seed"], row["n"]) for row in rows}
    cells = [(t, s, n) for s in preset.seeds for t in preset.tables for n in preset.contexts]
    columns = {name: load(name, seed=0).X.shape[1] for name in {row["table"] for row in rows}}
    for row in rows:
        if row["method"] == "TTT" and row["cap"] != preset.updates(row["n"], columns[row["table"]]):
            raise ValueError(
                f"{file}: {row['cap']} updates at n = {row['n']} are another preset's; choose another --out"
            )
    for name, seed, n in progress_bar([cell for cell in cells if cell not in done], "fig3a", log=True):
        jax.clear_caches()  # compiled code of many shapes would exceed the number of memory maps of a process
        new = run_cell(load(name, seed), seed, n, preset, weights)
        with file.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerows(new)
        rows += new
    wanted = set(cells)
    return [row for row in rows if (row["table"], row["seed"], row["n"]) in wanted]


def run_cell(table: RealTable, seed: int, n: int, preset: Preset, weights: str) -> list[dict[str, Any]]:
    """Plain, tuned and classical accuracy at one context length; the classical methods are fitted to the n rows."""
    from ttt_jax.tabular import TTTClassifier
    from ttt_jax.tabular.classify.estimators import load_weights
    from ttt_jax.tabular.classify.ttt_classifier import usual_rate

    cap, pfn = preset.updates(n, table.X.shape[1]), load_weights(weights)
    shared: dict[str, Any] = {
        "n_context": n,
        "n_estimators": preset.n_estimators,
        "categorical_features": table.categorical or None,
        "random_state": seed,
    }
    plain = TTTClassifier(pfn, mode="none", **shared)
    methods: dict[str, Any] = {"plain": plain}
    if cap:
        rate = rate_factor(n) * usual_rate(pfn)
        methods["TTT"] = TTTClassifier(pfn, steps=cap, learning_rate=rate, batch_size=preset.batch_size, **shared)
    rows = []
    for method, model in methods.items():
        started = time.perf_counter()
        model.fit(table.X, table.y)
        accuracy = model.score(table.X_test, table.y_test)
        chosen = model.chosen_.step if method == "TTT" else 0
        rows.append(
            _row(table, seed, n, method, accuracy, time.perf_counter() - started, chosen, cap, paper_updates(n))
        )
    if not cap:
        rows.append({**rows[0], "method": "TTT"})
    return rows + fit_classical(plain, table, seed, n)


def fit_classical(plain: Any, table: RealTable, seed: int, n: int) -> list[dict[str, Any]]:
    """Classical methods on the context of the fitted plain PFN."""
    chosen = plain.ensemble_.members[0].rows
    context, labels = plain.ensemble_.X[chosen], plain.ensemble_.labels[chosen]
    models = classical(seed, len(plain.columns_), np.flatnonzero(np.isin(plain.columns_, table.categorical)).tolist())
    rows = []
    for method, model in models.items():
        started = time.perf_counter()
        if len(np.unique(labels)) == 1:
            predicted = np.repeat(labels[:1], len(table.y_test))
        else:
            predicted = model.fit(context, labels).predict(table.X_test[:, plain.columns_])
        accuracy = float((plain.classes_[predicted] == table.y_test).mean())
        rows.append(_row(table, seed, n, method, accuracy, time.perf_counter() - started, 0, 0, 0))
    return rows


def _row(table: RealTable, *values: Any) -> dict[str, Any]:
    return dict(zip(COLUMNS, (table.name, *values), strict=True))


def main(argv: list[str] | None = None) -> int:
    """Run, print the table, write fig3a.csv, fig3a.png and fig3a.svg; 2 with one line for bad input."""
    parser = OneLineParser(
        prog="python -m experiments fig3a",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="default: quick")
    parser.add_argument("--out", type=Path, default=Path("out/fig3a"), help="directory; a run in it is continued")
    parser.add_argument("--weights", default="default", metavar="PATH", help="TabPFN v2 checkpoint or file of PFN.save")
    parser.add_argument("--tables", nargs="+", metavar="NAME", help=f"in place of the preset's; of {', '.join(NAMES)}")
    arguments = parser.parse_args(argv)
    preset = PRESETS[arguments.preset]
    if arguments.tables:
        preset = replace(preset, tables=tuple(arguments.tables))

    def work() -> int:
        files = [arguments.out / f"fig3a.{suffix}" for suffix in ("csv", "png", "svg")]
        refuse_overwriting([Path(arguments.weights)], files)
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = run(preset, arguments.weights, files[0])
        figure = draw(rows)
        for file in files[1:]:
            figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
        emit(report(rows))
        return 0

    return exit_status(parser.prog, work)
