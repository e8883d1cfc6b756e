"""What every command does alike: how it ends, what it prints, and which files it may write."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax

__all__ = [
    "CommandError",
    "OneLineParser",
    "emit",
    "exit_status",
    "make_directory",
    "printable",
    "refuse_overwriting",
    "replace_file",
]


class CommandError(ValueError):
    """Bad input to a command, as one line for the user."""


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text before the error, and with errors worded as everywhere else."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.register("type", int, partial(_read, int, "an integer"))
        self.register("type", float, partial(_read, float, "a number"))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        nothing = value == []  # of nargs="*", which Python 3.11 checks too
        if action.choices is not None and not nothing and value not in action.choices:
            raise argparse.ArgumentError(action, f"must be one of {', '.join(action.choices)}, got {value!r}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """A command refuses what it does not know itself, so that the hint is at its own help."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str):
        message = message.removeprefix("argument ").replace(": must be", " must be", 1)
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _read(kind: type, name: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {name}, got {text!r}") from None


def exit_status(name: str, work: Callable[[], int]) -> int:
    """The status of work(); after an error one line on standard error, and 2, or 130 for an interrupt.

    Example:
        >>> exit_status("command", lambda: 0)
        0
    """
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed, as by `2>&-`; its descriptor must not go to a file opened later
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115
    try:
        return work()
    except KeyboardInterrupt:
        status, message = 130, "interrupted"
    except MemoryError as error:
        status, message = 2, f"out of memory: {error or 'lower d'}"
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        status, message = 2, f"out of memory: lower d ({str(error).splitlines()[0]})"
    except OSError as error:
        parts = (error.filename, error.strerror or str(error))
        status, message = 2, ": ".join(printable(part) for part in parts if part is not None)
    except (ValueError, OverflowError) as error:
        status, message = 2, str(error)
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


def emit(text: str) -> None:
    """Print; a reader that leaves early, such as `head`, is not an error."""
    try:
        print(printable(text), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again when it ends
        if not isinstance(error, BrokenPipeError):
            raise OSError(f"standard output: {error.strerror}") from None


def printable(text: object) -> str:
    """The text with a question mark for every byte of a file name that is not UTF-8.

    Example:
        >>> printable(Path(os.fsdecode(b"a\\xff")))
        'a?'
    """
    return str(text).encode("utf-8", "replace").decode("utf-8")


def make_directory(flag: str, directory: Path) -> None:
    """Make the directory if it is missing; CommandError unless files can be written there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        got = f"{printable(directory)!r} ({reason})"
        raise CommandError(f"{flag} must be a directory that can be written to, got {got}") from None


def replace_file(path: Path, content: bytes | str) -> Path:
    """Write a file, UTF-8 for text, that is whole at any moment, also where two processes write it; its path."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    scratch.write_bytes(content.encode() if isinstance(content, str) else content)
    return scratch.replace(path)


def refuse_overwriting(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """CommandError if an output is an input, by whatever name."""
    outputs = list(outputs)
    for file in inputs:
        for output in outputs:
            if file.resolve() == output.resolve() or (file.exists() and output.exists() and file.samefile(output)):
                raise CommandError(f"{file}: is an input and would be overwritten; choose another --out")
