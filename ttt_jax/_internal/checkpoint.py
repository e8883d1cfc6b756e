"""A long computation that a kill does not harm: its steps in pieces, and its state on disk after each piece."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

__all__ = ["Saved", "load", "pieces", "require_same_settings", "save"]

FILE = "state.safetensors"


def pieces(done: int, total: int, every: int) -> Iterator[range]:
    """The steps from `done` to `total`, in ranges that end at the multiples of `every` and at `total`.

    Example:
        >>> list(pieces(3, 10, every=4))
        [range(3, 4), range(4, 8), range(8, 10)]
    """
    while done < total:
        piece = range(done, min(total, done - done % every + every))
        yield piece
        done = piece.stop


class Saved(NamedTuple):
    """What a run has left in its directory.

    Attributes:
        settings: what determines the run, as JSON.
        progress: numbers that say how far it is.
        leaves: the arrays of its state.
        directory: where.
    """

    settings: str
    progress: list[Any]
    leaves: list[Array]
    directory: Path

    def state(self, like: PyTree) -> PyTree:
        """The arrays in the structure of `like`; ValueError unless they have its shapes."""
        leaves, structure = jax.tree.flatten(like)
        found, wanted = [leaf.shape for leaf in self.leaves], [np.shape(leaf) for leaf in leaves]
        if found != wanted:
            raise ValueError(
                f"directory must hold a state with arrays of shapes {reprlib.repr(wanted)} to be resumed, "
                f"got {reprlib.repr(found)} in {self.directory}"
            )
        return jax.tree.unflatten(structure, self.leaves)


def save(directory: Path, settings: Mapping[str, Any], progress: Sequence[Any], state: PyTree) -> None:
    """Replace the state in the directory as a whole."""
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    temporary = directory / f"{FILE}.new"
    save_file(arrays, temporary, metadata={"config": json.dumps(settings), "progress": json.dumps(progress)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(directory / FILE)


def load(directory: Path) -> Saved | None:
    """What `save` wrote to the directory; None if there is no such file, ValueError if it is another one."""
    if not (path := directory / FILE).exists():
        return None
    try:
        with safe_open(path, framework="flax") as file:
            metadata, leaves = file.metadata() or {}, [file.get_tensor(str(i)) for i in range(len(file.keys()))]
        return Saved(metadata["config"], json.loads(metadata["progress"]), leaves, directory)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"directory must hold a state that a run has saved, got {path} ({error!r})") from None


def require_same_settings(
    settings: Mapping[str, Any], earlier: Mapping[str, Any], directory: Path, free: Collection[str]
) -> None:
    """ValueError naming the first setting that is not that of the run in the directory, but for those that are free."""
    for name, now in settings.items():
        if name not in free and now != (before := earlier.get(name)):
            before, now = reprlib.repr(before), reprlib.repr(now)
            raise ValueError(f"{name} must be {before} to resume the run in {directory}, got {now}")
