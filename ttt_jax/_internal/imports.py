"""What a command does when it is interrupted before it has begun: its imports take most of its first second."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_line_interrupt() -> Iterator[None]:
    """Ctrl-C in `ttt-jax` is one line and status 130; in a program that imports the package it is left alone."""
    try:
        yield
    except KeyboardInterrupt:
        if sys.argv[0] != "-m" and not sys.argv[0].endswith("/ttt-jax"):
            raise
        print("ttt-jax: interrupted", file=sys.stderr)
        sys.exit(130)
