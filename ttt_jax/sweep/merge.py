"""Shards of one sweep, each run by itself, as the sweep that they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ttt_jax.sweep.run import SECONDS, differences, finish
from ttt_jax.sweep.spec import make_spec
from ttt_jax.sweep.store import Store, StoreError


def merge_shards(directories: Sequence[Path], out: Path) -> list[dict[str, Any]]:
    """Write the store and the results of the whole sweep, the bytes of an undivided run, from all of its shards.

    Args:
        directories: one for each `--shard i/N`, in any order.
        out: where the merged sweep is kept.

    Returns:
        The rows of results.csv, in the order of the cells.

    Raises:
        StoreError: a shard is lost, not finished, twice there, or of another sweep, naming it.
    """
    shards: dict[int, tuple[Path, dict[str, Any]]] = {}
    for directory in directories:
        with Store(directory, writable=False) as store:
            records = dict(store.records())
        if "shard" not in records:
            raise StoreError(f"{directory}: no shard of a sweep; run it with --shard")
        i, number = records["shard"]
        for first, other in shards.values():
            if changes := differences(other, records, shards=other["shard"][1] != number):
                raise StoreError(f"{directory}: differs from the sweep in {first}: {changes}")
        if i in shards:
            raise StoreError(f"{directory}: is shard {i}/{number}, as is {shards[i][0]}")
        cells = make_spec(records["spec"], try_cells=False).cells_of((i, number))
        done = sum(f"cell {cell.index}" in records for cell in cells)
        if done < len(cells):
            raise StoreError(f"{directory}: {done} of {len(cells)} cells are finished; resume it first")
        shards[i] = directory, records
    if lost := [f"{i}/{number}" for i in range(number) if i not in shards]:
        raise StoreError(f"shard {', '.join(lost)} is missing: give the directories of all {number}")
    header = {name: value for name, value in records.items() if name in ("spec", "plugins")}
    rows = [row for _, shard in shards.values() for name, row in shard.items() if name.startswith("cell ")]
    rows.sort(key=lambda row: row["cell"])
    with Store(out) as store:
        if dict(store.records()):
            raise StoreError(f"{out}: already holds a sweep; choose another --out")
        finish(store, header, rows, {k: v for directory, _ in shards.values() for k, v in _seconds(directory)})
    return rows


def _seconds(directory: Path) -> Iterator[tuple[int, float]]:
    """What the cells of a shard took."""
    with suppress(OSError):
        for line in (directory / SECONDS).read_text(encoding="utf-8").splitlines()[1:]:
            cell, seconds = line.split(",")
            yield int(cell), float(seconds)
