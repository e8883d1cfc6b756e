"""Pretraining of a PFN on the synthetic prior: `python -m ttt_jax.tabular.pretrain --preset cpu --out DIR`.

A run is a pure function of its settings. Step i draws its tables from the key (seed, i), so a run that was interrupted
continues from its newest checkpoint bit for bit as if it had not been. The learning rate is constant after the warm-up
and falls linearly to zero over the last `decay_steps`: a run that has not yet begun to decay can be given another
number of steps and continued. Weights and optimiser are float32; an accelerator computes in bfloat16.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers, muon

from ttt_jax.cli.main import OneLineParser
from ttt_jax.tabular.objective import loss_and_gradients, validation_accuracy
from ttt_jax.tabular.pfn import PFN, Params
from ttt_jax.tabular.pretrain_config import PRESETS, PretrainConfig


class State(NamedTuple):
    """What a checkpoint holds: the number of updates made, and what they made."""

    step: int
    params: Params
    optimizer: Any


class Report(NamedTuple):
    """Progress: mean loss since the last report, accuracy on held-out tables, seconds since the start or resumption."""

    step: int
    loss: float
    accuracy: float
    seconds: float


def pretrain(config: PretrainConfig, directory: str | Path) -> Iterator[Report]:
    """Train, from the newest checkpoint in `directory` if there is one; a generator of reports.

    At each report, a checkpoint and the weights (`directory`/pfn.safetensors) have been written.

    Raises:
        ValueError: the directory holds a run with other settings, or one that has decayed further than `config` would.

    Example:
        >>> for report in pretrain(PRESETS["cpu-smoke"], "runs/smoke"):  # doctest: +SKIP
        ...     print(report)
    """
    directory = Path(directory).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(directory / "checkpoints", options=options) as manager:
        _require_same_settings(config, directory / "config.json", manager.latest_step() or 0)
        state = _restore(config, manager)
        started, losses = time.monotonic(), []
        while state.step < config.steps:
            loss, gradients = loss_and_gradients(config, state.params, state.step)
            state = State(state.step + 1, *_update(config, state.params, state.optimizer, gradients))
            losses.append(loss)
            if state.step % config.report_every == 0 or state.step == config.steps:
                manager.save(state.step, args=ocp.args.StandardSave(_leaves(state)))
                manager.wait_until_finished()
                PFN(config.network, state.params).save(directory / "pfn.safetensors")
                report = Report(
                    state.step,
                    float(np.mean(losses)),
                    validation_accuracy(config, state.params),
                    time.monotonic() - started,
                )
                losses = []
                yield report


@partial(jax.jit, static_argnames="config", donate_argnames=("params", "state"))
def _update(config: PretrainConfig, params: Params, state: Any, gradients: Params) -> tuple[Params, Any]:
    updates, state = _optimizer(config).update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def _optimizer(config: PretrainConfig) -> optax.GradientTransformation:
    pieces = [
        optax.linear_schedule(0, config.learning_rate, config.warmup_steps),
        optax.constant_schedule(config.learning_rate),
        optax.linear_schedule(config.learning_rate, 0, config.decay_steps),
    ]
    schedule = optax.join_schedules(pieces, [config.warmup_steps, config.steps - config.decay_steps])
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        muon(
            schedule,
            weight_decay=config.weight_decay,
            adam_weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=_matrices,
            consistent_rms=0.2,  # updates as large as Adam's
        ),
    )


def _matrices(params: Params) -> Any:
    """Which axes of each weight are a matrix's (in, out), for the layers' weights; Adam updates the others."""
    attention = {"qkv": MuonDimensionNumbers(4, (2, 3)), "out": MuonDimensionNumbers((1, 2), 3)}
    mlp = {"hidden": {"kernel": MuonDimensionNumbers(1, 2)}, "output": {"kernel": MuonDimensionNumbers(1, 2)}}
    layers = {"between_columns": attention, "between_rows": attention, "mlp": mlp}
    return {name: layers if name == "layers" else jax.tree.map(lambda _: None, p) for name, p in params.items()}


def _restore(config: PretrainConfig, manager: ocp.CheckpointManager) -> State:
    """The state of the newest checkpoint, or the initial one."""
    params = PFN.init(config.network, config.seed).params
    state = State(0, params, _optimizer(config).init(params))
    if (newest := manager.latest_step()) is None:
        return state
    leaves = _leaves(state)
    saved = manager.restore(
        newest, args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, leaves))
    )
    params, optimizer = jax.tree.unflatten(jax.tree.structure(state[1:]), [saved[name] for name in leaves])
    return State(newest, params, optimizer)


def _leaves(state: State) -> dict[str, Array]:
    """The arrays of a state under numbers, as checkpoints name them."""
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state[1:]))}


def _require_same_settings(config: PretrainConfig, file: Path, newest: int) -> None:
    """Refuse to continue a run under settings that would have given other weights up to its newest checkpoint."""
    if file.exists() and newest:
        earlier = PretrainConfig.from_json(file)
        same = replace(earlier, steps=config.steps, decay_steps=config.decay_steps, report_every=config.report_every)
        if same != config:
            name = next(f.name for f in fields(config) if getattr(same, f.name) != getattr(config, f.name))
            value = getattr(config, name)
            raise ValueError(f"{name}: {value!r} is not the {getattr(earlier, name)!r} of the run in {file.parent}")
        decay_start = min(earlier.steps - earlier.decay_steps, config.steps - config.decay_steps)
        schedules = {(c.steps, c.decay_steps) for c in (earlier, config)}
        if len(schedules) > 1 and newest > decay_start:
            raise ValueError(
                f"steps: the run in {file.parent} is at step {newest}; its decay can no longer begin at {decay_start}"
            )
    file.write_text(json.dumps(asdict(config), indent=2) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Pretrain from the command line; 2 with one line on standard error for bad input."""
    parser = OneLineParser(
        prog="python -m ttt_jax.tabular.pretrain", description="Pretrain a PFN on the synthetic prior."
    )
    settings = parser.add_mutually_exclusive_group(required=True)
    settings.add_argument("--preset", choices=PRESETS)
    settings.add_argument("--config", metavar="FILE.json", help="an object of PretrainConfig's fields")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="checkpoints, log.jsonl and pfn.safetensors; resumed"
    )
    parser.add_argument("--steps", type=int, help="in place of the preset's")
    parser.add_argument("--decay-steps", type=int, help="in place of the preset's")
    arguments = parser.parse_args(argv)
    try:
        config = PRESETS[arguments.preset] if arguments.preset else PretrainConfig.from_json(arguments.config)
        given = {"steps": arguments.steps, "decay_steps": arguments.decay_steps}
        config = replace(config, **{name: value for name, value in given.items() if value is not None})
        for report in pretrain(config, arguments.out):
            print(
                f"step {report.step}/{config.steps}  loss {report.loss:.4f}  "
                f"accuracy {report.accuracy:.4f}  {report.seconds:.0f} s",
                flush=True,
            )
            with (Path(arguments.out) / "log.jsonl").open("a") as log:
                log.write(json.dumps(report._asdict()) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
