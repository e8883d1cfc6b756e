"""Several processes of one job: process 0 decides and keeps, the others compute along."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

__all__ = ["ProcessDied", "connect", "gather", "is_leader", "share"]

HEARTBEAT_SECONDS = 60


def connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the job, before anything is computed; without arguments as JAX detects it (SLURM, Open MPI, Cloud TPU, ...).

    Raises:
        ValueError: there is no such job.
    """
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot join the other processes: {error}") from None
    devices = gather(np.int32(jax.local_device_count()))
    if len(set(devices.tolist())) > 1:
        raise ValueError(f"every process must have equally many devices, got {devices.tolist()}")


class ProcessDied(RuntimeError):
    """Another process of the job is gone."""


def is_leader() -> bool:
    """Whether this is the process that reads and writes files and prints."""
    return jax.process_index() == 0


def share(value: Any) -> Any:
    """Process 0's value in every process, by way of JSON; the value of the others is not looked at.

    Example:
        >>> share({"lr": 0.1})
        {'lr': 0.1}
    """
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode() if is_leader() else b"", np.uint8)
    size = int(gather(np.int32(len(text)))[0])
    padded = np.zeros(size, np.uint8)
    padded[: len(text)] = text
    return json.loads(gather(padded)[0].tobytes())


def gather(values: PyTree) -> PyTree:
    """The arrays of every process, along a new first axis.

    Raises:
        ProcessDied: they do not all answer.
    """
    try:
        return multihost_utils.process_allgather(values)
    except (ValueError, RuntimeError) as error:  # what JAX raises when a peer closes its connection
        raise ProcessDied(
            f"process {jax.process_index()} has lost another one ({str(error).splitlines()[0]})"
        ) from None
