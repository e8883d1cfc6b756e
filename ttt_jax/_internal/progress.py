"""A progress bar for work that takes more than two seconds, on a terminal; elsewhere lines, if asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

__all__ = ["Progress", "progress_bar"]

QUIET_SECONDS = 2.0
LOG_SECONDS = 30.0


class Progress:
    """A bar on standard error that appears after two seconds, if standard error is a terminal.

    Args:
        title: what is done.
        total: number of units.
        done: of these, done before.
        enabled: False shows nothing.
        log: off a terminal, print a line every half minute.

    Example:
        >>> with Progress("tasks", total=10) as bar:
        ...     bar.advance(10)
    """

    def __init__(self, title: str, total: int, *, done: int = 0, enabled: bool = True, log: bool = False):
        self.title, self.total, self.before, self.done = title, total, done, done
        heard = enabled and sys.stderr is not None
        self.enabled = heard and sys.stderr.isatty()
        self.log = heard and log and not self.enabled
        self.started = self.logged = time.monotonic()
        self.bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.stop()

    def advance(self, amount: int = 1, note: str = ""):
        """Count `amount` more units as done; `note` is shown beside the title."""
        self.done += amount
        if self.log and time.monotonic() - self.logged > LOG_SECONDS:
            self.logged = time.monotonic()
            words = f"{self.title}: {self.done} of {self.total}"
            if new := self.done - self.before:
                left = (self.logged - self.started) / new * (self.total - self.done)
                words += f", about {left / 60:.0f} min left"
            print(", ".join(filter(None, (words, note))), file=sys.stderr, flush=True)
        if not self.enabled:
            return
        if self.bar is None and time.monotonic() - self.started > QUIET_SECONDS:
            self._open()
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, description=f"{self.title} {note}".strip())

    def _open(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(self.title, total=self.total, completed=self.before)
        self.bar.start()


def progress_bar(items: Sequence, title: str, *, enabled: bool = True, log: bool = False) -> Iterator:
    """The items, with a `Progress` that advances by one for each.

    Example:
        >>> list(progress_bar(range(3), "steps"))
        [0, 1, 2]
    """
    with Progress(title, len(items), enabled=enabled, log=log) as bar:
        for item in items:
            yield item
            bar.advance()
