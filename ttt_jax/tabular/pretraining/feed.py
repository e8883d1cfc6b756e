"""The tables of every step, from the device or from a process that works ahead."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection

import jax

from ttt_jax.tabular.pretraining.config import PretrainConfig
from ttt_jax.tabular.pretraining.prior import Tables, host_tables, sample_tables
from ttt_jax.tabular.pretraining.prior.stored import stored_tables


@contextmanager
def tables_from(config: PretrainConfig, first: int) -> Iterator[Iterator[tuple[Tables, float]]]:
    """The tables of step `first` and of all later ones, each with the CPU seconds that its maker has used so far.

    On the host they are made one step ahead in a process of lower priority, which ends with this one.
    """
    if config.on_device:
        yield _on_device(config, first)
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    maker = context.Process(target=_make, args=(config, first, theirs, compilation_cache()), daemon=True)
    maker.start()
    theirs.close()
    try:
        yield _received(ours)
    finally:
        ours.close()
        maker.terminate()
        maker.join()


def _received(tables: Connection) -> Iterator[tuple[Tables, float]]:
    while True:
        try:
            message = tables.recv()
        except EOFError:
            raise ChildProcessError("the process that makes the tables has ended; see its error above") from None
        if isinstance(message, ValueError):
            raise message
        yield message


def compilation_cache() -> str | None:
    """The directory of compiled code that outlives a process, if there is one."""
    return jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]


def _on_device(config: PretrainConfig, first: int) -> Iterator[tuple[Tables, float]]:
    seed = jax.random.key(config.seed, impl="threefry2x32")
    for step in count(first):
        yield sample_tables(jax.random.fold_in(seed, step), config.prior, *config.shape(step)), 0.0


def _make(config: PretrainConfig, first: int, out: Connection, compiled: str | None) -> None:
    os.nice(1)
    jax.config.update("jax_compilation_cache_dir", compiled)
    try:
        for step in count(first):
            shape = config.shape(step)
            if config.stored:
                tables = stored_tables(config.stored, config.seed, step, *shape)
            else:
                tables = host_tables(config.prior, config.seed, step, *shape)
            out.send((tables, time.process_time()))
    except ValueError as error:
        out.send(error)
    except BrokenPipeError:  # the reader has ended, or was killed
        pass
