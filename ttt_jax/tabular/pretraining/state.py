"""What a run has reached, in files that a kill cannot leave half written."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from safetensors import safe_open
from safetensors.numpy import save_file

from ttt_jax.tabular.network.pfn import Params
from ttt_jax.tabular.pretraining.config import PretrainConfig

_FILE, _LOG = "state.safetensors", "log.csv"


class State(NamedTuple):
    """The updates made, the tables seen, the CPU hours used (those of the prior among them), and what was learnt."""

    step: int
    tables: int
    cpu_hours: float
    prior_hours: float
    params: Params
    optimizer: PyTree
    average: Params


def save_state(config: PretrainConfig, state: State, directory: Path) -> None:
    """Replace the directory's state."""
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state[4:]))}
    metadata = {"config": json.dumps(asdict(config)), "progress": json.dumps(state[:4])}
    temporary = directory / f"{_FILE}.new"
    save_file(arrays, temporary, metadata=metadata)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(directory / _FILE)


def load_state(config: PretrainConfig, initial: State, directory: Path) -> State:
    """The directory's state, or the initial one.

    Raises:
        ValueError: it is of a run with settings that would have given other weights.
    """
    path = directory / _FILE
    if not path.exists():
        return initial
    with safe_open(path, framework="numpy") as file:
        metadata, leaves = file.metadata(), [file.get_tensor(str(i)) for i in range(len(file.keys()))]
    progress = json.loads(metadata["progress"])
    _require_same_settings(config, PretrainConfig.from_json(metadata["config"], path), progress[0], directory)
    return State(*progress, *jax.tree.unflatten(jax.tree.structure(initial[4:]), map(jax.numpy.asarray, leaves)))


def _require_same_settings(config: PretrainConfig, earlier: PretrainConfig, step: int, directory: Path) -> None:
    free = {name: getattr(config, name) for name in ("steps", "decay_steps", "report_every", "develop_every")}
    same = replace(earlier, **free)
    if same != config:
        name = next(f.name for f in fields(config) if getattr(same, f.name) != getattr(config, f.name))
        ours, theirs = getattr(config, name), getattr(earlier, name)
        raise ValueError(f"{name}: {ours!r} is not the {theirs!r} of the run in {directory}")
    decay_start = min(c.steps - c.decay_steps for c in (earlier, config))
    if (earlier.steps, earlier.decay_steps) != (config.steps, config.decay_steps) and step > decay_start:
        raise ValueError(
            f"steps: the run in {directory} is at step {step}; its decay can no longer begin at {decay_start}"
        )


def append_log(directory: Path, row: dict[str, Any], columns: tuple[str, ...]) -> None:
    """Append a row, after those of earlier steps."""
    path = directory / _LOG
    rows = []
    if path.exists():
        with path.open(newline="") as file:  # rows of steps that a killed process had made but not saved
            rows = [earlier for earlier in csv.DictReader(file) if int(earlier["step"]) < row["step"]]
    temporary = directory / f"{_LOG}.new"
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])
    temporary.replace(path)
