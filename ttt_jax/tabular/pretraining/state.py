"""What a run has reached, in files that a kill cannot leave half written."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import PyTree

from ttt_jax._internal.checkpoint import load, require_same_settings, save
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.pretraining.config import PretrainConfig

_LOG = "log.csv"


class State(NamedTuple):
    """The updates made, the tables seen, the CPU hours used (those of the prior among them), and what was learnt."""

    step: int
    tables: int
    cpu_hours: float
    prior_hours: float
    pfn: PFN
    optimizer: PyTree
    average: PFN


def save_state(config: PretrainConfig, state: State, directory: Path) -> None:
    """Replace the directory's state."""
    save(directory, asdict(config), state[:4], state[4:])


def load_state(config: PretrainConfig, initial: State, directory: Path) -> State:
    """The directory's state, or the initial one.

    Raises:
        ValueError: it is of a run with settings that would have given other weights.
    """
    if (saved := load(directory)) is None:
        return initial
    earlier = PretrainConfig.from_json(saved.settings, directory)
    step, (begins, began) = saved.progress[0], (c.steps - c.decay_steps for c in (config, earlier))
    decays = step > began
    free = ("report_every", "develop_every", *(() if decays else ("steps", "decay_steps")))
    require_same_settings(asdict(config), asdict(earlier), directory, free)
    if not decays and begins < step:
        raise ValueError(f"steps - decay_steps must be at least {step} to resume the run in {directory}, got {begins}")
    return State(*saved.progress, *saved.state(like=initial[4:]))


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
