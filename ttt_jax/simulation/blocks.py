"""Blocks of independent tasks on every device of every process, in one fixed order.

Block i draws from fold_in(key, i), whoever computes it, and its draws reach every process in block order. So what is
made of them there does not depend on the number of devices, processes or restarts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree

from ttt_jax._internal.processes import gather
from ttt_jax._internal.validate import positive_integer

Experiment = Callable[..., Float[Array, "..."]]
"""(key, setting) -> what one experiment gives, an array of any shape."""

ROW_BLOCK = 8
BLOCK_BYTES = {"cpu": 2**21}
"""Normals that one block draws at once: what stays in the cache of a core."""
ACCELERATOR_BLOCK_BYTES = 2**26
"""Enough tasks side by side to occupy an accelerator; not tuned on one."""
MAX_DEFAULT_BLOCK_SIZE = {"cpu": 2**12}
ACCELERATOR_MAX_DEFAULT_BLOCK_SIZE = 2**17
MAX_BLOCK_SIZE = 2**20
MAX_ROWS = 2**31 - 1 - ROW_BLOCK  # row counts are int32 on the device
MAX_STEPPED_WEIGHTS_BYTES = 2**28
BLOCKS_PER_CALL = 64
MAX_BLOCKS = 2**30  # block counts are int32 on the device
SECONDS_PER_CALL = 0.25


def default_block_size(d: int, num_tasks: int, rows: int, num_stepped: int = 0) -> int:
    """Tasks per block: their normals, `rows` rows of d at a time, fit the cache, their stepped weights fit memory.

    Short runs are one block. The size depends on the platform (CPU or accelerator), but not on the number of devices.

    Args:
        d: number of features.
        num_tasks: length of the run.
        rows: rows of d normals that a task draws at once.
        num_stepped: numbers that a task steps and holds, d^2 for weights of linear attention.

    Example:
        >>> default_block_size(64, 20_000, rows=8), default_block_size(64, 100, rows=8)
        (1024, 128)
        >>> [default_block_size(1024, 20_000, rows=1, num_stepped=held) for held in (1024**2, 0)]
        [64, 512]
    """
    platform = jax.default_backend()
    normals = BLOCK_BYTES.get(platform, ACCELERATOR_BLOCK_BYTES) // (4 * rows * d)
    most = MAX_DEFAULT_BLOCK_SIZE.get(platform, ACCELERATOR_MAX_DEFAULT_BLOCK_SIZE)
    short = 1 << (num_tasks - 1).bit_length()
    return max(1, min(normals, most, MAX_STEPPED_WEIGHTS_BYTES // (4 * max(num_stepped, 1)), short))


def checked_block_size(block_size: int | None, d: int, num_tasks: int, rows: int, num_stepped: int = 0) -> int:
    """The block size, or the default if it is None; ValueError unless it is an integer from 1 to MAX_BLOCK_SIZE."""
    if block_size is None:
        block_size = default_block_size(d, num_tasks, rows, num_stepped)
    elif positive_integer("block_size", block_size) > MAX_BLOCK_SIZE:
        raise ValueError(f"block_size must be at most {MAX_BLOCK_SIZE}, got {block_size}")
    if num_tasks > block_size * MAX_BLOCKS:
        raise ValueError(
            f"num_tasks must be at most {block_size * MAX_BLOCKS} in blocks of {block_size}, got {num_tasks}"
        )
    return block_size


def require_countable(**rows: int) -> None:
    """ValueError naming the first field with more rows than the device can count."""
    for field, count in rows.items():
        if count > MAX_ROWS:
            raise ValueError(f"{field} must be at most {MAX_ROWS} to be simulated, got {count}")


def simulate_blocks(
    experiment: Experiment, setting: PyTree, *, num_tasks: int, seed: int, block_size: int, first: int = 0
) -> Iterator[Float[np.ndarray, "T ..."]]:
    """What experiment(key, setting) gives for num_tasks independent tasks, in float64, one array per block.

    Args:
        experiment: a pure function of a random key and the setting; every new function compiles anew.
        setting: its arguments, the same in every experiment.
        num_tasks: number of independent experiments; the last block may be shorter than the others.
        seed: of the random key.
        block_size: tasks per block; part of what fixes the random numbers.
        first: the block to start with, to resume where another run stopped.

    Every process of a job must call this alike, with equally many local devices.

    Raises:
        MemoryError: a block does not fit the memory of a device.
    """
    key = jax.random.key(seed, impl="threefry2x32")
    devices, processes = jax.local_device_count(), jax.process_count()
    mesh = Mesh(np.array(jax.local_devices()), ("lane",))
    lanes, own = devices * processes, slice(jax.process_index() * devices, (jax.process_index() + 1) * devices)
    total, done, count = -(-num_tasks // block_size), first, 1
    while done < total:
        started = time.perf_counter()
        count = min(count, BLOCKS_PER_CALL, -(-(total - done) // lanes))
        starts = done + count * np.arange(lanes, dtype=np.int32)
        counts = np.clip(total - starts, 0, count)
        try:
            draws = np.asarray(
                run_blocks(
                    key, starts[own], counts[own], setting, experiment=experiment, block_size=block_size, mesh=mesh
                )
            )
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            lower = f"block_size, which is {block_size}, or d" if block_size > 1 else "d"
            raise MemoryError(f"a block of tasks does not fit the memory: lower {lower}") from None
        seconds = time.perf_counter() - started
        if processes > 1:
            draws, seconds = gather((draws, seconds))
            draws, seconds = draws.reshape(lanes, *draws.shape[2:]), seconds.max()
        for lane, blocks in zip(draws, counts, strict=True):
            for block in lane[:blocks]:
                yield np.asarray(block[: num_tasks - done * block_size], np.float64)
                done += 1
        if seconds < SECONDS_PER_CALL:
            count *= 2


@partial(jax.jit, static_argnames=("experiment", "block_size", "mesh"))
def run_blocks(
    key: Key[Array, ""],
    starts: Int[Array, " lanes"],
    counts: Int[Array, " lanes"],
    setting: PyTree,
    *,
    experiment: Experiment,
    block_size: int,
    mesh: Mesh,
) -> Float[Array, "lanes blocks T ..."]:
    """Per device the draws of blocks start, ..., start + count - 1, in the first `count` of BLOCKS_PER_CALL rows."""
    draw = partial(experiment, setting=setting)
    one = jax.eval_shape(draw, key)

    def lane(key, start, count, setting):
        def block(i, buffer):
            keys = jax.random.split(jax.random.fold_in(key, start[0] + i), block_size)
            return buffer.at[i].set(jax.vmap(partial(experiment, setting=setting))(keys))

        buffer = jnp.zeros((BLOCKS_PER_CALL, block_size, *one.shape), one.dtype)
        return jax.lax.fori_loop(0, count[0], block, buffer)[None]

    shared, split = PartitionSpec(), PartitionSpec("lane")
    every_lane = jax.shard_map(
        lane, mesh=mesh, in_specs=(shared, split, split, shared), out_specs=split, check_vma=False
    )
    return every_lane(key, starts, counts, setting)
