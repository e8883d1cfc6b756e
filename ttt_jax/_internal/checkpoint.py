"""The last state of a long computation on disk, by orbax."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

__all__ = ["Checkpoints", "keep_settings"]


def keep_settings(directory: Path, settings: dict[str, Any], growing: str) -> None:
    """Write what determines a run beside its checkpoints, or compare with what is written there.

    Args:
        directory: of the run.
        settings: numbers and lists of them, by name.
        growing: the name of the one that may be larger than before.

    Raises:
        ValueError: for a setting that is not that of the run in the directory.
    """
    file = Path(directory) / "settings.json"
    if file.exists():
        for name, earlier in json.loads(file.read_text()).items():
            if (now := settings.get(name)) != earlier and not (name == growing and now > earlier):
                need = f"at least {earlier}" if name == growing else reprlib.repr(earlier)
                raise ValueError(f"{name} must be {need} to go on with the run in {directory}, got {reprlib.repr(now)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=2) + "\n")


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
