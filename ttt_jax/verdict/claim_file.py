"""Files of claims: Python modules with `Claim` objects, tried one row after the other, resumable."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import ttt_jax
from ttt_jax._internal.command import CommandError, make_directory, replace_file
from ttt_jax._internal.validate import shown
from ttt_jax.verdict.outcome import Check, CheckRow
from ttt_jax.verdict.stated import Claim
from ttt_jax.verdict.trial import Trial

__all__ = ["load_claims", "run_claims"]

MODULE = "claims_on_trial"
ROWS = "rows"
LONGEST_NAME = 200
"""Bytes of a name, which is that of files too."""


def load_claims(file: Path) -> dict[str, Claim]:
    """The claims of a Python file, by name.

    Raises:
        ValueError: the file cannot be run, or has no claims; in one line, with the place.
    """
    module = sys.modules[MODULE] = ModuleType(MODULE)
    module.__file__ = str(file)
    source = file.read_bytes()
    sys.path.insert(0, str(file.resolve().parent))
    try:
        exec(compile(source, str(file), "exec"), vars(module))
    except SyntaxError as error:
        raise CommandError(f"{error.filename or file}:{error.lineno or 1}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise CommandError(f"{_place(file, error)}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    claims = {name: value for name, value in vars(module).items() if isinstance(value, Claim)}
    if not claims:
        raise CommandError(f"{file}: must have claims, such as theorem_1 = ttt_jax.Claim(formula, problems), got none")
    for name in claims:
        if not (isinstance(name, str) and name.isidentifier()) or len(name.encode()) > LONGEST_NAME:
            raise CommandError(f"{file}: must have claims with names such as theorem_1, got {shown(name)}")
    return claims


def run_claims(
    file: Path,
    directory: Path,
    *,
    only: Iterable[str] = (),
    told: Callable[[str, Check], None] = lambda name, check: None,
    **changes: Any,
) -> dict[str, tuple[Claim, Check]]:
    """The claims of a file with their verdicts.

    Rows are kept in the directory as they come, and not computed again by an equal call: while the file, the modules
    beside it that it imports, the changes and the version of this package are the same.

    Args:
        file: the Python file.
        directory: where rows are kept.
        only: names of claims; all if empty.
        told: is called with every verdict.
        changes: arguments of `check`, for every claim.

    Raises:
        ValueError: the file, a name or an argument of a claim is invalid; then nothing has been simulated.
    """
    claims = load_claims(file)
    chosen = list(only) or list(claims)
    for name in chosen:
        if name not in claims:
            raise CommandError(f"--only must be one of {', '.join(claims)}, got {name!r}")
    trials = {name: _trial(name, claims[name], changes) for name in chosen}
    make_directory("--out", directory / ROWS)
    found, source = {}, _source(file)
    for name, trial in trials.items():
        key = hashlib.sha256(repr((name, source, sorted(changes.items()), ttt_jax.__version__)).encode()).hexdigest()
        try:
            check = trial.judge(_rows(trial, directory / ROWS / f"{name}.json", key))
        except ValueError as error:
            raise CommandError(f"{name}: {error}") from error
        found[name] = claims[name], check
        told(name, check)
    return found


def _trial(name: str, claim: Claim, changes: dict[str, Any]) -> Trial:
    try:
        return claim.trial(**changes)
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from error


def _rows(trial: Trial, record: Path, key: str) -> list[CheckRow]:
    """The rows of a claim: those that the record has for this key, and the others, which it gets."""
    kept = _kept(record, key)
    for case in trial.cases[len(kept) :]:
        row = vars(trial.row(case)) | {"parameters": {}}
        kept.append(row)
        replace_file(record, json.dumps({"key": key, "rows": kept}, default=lambda number: number.item()))
    cases = trial.cases[: len(kept)]
    return [replace(CheckRow(**row), parameters=case.parameters) for row, case in zip(kept, cases, strict=True)]


def _kept(record: Path, key: str) -> list[dict[str, Any]]:
    """The rows of a record; none if there is no such record, or it is of another key or cut short."""
    try:
        found = json.loads(record.read_text())
        return found["rows"] if found["key"] == key else []
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return []


def _source(file: Path) -> list[tuple[str, bytes]]:
    """The text of the file and of the modules beside it, or below, that have been imported."""
    folder = file.resolve().parent
    paths = {file.resolve()}
    for module in [*sys.modules.values()]:
        path = Path(getattr(module, "__file__", None) or "/").resolve()
        if path.suffix == ".py" and path.is_relative_to(folder) and "site-packages" not in path.parts:
            paths.add(path)
    return [(str(path.relative_to(folder)), path.read_bytes()) for path in sorted(paths) if path.is_file()]


def _place(file: Path, error: BaseException) -> str:
    """The file, and the line of it that an error came from."""
    line, trace = None, error.__traceback__
    while trace:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(file) else line
        trace = trace.tb_next
    return f"{file}:{line}" if line else str(file)
