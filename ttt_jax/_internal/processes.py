"""Several processes of one job: process 0 decides and keeps, the others compute along."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

__all__ = ["ProcessDied", "connect", "gather", "gathered", "is_leader", "local", "share"]

HEARTBEAT_SECONDS = 60


def connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> str:
    """Join the job, before anything is computed; without arguments as JAX detects it (SLURM, Open MPI, Cloud TPU, ...).

    Returns:
        What this process is, in a line: its number and its devices.

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
    own, count, number = jax.local_devices()[0].device_kind, jax.local_device_count(), jax.process_index()
    return f"process {number} of 0 to {len(devices) - 1} uses {count} device{'s' * (count != 1)} of kind {own}"


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
    with _all_alive():
        return multihost_utils.process_allgather(values)


def gathered(values: PyTree[Array], mesh: Mesh) -> PyTree[Array]:
    """Arrays that are split along the devices of every process, of all of them, for `local`; does not wait for them."""
    if jax.process_count() == 1:
        return values
    every = Mesh(np.array(sorted(jax.devices(), key=lambda device: (device.process_index, device.id))), mesh.axis_names)
    split, whole = (NamedSharding(every, spec) for spec in (PartitionSpec(*mesh.axis_names), PartitionSpec()))

    def joined(own: Array) -> Array:
        shape = own.shape[0] * jax.process_count(), *own.shape[1:]
        return jax.make_array_from_single_device_arrays(shape, split, [shard.data for shard in own.addressable_shards])

    with _all_alive():
        return jax.jit(_same, out_shardings=whole)(jax.tree.map(joined, values))


def _same(values: PyTree) -> PyTree:
    return values


def local(array: Array) -> np.ndarray:
    """The values of an array that every process has, once they are there.

    Raises:
        ProcessDied: another process will not give them any more.
    """
    with _all_alive():
        return np.asarray(array if array.is_fully_addressable else array.addressable_data(0))


@contextmanager
def _all_alive() -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError) as error:  # what JAX raises when a peer closes its connection
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise ProcessDied(
            f"process {jax.process_index()} has lost another process ({str(error).splitlines()[0]})"
        ) from None
