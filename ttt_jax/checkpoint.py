"""The last state of a long computation on disk, by orbax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

__all__ = ["Checkpoints"]


class Checkpoints:
    """Saves a pytree of arrays with the number of steps behind it, and restores the latest; idle without a directory.

    Args:
        directory: where the checkpoints lie, one subdirectory per saved step, of which the last two are kept.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as directory, Checkpoints(Path(directory)) as checkpoints:
        ...     checkpoints.save({"a": jnp.ones(2)}, 7)
        ...     checkpoints.restore({"a": jnp.zeros(2)})
        ({'a': Array([1., 1.], dtype=float32)}, 7)
    """

    def __init__(self, directory: Path | None):
        self.manager: Any = None
        if directory is not None:
            import orbax.checkpoint as orbax

            options = orbax.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
            self.manager = orbax.CheckpointManager(
                Path(directory).absolute(), options=options, item_handlers=orbax.StandardCheckpointHandler()
            )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_):
        if self.manager is not None:
            self.manager.close()

    def save(self, state: PyTree, step: int):
        """Write the state after this many steps."""
        if self.manager is not None:
            import orbax.checkpoint as orbax

            self.manager.save(step, args=orbax.args.StandardSave(jax.tree.leaves(state)))

    def restore(self, state: PyTree) -> tuple[PyTree, int]:
        """The latest state and its step; the given state, which says the shapes, and 0 if there is none.

        Raises:
            ValueError: if what was saved is of another shape.
        """
        step = None if self.manager is None else self.manager.latest_step()
        if step is None:
            return state, 0
        import orbax.checkpoint as orbax

        leaves, structure = jax.tree.flatten(state)
        saved = self.manager.item_metadata(step)
        if [tuple(leaf.shape) for leaf in saved] != [leaf.shape for leaf in leaves]:
            raise ValueError(f"the checkpoint in {self.manager.directory} is of another model; name another directory")
        return jax.tree.unflatten(structure, self.manager.restore(step, args=orbax.args.StandardRestore(leaves))), step
