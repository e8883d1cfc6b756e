"""An embedded store of JSON records that survives a kill at any moment: SQLite with a rollback journal."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

SCHEMA = "CREATE TABLE IF NOT EXISTS record (name TEXT PRIMARY KEY, value TEXT, crc INTEGER)"


class StoreError(ValueError):
    """The store cannot be used, as one line for the user."""


class Store:
    """Records by name, in DIRECTORY/sweep.sqlite; one process at a time has it open for writing.

    Every `put` is one transaction: after a crash all of its records are there, or none. A record whose bytes have
    changed since it was written is refused, as is a file that SQLite cannot make sense of.

    Args:
        directory: made if missing.
        writable: False opens an existing store for reading, beside a run that writes.

    Raises:
        StoreError: the directory or file cannot be used, or another process has it open.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory, Store(Path(directory)) as store:
        ...     store.put({"a": {"x": 0.1}, "b": None})
        ...     store.put({"a": [1]}, remove=["b"])
        ...     dict(store.records())
        {'a': [1]}
    """

    FILE, LOCK = "sweep.sqlite", "sweep.lock"

    def __init__(self, directory: Path, *, writable: bool = True):
        self.path = directory / self.FILE
        address = self.path.absolute().as_uri() + ("" if writable else "?mode=ro")
        with ExitStack() as opened:
            if writable:
                opened.enter_context(self._locked(directory))
            elif not self.path.is_file():  # also a FIFO, which would block
                raise StoreError(f"{directory}: no sweep here ({self.FILE} is missing)")
            try:
                self._connection = opened.enter_context(closing(sqlite3.connect(address, uri=True, timeout=10)))
                self._connection.execute("PRAGMA synchronous = FULL")
                self._require_health()
                if writable:
                    with self._connection:
                        self._connection.execute(SCHEMA)
            except sqlite3.Error as error:
                raise self._failure(error) from None
            self._opened = opened.pop_all()

    def _locked(self, directory: Path) -> IO[str]:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path in (self.path, directory / self.LOCK):
                if path.exists() and not path.is_file():
                    raise StoreError(f"{path}: must be a regular file; remove it, or choose another --out")
            lock = open(directory / self.LOCK, "a+")  # noqa: SIM115 (held as long as the store)
        except (FileExistsError, NotADirectoryError):
            raise StoreError(f"{directory}: must be a directory, but a file is in the way") from None
        except OSError as error:
            raise StoreError(f"{directory}: cannot be written to ({error.strerror or error})") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            with lock:
                lock.seek(0)
                holder = lock.read().strip() or "another one"
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreError(
                    f"{directory}: no locks on this file system ({error.strerror}), so a second run could interfere; "
                    "choose an --out elsewhere"
                ) from None
            raise StoreError(f"{directory}: in use by process {holder}; wait for it, or choose another --out") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {socket.gethostname()}")
        lock.flush()
        return lock

    def _require_health(self) -> None:
        report = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if report != "ok":
            raise StoreError(f"{self.path}: damaged ({report.splitlines()[-1]}); restore a copy, or choose a new --out")

    def _failure(self, error: sqlite3.Error) -> StoreError:
        hint = {
            "SQLITE_FULL": "the disk is full; free some space and resume",
            "SQLITE_NOTADB": "not the store of a sweep; restore a copy, or choose a new --out",
            "SQLITE_CORRUPT": "damaged; restore a copy, or choose a new --out",
            "SQLITE_READONLY": "cannot be written to",
        }.get(getattr(error, "sqlite_errorname", ""), str(error))
        return StoreError(f"{self.path}: {hint}")

    def put(self, records: dict[str, Any], *, remove: list[str] | None = None) -> None:
        """Write these records and remove others, all or nothing.

        Raises:
            StoreError: the disk is full, or the file cannot be written; what was there before is untouched.
        """
        rows = list(map(_row, records, records.values()))
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", rows)
                self._connection.executemany("DELETE FROM record WHERE name = ?", [(name,) for name in remove or ()])
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def rewrite(self, records: dict[str, Any]) -> None:
        """Replace the file by a new one of these records, whose bytes depend on nothing else; then the store is closed.

        Raises:
            StoreError: the disk is full, or the file cannot be written; what was there before is untouched.
        """
        scratch = self.path.with_name(f".{self.FILE}.part")
        scratch.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(scratch)) as new, new:
                new.execute(SCHEMA)
                new.executemany("INSERT INTO record VALUES (?, ?, ?)", map(_row, records, records.values()))
        except sqlite3.Error as error:
            raise self._failure(error) from None
        self._connection.close()
        scratch.replace(self.path)

    def records(self) -> Iterator[tuple[str, Any]]:
        """Every record, checked.

        Raises:
            StoreError: a record is not what was written.
        """
        try:
            rows = self._connection.execute("SELECT name, value, crc FROM record ORDER BY rowid").fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from None
        for name, text, crc in rows:
            if not isinstance(text, str) or _checksum(name, text) != crc:
                raise StoreError(f"{self.path}: record {name!r} is damaged; restore a copy, or choose a new --out")
            yield name, json.loads(text)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_) -> None:
        self._opened.close()


def _row(name: str, value: Any) -> tuple[str, str, int]:
    text = json.dumps(value)
    return name, text, _checksum(name, text)


def _checksum(name: str, text: str) -> int:
    return zlib.crc32(f"{name}\n{text}".encode())
