"""Sweeps: every cell of a specification by Monte Carlo and by theory, kept in a store, resumable after any stop.

Process 0 alone opens the store. What it keeps of unfinished cells are the tallies after some blocks, so that a run
resumed from there ends with exactly the numbers of an undisturbed one. A finished store is written anew, in the order
of the cells: its bytes are those of any other run of the same cells on devices of one kind.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax

from ttt_jax import __version__
from ttt_jax._internal.command import refuse_overwriting
from ttt_jax._internal.processes import is_leader, share
from ttt_jax._internal.progress import Progress
from ttt_jax.procedures import has_free_lr, with_lr
from ttt_jax.simulation.accumulate import Tally
from ttt_jax.simulation.estimate import Run
from ttt_jax.simulation.worklist import BlockTooLarge, Work, tallies
from ttt_jax.sweep.spec import Cell, Spec, import_plugins, load_spec, make_spec
from ttt_jax.sweep.store import Store, StoreError
from ttt_jax.theory.yardsticks import least_squares_risk, ridge_risk
from ttt_jax.verdict.agreement import finite_or_none
from ttt_jax.verdict.comparison import Comparison, exact_variance, resolved, tasks_for, theory

SECONDS_PER_SAVE = 1.0
MOST_RIDGE_FEATURES = 200
"""Beyond them the exact ridge takes more than a tenth of a second, and a sweep leaves it out."""
RESULTS, CONVERGENCE, PARQUET = "results.csv", "convergence.csv", "results.parquet"
SECONDS = "seconds.csv"
"""What each cell took: apart from the results, which are the same for every run."""
FILES = (Store.FILE, Store.LOCK, RESULTS, CONVERGENCE, PARQUET, SECONDS)
NO_ESTIMATE: dict[str, Any] = {
    **dict.fromkeys(("estimate", "stderr")),
    "stderr_exact": False,
    "stderr_reliable": False,
    "z": None,
    "num_tasks": 0,
    "num_nonfinite": 0,
    **dict.fromkeys(("skewness", "kurtosis")),
}
"""The columns of `Comparison.row` for a cell that was not simulated."""


class Preempted(RuntimeError):
    """The run was asked to end; what it has is saved."""


class Ledger:
    """What is known of the cells, on its way to the store: in one transaction a second, and at the end whatever it is.

    Args:
        store: None in all processes but one.
        preempted: whether to save and end.
        rows: of the finished cells, by their index.
        begun: of those under way, {"tally", "block_size", "seconds"}.
    """

    def __init__(
        self, store: Store | None, preempted: Callable[[], bool], rows: dict[int, dict], begun: dict[int, dict]
    ):
        self.rows, self.begun = rows, begun
        self._store, self._preempted = store, preempted
        self._waiting: dict[str, Any] = {}
        self._saved = self._noted = time.perf_counter()

    def seconds(self) -> float:
        """Since the last call."""
        before, self._noted = self._noted, time.perf_counter()
        return self._noted - before

    def go_on(self, cell: Cell, run: Run, tally: Tally, seconds: float) -> None:
        """A cell has more of its tasks, and took so long for them."""
        seconds += self.begun[cell.index]["seconds"] if cell.index in self.begun else 0.0
        self.begun[cell.index] = {"tally": tally, "block_size": run.block_size, "seconds": seconds}

    def finish(self, cell: Cell, row: dict[str, Any], seconds: float) -> None:
        """A cell is done."""
        before = self.begun.pop(cell.index, {"seconds": 0.0})["seconds"]
        self.rows[cell.index] = row
        self._waiting |= {f"cell {cell.index}": row, f"seconds {cell.index}": round(before + seconds, 3)}

    def save(self) -> None:
        """Save, if it is time to.

        Raises:
            Preempted: it is time to end, all is saved.
        """
        ending = self._preempted()
        if ending or time.perf_counter() - self._saved > SECONDS_PER_SAVE:
            self._waiting["begun"] = {i: {**cell, "tally": cell["tally"].to_dict()} for i, cell in self.begun.items()}
            self._flush()
        if ending:
            raise Preempted("preempted")

    def _flush(self) -> None:
        if self._store and self._waiting:
            self._store.put(self._waiting)
        self._waiting, self._saved = {}, time.perf_counter()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_) -> None:
        self._flush()


def run_sweep(
    path: Path,
    directory: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    plugins: Sequence[str] = (),
    shard: tuple[int, int] | None = None,
    preempted: Callable[[], bool] = bool,
) -> list[dict[str, Any]]:
    """Compute every cell of the specification that the directory does not hold yet.

    Args:
        path: the TOML file.
        directory: where the store and the results are kept; results.csv has one row per cell, convergence.csv the
            estimates at log-spaced numbers of tasks.
        resume: continue a sweep of the same specification; without it, a directory that holds one is refused.
        progress: show a progress bar on a terminal, or a line now and then elsewhere.
        plugins: modules to import first, which add entries to `SHIFTS` or `PROCEDURES`.
        shard: (i, N) for the cells i, i + N, i + 2 N, ... alone, to be merged with the other shards.
        preempted: asked after every call whether to save and end.

    Returns:
        The rows of results.csv, in the order of the cells.

    Raises:
        ValueError: the specification, the directory or the store cannot be used, in one line.
        MemoryError: a cell is too large, naming it; what is finished is kept.
        Preempted: `preempted` said so.
    """
    import_plugins(plugins)
    header = {"plugins": list(plugins)} | ({"shard": list(shard)} if shard else {})
    with _opened(path, directory, resume, header) as (store, start):
        spec = make_spec(start["spec"])
        cells = spec.cells_of(shard)
        rows = {int(index): row for index, row in start["rows"].items()}
        begun = {int(i): {**cell, "tally": Tally.from_dict(cell["tally"])} for i, cell in start["begun"].items()}
        show = progress and is_leader()
        with (
            Progress("sweep, cells", len(cells), done=len(rows), enabled=show, log=True) as bar,
            Ledger(store, preempted, rows, begun) as ledger,
        ):
            _compute(spec, [cell for cell in cells if cell.index not in rows], ledger, bar)
        ordered = [rows[cell.index] for cell in cells]
        if store:
            seconds = {int(name.split()[1]): value for name, value in store.records() if name.startswith("seconds ")}
            finish(store, {"spec": start["spec"], **header}, ordered, seconds)
    return ordered


def finish(store: Store, header: dict[str, Any], rows: Sequence[dict[str, Any]], seconds: dict[int, float]) -> None:
    """Write the results, and the store anew in the order of the cells, each of which took some seconds."""
    directory = store.path.parent
    write_results(rows, directory)
    if seconds:  # a finished sweep that is resumed has none
        lines = (f"{cell},{seconds[cell]}\n" for cell in sorted(seconds))
        (directory / SECONDS).write_text("".join(["cell,seconds\n", *lines]), encoding="utf-8")
    store.rewrite(header | {f"cell {row['cell']}": row for row in rows})


@contextmanager
def _opened(path: Path, directory: Path, resume: bool, header: dict[str, Any]) -> Iterator[tuple[Store | None, dict]]:
    """The store, None but in process 0, and what is known at the start, the same in every process."""
    with ExitStack() as stack:
        store, start = None, {}
        if is_leader():
            try:
                refuse_overwriting([path], [directory / name for name in FILES])
                spec, data = load_spec(path)
                spec.cells_of(header.get("shard"))
                _require_no_foreign_results(directory)
                store = stack.enter_context(Store(directory))
                start = _start(store, {"spec": data, **header}, path, directory, resume)
            except (ValueError, OSError) as error:
                start = {"error": str(error)}
        start = share(start)
        if "error" in start:
            raise ValueError(start["error"])
        yield store, start


def _require_no_foreign_results(directory: Path) -> None:
    if not (directory / Store.FILE).exists():
        for name in (RESULTS, CONVERGENCE, PARQUET, SECONDS):
            if (directory / name).exists():
                raise StoreError(f"{directory}: has a {name} but no sweep ({Store.FILE}); choose another --out")


def _start(store: Store, header: dict[str, Any], path: Path, directory: Path, resume: bool) -> dict:
    """The specification and what is done of it."""
    records = dict(store.records())
    if not records and (directory / RESULTS).exists():
        raise StoreError(f"{store.path}: empty, although there is a {RESULTS}; restore a copy, or choose a new --out")
    if not records:
        store.put(header)
        return {"spec": header["spec"], "rows": {}, "begun": {}}
    if "spec" not in records:
        raise StoreError(f"{store.path}: holds no sweep; choose another --out")
    if changes := differences(records, header):
        raise StoreError(
            f"{path}: differs from the sweep in {directory}: {changes}; undo that, or choose another --out"
        )
    if not resume:
        raise StoreError(f"{directory}: already holds this sweep; add --resume to continue it, or choose another --out")
    rows = {name.removeprefix("cell "): row for name, row in records.items() if name.startswith("cell ")}
    return {"spec": header["spec"], "rows": rows, "begun": records.get("begun", {})}


def differences(before: dict[str, Any], after: dict[str, Any], *, shards: bool = True) -> str:
    """How the headers of two stores differ, empty if they do not."""

    def flat(header: dict[str, Any]) -> dict[str, Any]:
        shard = "/".join(map(str, header.get("shard", ()))) if shards else None
        return {**header["spec"], "--plugin": header.get("plugins") or None, "--shard": shard or None}

    return "; ".join(_differences("", flat(before), flat(after)))


def _differences(key: str, before: Any, after: Any) -> Iterable[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from _differences(f"{key}.{name}".lstrip("."), before.get(name), after.get(name))
    elif before != after:
        was, now = ("missing" if value is None else value for value in (before, after))
        yield f"{key} was {was}, is {now}"


def _compute(spec: Spec, cells: Sequence[Cell], ledger: Ledger, bar: Progress) -> None:
    """The rows of the cells, some of which are begun: all their blocks are one list of work."""
    asked: dict[Work, tuple[Cell, Comparison, dict[str, Any]]] = {}

    def works() -> Iterator[tuple[Run, Tally]]:
        for cell in cells:
            begun = ledger.begun.get(cell.index)
            try:
                comparison, run = _prepared(spec, cell, begun["block_size"] if begun else None)
            except MemoryError as error:
                raise _too_large(cell, error) from None
            if run:
                asked[run] = cell, comparison, _yardsticks(cell)
                yield run, begun["tally"] if begun else Tally()
            else:
                ledger.finish(cell, _row(spec, cell, comparison, _yardsticks(cell)), ledger.seconds())
                bar.advance()
            ledger.save()

    try:
        for found in tallies(works()):
            each = ledger.seconds() / len(found)
            for run, tally in found.items():
                cell, comparison, yardsticks = asked[run]
                if run.is_done(tally):
                    (estimate,) = run.estimates(tally)
                    row = _row(spec, cell, replace(comparison, estimate=estimate), yardsticks)
                    ledger.finish(cell, row, each)
                    bar.advance()
                    del asked[run]
                else:
                    ledger.go_on(cell, run, tally, each)
                    _, mean, stderr = tally.point()
                    bar.advance(0, f"relative error {stderr / abs(mean or 1.0):.1e}")
            ledger.save()
    except BlockTooLarge as error:
        raise _too_large(asked[error.work][0], error) from None


def _too_large(cell: Cell, error: MemoryError) -> MemoryError:
    return MemoryError(f"cell {cell.index}, d = {cell.d}: {error}")


def _prepared(spec: Spec, cell: Cell, block_size: int | None) -> tuple[Comparison, Run | None]:
    """The theory of a cell and how it is simulated, None where it is not; if it has no values, its reason says why."""
    try:
        problem, weights = cell.problem()
        procedure = cell.what()
        exact, asymptotic, reason = theory(problem, weights, procedure, cell.seed)
        if cell.lr == "asymptotic" and asymptotic is None:
            raise ValueError(f"lr 'asymptotic' does not apply: {reason}")
        procedure = resolved(procedure, None if cell.lr == "asymptotic" else exact, asymptotic, reason)
        if hasattr(procedure, "lr"):
            procedure = with_lr(procedure, share(procedure.lr))
        if not spec.num_tasks:
            return Comparison(procedure, exact, asymptotic, reason, None), None
        variance, target = exact_variance(problem, weights, procedure), spec.target_relative_stderr
        if target is not None and variance is not None and exact is not None:
            most = int(share(tasks_for(target, exact.after(procedure), variance, spec.num_tasks)))
            spec = replace(spec, num_tasks=most, target_relative_stderr=None)
        run = spec.run(cell, problem, weights, procedure, block_size)
        return Comparison(procedure, exact, asymptotic, reason, None, variance), run
    except ValueError as error:
        return Comparison(cell.what(), None, None, str(error), None), None


def _row(spec: Spec, cell: Cell, comparison: Comparison, yardsticks: dict[str, Any]) -> dict[str, Any]:
    """One line of results.csv, with the same columns for every cell; what does not exist is null, `note` says why."""
    row, estimate = comparison.row() | yardsticks, comparison.estimate
    note = row.pop("note")
    if estimate is None:
        row |= NO_ESTIMATE | {"sampler": cell.sampler, "seed": cell.seed, "block_size": spec.block_size}
    if has_free_lr(comparison.procedure):
        row["lr"] = None
    evaluation = cell.evaluation if isinstance(cell.evaluation, str) else json.dumps(cell.evaluation)
    name = cell.procedure["name"]
    return {
        "cell": cell.index,
        "d": cell.d,
        "n": cell.n,
        "k": cell.k,
        "n_over_d": cell.n / cell.d,
        "k_over_d": cell.k / cell.d,
        "noise_var": cell.noise_var,
        "shift": cell.shift,
        **{f"shift_{name}": value for name, value in cell.shift_parameters.items()},
        "init": cell.init if isinstance(cell.init, str) else json.dumps(cell.init),
        "evaluation": evaluation,
        "procedure": json.dumps(cell.procedure) if len(cell.procedure) > 1 else name,
        "lr_rule": cell.lr if isinstance(cell.lr, str) and hasattr(comparison.procedure, "lr") else "given",
        **row,
        "x64": spec.x64,
        "note": note,
        "history": [
            [count, finite_or_none(mean), finite_or_none(stderr)]
            for count, mean, stderr in (estimate.history if estimate else ())
        ],
        "versions": _versions(),
        "device": jax.devices()[0].device_kind,
    }


@cache
def _versions() -> str:
    return f"ttt_jax {__version__}, jax {jax.__version__}"


def _yardsticks(cell: Cell) -> dict[str, float | None]:
    """The exact risks of least squares and ridge on the labelled pairs of a cell, None where they have no formula."""
    found: dict[str, float | None] = {"least_squares": None, "ridge": None}
    with suppress(ValueError):  # NotApplicable, and what the note of the cell says
        problem, _ = cell.problem()
        found["least_squares"] = finite_or_none(least_squares_risk(problem))
        found["ridge"] = finite_or_none(ridge_risk(problem)) if cell.d <= MOST_RIDGE_FEATURES else None
    return found


def write_results(rows: Sequence[dict[str, Any]], directory: Path) -> None:
    """Write results.csv, a row per cell, and convergence.csv, a row per cell and mark; each whole or not at all.

    Values that do not exist are empty.
    """
    results = [{name: value for name, value in row.items() if name != "history"} for row in rows]
    history = [
        {"cell": row["cell"], "num_tasks": count, "mean": mean, "stderr": stderr}
        for row in rows
        for count, mean, stderr in row["history"]
    ]
    for name, table in ((RESULTS, results), (CONVERGENCE, history)):
        columns = _columns(table) or ["cell", "num_tasks", "mean", "stderr"]
        scratch = directory / f".{name}.part"
        with scratch.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
        scratch.replace(directory / name)


def write_parquet(rows: Sequence[dict[str, Any]], directory: Path) -> None:
    """Write results.parquet, the columns of results.csv with their types; needs the extra `ttt_jax[parquet]`."""
    from pyarrow import Table, parquet

    columns = [name for name in _columns(rows) if name != "history"]
    table = Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    scratch = directory / ".results.parquet.part"
    parquet.write_table(table, scratch)
    scratch.replace(directory / PARQUET)


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The names of all rows in the order of the first, with every parameter of a shift behind its name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    parameters = [name for name in names if name.startswith("shift_")]
    return [
        column
        for name in names
        if name not in parameters
        for column in ([name, *parameters] if name == "shift" else [name])
    ]


def read_sweep(directory: Path) -> tuple[Spec, list[dict[str, Any]]]:
    """The specification of a sweep and the rows of the cells that are finished, also while it runs.

    Raises:
        ValueError: there is no sweep in the directory, or its store is damaged.
    """
    with Store(directory, writable=False) as store:
        records = dict(store.records())
    if "spec" not in records:
        raise StoreError(f"{directory}: no cell is finished yet")
    rows = [row for name, row in records.items() if name.startswith("cell ")]
    return make_spec(records["spec"], try_cells=False), sorted(rows, key=lambda row: row["cell"])
