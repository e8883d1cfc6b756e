"""The specification of a sweep: a TOML file that expands to cells, checked before anything is computed."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from ttt_jax._internal.validate import (
    choice,
    finite_number,
    integer_from,
    non_negative,
    positive_number,
    seed_integer,
)
from ttt_jax.problem import EVALUATIONS, Inference, Pretraining, Problem, SingleIndex
from ttt_jax.procedures import PROCEDURES, Procedure, has_free_lr, make_procedure
from ttt_jax.shifts import SHIFTS, make_shift
from ttt_jax.simulation.blocks import MAX_BLOCK_SIZE, MAX_ROWS
from ttt_jax.simulation.estimate import SAMPLERS, Run, make_run
from ttt_jax.simulation.samplers import summaries
from ttt_jax.sweep.starts import checked_init, start_of
from ttt_jax.theory.risk import exact, leading_order

LR_RULES = ("optimal", "asymptotic")
MAX_CELLS = 1_000_000
MAX_TASKS = 10**15
SWEEP_KEYS = ("seed", "num_tasks", "target_relative_stderr", "max_tasks", "sampler", "x64", "block_size")
GRID_KEYS = (
    "d", "n", "n_over_d", "k", "k_over_d", "noise_var", "lr", "init", "evaluation", "procedure", "sampler", "shift",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One combination of the grid."""

    index: int
    d: int
    n: int
    k: int
    noise_var: float
    shift: str
    shift_parameters: dict[str, Any] = field(hash=False)
    init: str | dict[str, Any] = field(hash=False)
    evaluation: str | dict[str, Any] = field(hash=False)
    procedure: dict[str, Any] = field(hash=False)
    lr: str | float
    sampler: str
    seed: int

    def laws(self) -> tuple[Pretraining, Problem]:
        """The law of pretraining and the test problem."""
        pretraining, problem = make_shift(
            self.shift, n=self.n, k=self.k, d=self.d, noise_var=self.noise_var, **self.shift_parameters
        )
        evaluation = Inference(**self.evaluation) if isinstance(self.evaluation, dict) else self.evaluation
        return pretraining, replace(problem, evaluation=evaluation)

    @lru_cache(1)  # noqa: B019 (of the last cell alone, whose theory, tasks and yardsticks ask for it)
    def problem(self) -> tuple[Problem, Any]:
        """The test problem and the start, W or (model, params)."""
        pretraining, problem = self.laws()
        return problem, start_of(self.init, {"name": self.shift, **self.shift_parameters}, pretraining)

    def what(self) -> Procedure:
        """What is done at test time; its step size may be free."""
        return procedure_of_table("grid.procedure", self.procedure, self.lr)


@dataclass(frozen=True)
class Spec:
    """A sweep: its cells, how long each is simulated, and the axes that vary.

    Args:
        seed: every cell's seed is derived from it and from the cell's place in the grid.
        num_tasks: tasks per cell; the most, if there is a target; 0 for theory alone.
        target_relative_stderr: when a cell may stop, see `estimate_risk`; None for never.
        x64: simulate in float64.
        block_size: tasks per block, None for the default of the cell's size.
        axes: name of every axis of the grid with more than one value, and its values, in the order of the file.
        cells: in the order of the grid, the last axis fastest.
    """

    seed: int
    num_tasks: int
    target_relative_stderr: float | None
    x64: bool
    block_size: int | None
    axes: dict[str, list]
    cells: tuple[Cell, ...]

    def cells_of(self, shard: Sequence[int] | None) -> tuple[Cell, ...]:
        """The cells i, i + N, i + 2 N, ... of the shard (i, N), which last about equally long; all of them for None."""
        if shard is None:
            return self.cells
        if shard[1] > len(self.cells):
            raise ValueError(f"--shard must be of at most {len(self.cells)}, one per cell, got {shard[0]}/{shard[1]}")
        return self.cells[shard[0] :: shard[1]]

    def run(self, cell: Cell, problem: Problem, start: Any, procedure: Procedure, block_size: int | None) -> Run:
        """How a cell is simulated."""
        return make_run(
            problem,
            start,
            (procedure,),
            num_tasks=self.num_tasks,
            seed=cell.seed,
            sampler=cell.sampler,
            x64=self.x64,
            block_size=block_size or self.block_size,
            target_relative_stderr=self.target_relative_stderr,
        )


def load_spec(path: Path) -> tuple[Spec, dict]:
    """Read a specification; also returned as plain data, to be kept and compared.

    Raises:
        ValueError: naming the file, the key and what would be right.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: not a specification: nested too deeply") from None
    try:
        return make_spec(data), data
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def import_plugins(modules: Sequence[str]) -> None:
    """Import modules that add entries to `SHIFTS` or `PROCEDURES`, from the working directory too, as `python -m` does.

    Raises:
        ValueError: a module cannot be imported.
    """
    sys.path.insert(0, os.getcwd())
    try:
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # whatever a module of the user's raises
                raise ValueError(f"--plugin: {name} cannot be imported ({type(error).__name__}: {error})") from None
    finally:
        sys.path.remove(os.getcwd())


def make_spec(data: dict, *, try_cells: bool = True) -> Spec:
    """The specification that a parsed TOML file holds.

    Args:
        data: the tables of the file.
        try_cells: make the problems and procedures, to find what they refuse; False for what is computed already.

    Example:
        >>> spec = make_spec({"sweep": {"num_tasks": 100}, "grid": {"d": [10, 20], "n_over_d": 0.5, "k": [5, 8]}})
        >>> [(cell.d, cell.n, cell.k) for cell in spec.cells], spec.axes
        ([(10, 5, 5), (10, 5, 8), (20, 10, 5), (20, 10, 8)], {'d': [10, 20], 'k': [5, 8]})
        >>> make_spec({"sweep": {"num_tasks": 100}, "grid": {"d": 10, "n": 0, "k": 5}})
        Traceback (most recent call last):
        ValueError: grid.n must be an integer >= 1, got 0
    """
    for section in data:
        _in("", section, ("sweep", "grid"))
    sweep, grid = (_table(section, data.get(section, {})) for section in ("sweep", "grid"))
    for key in sweep:
        _in("sweep.", key, SWEEP_KEYS)
    for key in grid:
        _in("grid.", key, GRID_KEYS)
    target = sweep.get("target_relative_stderr")
    length = "num_tasks" if target is None else "max_tasks"
    other = "max_tasks" if target is None else "num_tasks"
    if other in sweep or length not in sweep:
        raise ValueError("sweep needs either num_tasks, or target_relative_stderr together with max_tasks")
    if "sampler" in sweep and "sampler" in grid:
        raise ValueError("sampler must be in [sweep] or in [grid], not in both")
    x64 = sweep.get("x64", False)
    if not isinstance(x64, bool):
        raise ValueError(f"sweep.x64 must be true or false, got {x64!r}")
    seed = seed_integer(sweep.get("seed", 0))
    num_tasks = _size(f"sweep.{length}", sweep[length], MAX_TASKS, smallest=0 if target is None else 1)
    block_size = _size("sweep.block_size", sweep["block_size"], MAX_BLOCK_SIZE) if "block_size" in sweep else None
    if target is not None and not 0 < finite_number("sweep.target_relative_stderr", target) < 1:
        raise ValueError(f"sweep.target_relative_stderr must be between 0 and 1, got {target}")
    axes = _axes({"sampler": sweep.get("sampler", "law"), **grid})
    cells = tuple(_cells(axes, seed, try_cells))
    varying = {name: values for name, values in axes.items() if len(values) > 1}
    return Spec(seed, num_tasks, target, x64, block_size, varying, cells)


def _axes(grid: dict) -> dict[str, list]:
    """The values along every axis, checked one by one."""
    for size in ("n", "k"):
        if (size in grid) == (f"{size}_over_d" in grid):
            got = "both" if size in grid else "neither"
            raise ValueError(f"grid.{size} must be given either as {size} or as {size}_over_d, got {got}")
    if "d" not in grid:
        raise ValueError("grid.d is missing: the number of features, or a list of them")
    checks: dict[str, Callable] = {
        **dict.fromkeys(("d", "n", "k"), _size),
        **dict.fromkeys(("n_over_d", "k_over_d"), positive_number),
        "noise_var": non_negative,
        "lr": _lr,
        "init": checked_init,
        "evaluation": _evaluation,
        "procedure": _procedure,
        "sampler": partial(choice, choices=SAMPLERS),
    }
    axes = {}
    for name, given in grid.items():
        values = _shifts(given) if name == "shift" else [checks[name](f"grid.{name}", value) for value in _list(given)]
        if not values:
            raise ValueError(f"grid.{name} must not be an empty list")
        if len({json.dumps(value, default=str) for value in values}) < len(values):
            raise ValueError(f"grid.{name} must not contain a value twice")
        axes[name] = values
    number = np.prod([float(len(values)) for values in axes.values()])
    if number > MAX_CELLS:
        raise ValueError(f"grid must have at most {MAX_CELLS} cells, got {number:.3g}")
    return axes


def _shifts(given: Any) -> list[dict]:
    """The shifts of [grid.shift] or [[grid.shift]], or of a name or names, each as {"name": ..., parameters}."""
    shifts = []
    for table in _list(given):
        table = {"name": table} if isinstance(table, str) else _table("grid.shift", table)
        if "name" not in table:
            raise ValueError(f"grid.shift.name is missing: one of {', '.join(SHIFTS)}")
        for parameter in table.keys() & {"n", "k", "d", "noise_var"}:
            raise ValueError(f"grid.shift.{parameter} is not a parameter of a shift; set grid.{parameter} instead")
        values = {key: _list(value) for key, value in table.items()}
        for key, value in ((key, value) for key, given in values.items() for value in given):
            if not isinstance(value, str if key == "name" else str | float | int):
                raise ValueError(f"grid.shift.{key} must be {'a name' if key == 'name' else 'a number'}, got {value!r}")
        combinations = itertools.product(*values.values())
        shifts += [dict(zip(table, combination, strict=True)) for combination in combinations]
    return shifts


def _cells(axes: dict[str, list], seed: int, try_cells: bool) -> Iterator[Cell]:
    """The product of the axes; a cell of every kind is tried."""
    tried = set()
    for index, values in enumerate(itertools.product(*axes.values())):
        at = dict(zip(axes, values, strict=True))
        d = at["d"]
        n, k = (at[size] if size in at else _rows(f"{size}_over_d", at) for size in ("n", "k"))
        parameters = dict(at.get("shift", {"name": "none"}))
        cell = Cell(
            index=index,
            d=d,
            n=n,
            k=k,
            noise_var=at.get("noise_var", 0.0),
            shift=parameters.pop("name"),
            shift_parameters=parameters,
            init=at.get("init", "pretrained"),
            evaluation=at.get("evaluation", "fresh"),
            procedure=at.get("procedure", {"name": "step"}),
            lr=at.get("lr", "optimal"),
            sampler=at["sampler"],
            seed=int(np.random.SeedSequence([seed, index]).generate_state(1)[0]),
        )
        sizes = (d,) if cell.procedure["name"] == "step" else (d, n, k)  # a problem of every n and k takes long
        rule = cell.lr if isinstance(cell.lr, str) else "given"
        laws = cell.init, cell.shift, parameters, cell.evaluation, cell.procedure, cell.sampler, rule
        kind = json.dumps([*laws, *sizes], default=str)
        if try_cells and kind not in tried:
            tried.add(kind)
            _try(cell)
        yield cell


def _try(cell: Cell) -> None:
    """Make the problem and the procedure of a cell; ValueError naming the key of the grid that is refused."""
    try:
        _, problem = cell.laws()
        linear = not isinstance(problem.task, SingleIndex)
        if isinstance(cell.init, dict) and cell.sampler == "law":
            raise ValueError(f"grid.sampler must be 'data' for the model {cell.init['model']!r}, got 'law'")
        if not (linear and problem.feature_law == "gaussian") and cell.sampler == "law":
            raise ValueError(f"sampler must be 'data' for {cell.shift!r}, got 'law'")
    except MemoryError:
        raise ValueError(f"grid.d is too large for the memory, got {cell.d}") from None
    except (ValueError, TypeError) as error:
        key = {"evaluation": "grid.", "grid": ""}.get(str(error).partition(".")[0], "grid.shift: ")
        raise ValueError(f"{key}{error}") from None
    procedure = cell.what()
    try:
        procedure.check(problem)
    except ValueError as error:
        raise ValueError(f"grid.procedure: {error}") from None
    linear = linear and not isinstance(cell.init, dict)
    exactly = linear and cell.lr == "optimal" and problem.feature_law == "gaussian" and _knows(exact, procedure)
    if has_free_lr(procedure) and not exactly and not (linear and _knows(leading_order, procedure)):
        what = f"the model {cell.init['model']!r}" if isinstance(cell.init, dict) else repr(cell.procedure["name"])
        known = f"formula gives the {cell.lr} one of {what}"
        raise ValueError(f"grid.lr must be a number where no {known}, got {cell.lr!r}")
    if cell.sampler == "law" and not _knows(summaries, procedure):
        raise ValueError(f"grid.sampler must be 'data' for the procedure {cell.procedure['name']!r}, got 'law'")


def _knows(registry: Any, procedure: Procedure) -> bool:
    """Whether a function is registered for the type of the procedure."""
    return registry.dispatch(type(procedure)) is not registry.dispatch(Procedure)


def _rows(ratio: str, at: dict) -> int:
    rows = round(min(at[ratio] * at["d"], 2.0 * MAX_ROWS))
    if not 1 <= rows <= MAX_ROWS:
        bound = "at least one row" if rows < 1 else f"at most {MAX_ROWS} rows"
        raise ValueError(f"grid.{ratio} must give {bound}, got {at[ratio]} at d = {at['d']}")
    return rows


def _size(key: str, value: Any, largest: int = MAX_ROWS, smallest: int = 1) -> int:
    if integer_from(smallest, key, value) > largest:
        raise ValueError(f"{key} must be at most {largest}, got {value}")
    return value


def _list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _table(key: str, value: Any) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be a table, got {value!r}")
    return value


def _in(prefix: str, key: str, known: tuple[str, ...]) -> None:
    if key not in known:
        raise ValueError(f"{prefix}{key} is not a key; the keys are {', '.join(known)}")


def inference_table(key: str, table: dict) -> Inference:
    """The law at inference with these fields; ValueError naming the key, and the field."""
    for name in table:
        _in(f"{key}.", name, tuple(field.name for field in fields(Inference)))
    try:
        return Inference(**table)
    except ValueError as error:
        raise ValueError(f"{key}.{error}") from None


def procedure_of_table(key: str, table: dict, lr: str | float) -> Procedure:
    """The procedure with these parameters and this step size or rule; ValueError naming the key."""
    name: Any = table.get("name")
    has_lr = "lr" in signature(PROCEDURES[choice(f"{key}.name", name, tuple(PROCEDURES))]).parameters
    if lr != "optimal" and not has_lr:
        raise ValueError(f"{key}: {name!r} takes no lr, got {lr!r}")
    given: dict[str, Any] = {"lr": "optimal" if lr == "asymptotic" else lr} if has_lr else {}
    try:
        return make_procedure(**table, **given)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _evaluation(key: str, value: Any) -> str | dict:
    if not isinstance(value, dict):
        return choice(key, value, EVALUATIONS)
    inference_table(key, value)
    return value


def _procedure(key: str, value: Any) -> dict:
    table = {"name": value} if isinstance(value, str) else _table(key, value)
    if "lr" in table:
        raise ValueError(f"{key} must not give the lr; use grid.lr")
    return {"name": table.get("name"), **table}


def _lr(key: str, value: Any) -> str | float:
    return choice(key, value, LR_RULES) if isinstance(value, str) else finite_number(key, value)
