"""One list of (work, block) for all devices of all processes; while one call is added up, the next one runs.

Works of one kind, that is of equal shapes, share compiled calls. A call has room for as many works as the kind allows,
and copies of one fill it up, so that a work alone is computed by the same code as beside a thousand others.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from ttt_jax._internal.processes import gathered, local, share
from ttt_jax.simulation.accumulate import Tally, next_mark, reduce_block
from ttt_jax.simulation.blocks import Experiment, Keep, run_blocks

__all__ = ["BlockTooLarge", "Work", "all_draws", "tallies"]

BLOCKS_PER_CALL = 512
"""Of one device."""
MOMENTS_BYTES = 2**24
"""Of all blocks of a call on one device."""
SECONDS_PER_CALL = 0.25
WORKS_PER_CALL = 64
SETTINGS_BYTES = 2**22
"""Of all works of a call."""
MOST_WAITING = 128
"""Works that are held until there are enough of their kind."""


AnyWork = TypeVar("AnyWork", bound="Work")
Entry = tuple["Work", int]
"""A work and one of its blocks."""


@dataclass(frozen=True, eq=False)
class Work:
    """An experiment, and how often it is done.

    Args:
        experiment: a pure function of a random key and the setting; every new function compiles anew.
        setting: its arguments, NumPy arrays.
        units: of its values, (V,).
        num_tasks: number of independent experiments; the last block may be shorter than the others.
        seed: of the random key.
        block_size: tasks per block; part of what fixes the random numbers.
        x64: whether the setting and the values are in float64.
        target_relative_stderr: enough for the work to stop at a mark, see `Tally.reached`; None for never.
    """

    experiment: Experiment
    setting: PyTree
    units: Float[np.ndarray, " V"]
    num_tasks: int
    seed: int
    block_size: int
    x64: bool = False
    target_relative_stderr: float | None = None

    def size_of(self, block: int) -> int:
        """Tasks in a block."""
        return min(self.block_size, self.num_tasks - block * self.block_size)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_tasks // self.block_size)

    @cached_property
    def kind(self) -> Hashable:
        """What is compiled once."""
        leaves, structure = jax.tree.flatten(self.setting)
        shapes = tuple((np.shape(leaf), np.result_type(leaf)) for leaf in leaves)
        return self.experiment, structure, shapes, self.block_size, self.x64

    @property
    def room(self) -> int:
        """How many works of this kind a call has room for."""
        size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self.setting))
        return max(1, min(WORKS_PER_CALL, SETTINGS_BYTES // max(size, 1)))

    @property
    def blocks_per_call(self) -> int:
        """How many blocks a device does in a call at most."""
        return max(1, min(BLOCKS_PER_CALL, MOMENTS_BYTES // (4 * len(self.units) ** 2)))

    def is_done(self, tally: Tally) -> bool:
        """Whether this tally is the last one."""
        target = self.target_relative_stderr
        return tally.num_blocks >= self.num_blocks or (target is not None and tally.reached(target))


class BlockTooLarge(MemoryError):
    """A block of this work, or of one of the same kind, does not fit the memory of a device."""

    def __init__(self, work: Work):
        lower = f"block_size, which is {work.block_size}, or d" if work.block_size > 1 else "d"
        super().__init__(f"a block of tasks does not fit the memory: lower {lower}")
        self.work = work


def tallies(works: Iterable[tuple[AnyWork, Tally]]) -> Iterator[dict[AnyWork, Tally]]:
    """Do the works, each from the tally on that stands beside it.

    Every process of a job must call this alike, with equally many local devices.

    Yields:
        After every call, the works whose blocks it had, and what their tallies are now.

    Raises:
        BlockTooLarge: a block does not fit the memory of a device.
    """
    under_way: dict[AnyWork, Tally] = {}
    last, kind, size, clock = None, None, 1, time.perf_counter()
    for batch in _batches(works):
        under_way |= batch
        group, going = _Group.of(list(batch)), list(batch)
        size, kind = (size if group.work.kind == kind else 1), group.work.kind
        ahead: dict[Work, int] = {work: tally.num_blocks for work, tally in batch.items()}
        while entries := _next_entries(going, ahead, size * group.lanes):
            call = _Call(group, entries, group.dispatch(entries, reduce_block, group.work.blocks_per_call))
            if last:
                if found := last.added_to(under_way):
                    yield found
                seconds, clock = time.perf_counter() - clock, time.perf_counter()
                if last.group.work.kind == kind and seconds < SECONDS_PER_CALL:
                    size = max(size, min(group.work.blocks_per_call, 2 * last.depth))
                size, stopped = share([size, [work not in under_way for work in going]])
                going = [work for work, has in zip(going, stopped, strict=True) if not has]
            last = call
    if last and (found := last.added_to(under_way)):
        yield found


@dataclass(frozen=True, eq=False)
class _Call:
    """Blocks that the devices work on."""

    group: _Group
    entries: list[Entry]
    kept: PyTree

    @property
    def depth(self) -> int:
        """Blocks of the device that has most."""
        return -(-len(self.entries) // self.group.lanes)

    def added_to(self, under_way: dict[AnyWork, Tally]) -> dict[AnyWork, Tally]:
        """The new tallies of the works that it had blocks of; those that are done leave `under_way`."""
        blocks = self.group.collect(self.entries, self.kept)
        places: dict[AnyWork, list[int]] = {}
        for place, (work, _) in enumerate(self.entries):
            if work in under_way:  # else it stopped while this call ran
                places.setdefault(work, []).append(place)
        for work, own in places.items():
            part = jax.tree.map(lambda stacked: stacked[own], blocks)  # noqa: B023
            part = part._replace(unit=part.unit * work.units)
            under_way[work] = under_way[work].add(part, work.target_relative_stderr)
        return {work: under_way.pop(work) if work.is_done(under_way[work]) else under_way[work] for work in places}


def all_draws(work: Work, first: int = 0) -> Iterator[Float[np.ndarray, "T V"]]:
    """The values of all tasks of a work, block by block from one on, in float64; of a call they are there at once."""
    group, ahead = _Group.of([work]), {work: first}
    while entries := _next_entries([work], ahead, group.lanes):
        kept = group.collect(entries, group.dispatch(entries, _as_drawn, 1))
        for (_, block), draws in zip(entries, kept, strict=True):
            yield work.units * np.asarray(draws[: work.size_of(block)], np.float64)


def _as_drawn(draws: Float[Array, "T V"], _: Any) -> Float[Array, "T V"]:
    return draws


def _batches(works: Iterable[tuple[AnyWork, Tally]]) -> Iterator[dict[AnyWork, Tally]]:
    """The works by kind, as many together as there is room for, in about the order in which they come."""
    waiting: dict[Hashable, dict[AnyWork, Tally]] = {}
    for work, tally in works:
        alike = waiting.setdefault(work.kind, {})
        alike[work] = tally
        if len(alike) == work.room:
            yield waiting.pop(work.kind)
        elif sum(map(len, waiting.values())) == MOST_WAITING:
            yield waiting.pop(max(waiting, key=lambda kind: len(waiting[kind])))
    yield from waiting.values()


def _next_entries(works: Sequence[Work], ahead: dict[Work, int], most: int) -> list[Entry]:
    """The next blocks, counted in `ahead`: in turn of every work all that are left, or those to where it may stop."""
    entries: list[Entry] = []
    while len(entries) < most and (left := [work for work in works if ahead[work] < work.num_blocks]):
        for work in left:
            first = ahead[work]
            stop = work.num_blocks if work.target_relative_stderr is None else next_mark(first)
            ahead[work] = min(stop, work.num_blocks, first + most - len(entries))
            entries += [(work, block) for block in range(first, ahead[work])]
    return entries


@dataclass(frozen=True, eq=False)
class _Group:
    """Works of one kind, on the devices of this process."""

    work: Work  # one of them
    places: dict[Work, int]
    mesh: Mesh
    shared: tuple[Array, PyTree]  # their seeds and settings

    @classmethod
    def of(cls, works: Sequence[Work]) -> _Group:
        first, mesh = works[0], Mesh(np.array(jax.local_devices()), ("lane",))
        padded = [*works, *[first] * (first.room - len(works))]
        seeds = np.array([work.seed for work in padded], np.uint32)
        settings = jax.tree.map(lambda *own: np.stack(own), *(work.setting for work in padded))
        with jax.enable_x64(first.x64):
            shared = jax.device_put((seeds, settings), NamedSharding(mesh, PartitionSpec()))
        return cls(first, {work: place for place, work in enumerate(works)}, mesh, shared)

    @property
    def lanes(self) -> int:
        return jax.process_count() * self.mesh.size

    def dispatch(self, entries: list[Entry], keep: Keep, most: int) -> PyTree:
        """Begin a call: entry j is for lane j mod `lanes`."""
        table = np.zeros((most * self.lanes, 3), np.int32)
        table[: len(entries)] = [(self.places[work], block, work.size_of(block)) for work, block in entries]
        counts = (len(entries) - np.arange(self.lanes) + self.lanes - 1) // self.lanes
        own = slice(jax.process_index() * self.mesh.size, (jax.process_index() + 1) * self.mesh.size)
        work = self.work
        with jax.enable_x64(work.x64), jax.default_matmul_precision("highest"), _memory(entries[0][0]):
            kept = run_blocks(
                *self.shared,
                table.reshape(most, self.lanes, 3).swapaxes(0, 1)[own],
                counts.astype(np.int32)[own],
                experiment=work.experiment,
                keep=keep,
                block_size=work.block_size,
                mesh=self.mesh,
            )
            return gathered(kept, self.mesh)

    def collect(self, entries: list[Entry], kept: PyTree) -> PyTree:
        """What a call gave, in the order of its entries, once it is there."""

        def in_order(lanes: Array) -> np.ndarray:
            return np.swapaxes(local(lanes), 0, 1).reshape(-1, *lanes.shape[2:])[: len(entries)]

        with _memory(entries[0][0]):
            return jax.tree.map(in_order, kept)


@contextmanager
def _memory(work: Work) -> Iterator[None]:
    """What JAX raises where there is not enough memory, as one line."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise BlockTooLarge(work) from None
