"""How a run ends: Ctrl-C stops it at once, and no worker outlives the process that started it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from multiprocessing import parent_process

INTERRUPTED = 130


def stop_at_interrupt() -> None:
    """From here on Ctrl-C ends the process with status 130, also while it is inside compiled code.

    A Python handler would have to wait for that code to return; a thread that waits for the signal does not.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # or it complains of semaphores left behind
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def wait(_: socket.socket) -> None:  # holds the writer open, which closes when it is collected
        reader.recv(1)
        print("proofs_check: interrupted", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)

    threading.Thread(target=wait, args=(writer,), daemon=True).start()


def stop_with_parent() -> None:
    """In a worker: end as soon as the parent has, however it did."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
