import errno
import fcntl
import gc
import os
import re
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from ttt_jax.sweep.store import Store, StoreError


def records(directory):
    with Store(directory, writable=False) as store:
        return dict(store.records())


def test_floats_come_back_bit_for_bit(tmp_path):
    values = [0.1, 1e-310, 2.0**-1074, 1.7976931348623157e308, 1 / 3]
    with Store(tmp_path) as store:
        store.put({"x": values})
    assert records(tmp_path)["x"] == values


def test_a_put_is_all_or_nothing(tmp_path):
    with Store(tmp_path) as store:
        store.put({"a": 1})
        with pytest.raises(TypeError):
            store.put({"a": 2, "b": object()})
        assert dict(store.records()) == {"a": 1}


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path):
    with Store(tmp_path) as store:
        store.put({"a": 1})
        with pytest.raises(
            StoreError, match=f"in use by process {os.getpid()} on {re.escape(socket.gethostname())}; wait"
        ):
            Store(tmp_path)
        assert records(tmp_path) == {"a": 1}
    with Store(tmp_path) as store:
        assert dict(store.records()) == {"a": 1}


def test_the_lock_dies_with_its_process(tmp_path):
    code = "import os, sys; from pathlib import Path; from ttt_jax.sweep.store import Store\n"
    code += "store = Store(Path(sys.argv[1])); store.put({'a': 1}); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    with Store(tmp_path) as store:
        assert dict(store.records()) == {"a": 1}


@pytest.mark.parametrize("damage", ["text", "truncated", "empty pages", "record", "another database"])
def test_damage_is_refused(tmp_path, damage):
    with Store(tmp_path) as store:
        store.put({f"cell {i}": {"x": "y" * 500} for i in range(50)})
    file = tmp_path / Store.FILE
    content = file.read_bytes()
    if damage == "text":
        file.write_text("not a database, but long enough to be looked at" * 10)
    elif damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "empty pages":
        file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    elif damage == "record":
        file.write_bytes(content.replace(b"yyyy", b"yxyy", 1))
    else:
        file.unlink()
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE record (other TEXT)")
    with pytest.raises(StoreError), Store(tmp_path) as store:
        dict(store.records())
    gc.collect()  # from Python 3.13 on a connection left open is a warning


def test_no_store_and_no_directory(tmp_path):
    with pytest.raises(StoreError, match="no sweep here"):
        Store(tmp_path, writable=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be a directory"):
        Store(tmp_path / "file")


def test_a_full_disk_keeps_what_was_there(tmp_path):
    """A file that may not grow, as on a full disk."""
    with Store(tmp_path) as store:
        store.put({"a": 1})
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="disk is full"):
            store.put({"b": "x" * 100_000})
        assert dict(store.records()) == {"a": 1}


def test_removed_records_are_gone(tmp_path):
    with Store(tmp_path) as store:
        store.put({"a": 1, "b": 2})
        store.put({"c": 3}, remove=["a", "unknown"])
    assert records(tmp_path) == {"b": 2, "c": 3}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_another_process(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=f"no locks on this file system .{os.strerror(number)}"):
        Store(tmp_path)


@pytest.mark.parametrize("name", [Store.FILE, Store.LOCK])
def test_a_pipe_in_the_way_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(StoreError, match=f"{name}: must be a regular file"):
        Store(tmp_path)


def test_a_record_that_damage_hides_is_missed(tmp_path):
    """A page that says it has a row less: what is left is intact, and only the check of the whole file can tell."""
    with Store(tmp_path) as store:
        store.put({f"cell {i}": {"x": "y" * 500} for i in range(50)})
    file = tmp_path / Store.FILE
    content = bytearray(file.read_bytes())
    leaf = next(start for start in range(4096, len(content), 4096) if content[start] == 0x0D)
    content[leaf + 4] -= 1
    file.write_bytes(content)
    with closing(sqlite3.connect(file)) as connection:
        assert len(connection.execute("SELECT value FROM record").fetchall()) == 49
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path)
