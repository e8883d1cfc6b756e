"""Blocks of independent tasks: how large they are, and the one compiled function that computes them.

Block i of a work draws from fold_in(key, i), whoever computes it, and beside whichever others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt

from ttt_jax._internal.validate import positive_integer

Experiment = Callable[..., Float[Array, " V"]]
"""(key, setting) -> what one experiment gives."""
Keep = Callable[[Float[Array, "T V"], Bool[Array, " T"]], PyTree]
"""(draws of a block, which of them count) -> what is kept of the block."""

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
MAX_BLOCKS = 2**30  # block counts are int32 on the device


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


@partial(jax.jit, static_argnames=("experiment", "keep", "block_size", "mesh"))
def run_blocks(
    seeds: UInt[Array, " C"],
    settings: PyTree,
    entries: Int[Array, "lanes B 3"],
    counts: Int[Array, " lanes"],
    *,
    experiment: Experiment,
    keep: Keep,
    block_size: int,
    mesh: Mesh,
) -> PyTree:
    """What is kept of the first `count` entries of every device: (lanes, B, ...), of any value from there on.

    Args:
        seeds: of the works, whose settings are stacked along a first axis.
        entries: (place of a work, block, tasks in the block).
    """

    def lane(seeds, settings, entries, count):
        def block(i):
            work, number, size = entries[0, i]
            setting = jax.tree.map(lambda stacked: stacked[work], settings)
            key = jax.random.fold_in(jax.random.key(seeds[work], impl="threefry2x32"), number)
            draws = jax.vmap(partial(experiment, setting=setting))(jax.random.split(key, block_size))
            return keep(draws, jnp.arange(block_size) < size)

        traced, shapes = jax.make_jaxpr(block, return_shape=True)(jnp.int32(0))  # once, for the shapes and the loop
        compute, tree, most = jaxpr_as_fun(traced), jax.tree.structure(shapes), entries.shape[1]

        def step(i, kept):
            return jax.tree.map(lambda buffer, new: buffer.at[i].set(new), kept, tree.unflatten(compute(i)))

        kept = jax.tree.map(lambda one: jnp.zeros((most, *one.shape), one.dtype), shapes)
        return jax.tree.map(lambda buffer: buffer[None], jax.lax.fori_loop(0, count[0], step, kept))

    shared, split = PartitionSpec(), PartitionSpec("lane")
    every_lane = jax.shard_map(
        lane, mesh=mesh, in_specs=(shared, shared, split, split), out_specs=split, check_vma=False
    )
    return every_lane(seeds, settings, entries, counts)
