"""Pretraining of a PFN on the synthetic prior: `python -m ttt_jax.tabular.pretraining --preset cpu --out DIR`.

A run is a pure function of its settings. Step i draws its tables from (seed, i), so a run that was killed continues
from its last checkpoint bit for bit as if it had not been. The learning rate is constant after the warm-up and falls
linearly to zero over the last `decay_steps`: a run that has not yet begun to decay can be given another number of steps
and continued. Weights and optimiser are float32; an accelerator computes in bfloat16.

What is used of a run is the average of its weights, those of step i in proportion to i^9: the last tenth, roughly.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from optax.contrib import MuonDimensionNumbers, muon

from ttt_jax._internal.checkpoint import pieces
from ttt_jax._internal.command import OneLineParser, emit, exit_status
from ttt_jax._internal.validate import positive_number
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.pretraining.config import PRESETS, PretrainConfig
from ttt_jax.tabular.pretraining.development import MEASURED, measure
from ttt_jax.tabular.pretraining.feed import compilation_cache, tables_from
from ttt_jax.tabular.pretraining.objective import loss_and_gradients
from ttt_jax.tabular.pretraining.state import State, append_log, load_state, save_state

_AVERAGE_POWER = 9
LOG_COLUMNS = ("step", "tables", "loss", "learning_rate", "cpu_hours", "prior_hours", *MEASURED)


def pretrain(config: PretrainConfig, directory: str | Path, hours: float = np.inf) -> Iterator[dict[str, Any]]:
    """Train, from the last checkpoint in `directory` if there is one; a generator of the rows of `directory`/log.csv.

    At each row a checkpoint and the averaged weights (`directory`/pfn.safetensors) have been written.

    Args:
        config: what to train.
        directory: of the run.
        hours: stop at the first checkpoint after this much time.

    Raises:
        ValueError: the directory holds a run with other settings, or one that has decayed further than `config` would;
            the weights to begin with are of another network.

    Example:
        >>> for row in pretrain(PRESETS["cpu-smoke"], "runs/smoke"):  # doctest: +SKIP
        ...     print(row)
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = load_state(config, _initial(config), directory)
    if state.step >= config.steps:
        return
    clock, deadline = _Clock(state), time.monotonic() + 3600 * hours
    with tables_from(config, state.step) as tables:
        for piece in pieces(state.step, config.steps, config.report_every):
            if time.monotonic() >= deadline:
                return
            losses = []
            for i in piece:
                batch, prior_seconds = next(tables)
                shape, sizes = config.shape(i), config.context_sizes(i)
                loss, gradients = loss_and_gradients(state.pfn, shape.most_context, batch, sizes)
                step = jnp.float32(i + 1)
                learnt = _update(config, step, state.pfn, state.optimizer, state.average, gradients)
                state = State(i + 1, state.tables + shape.tables, *clock.hours(prior_seconds), *learnt)
                losses.append(loss)
            row = _row(config, state, float(np.mean(jax.device_get(losses))))
            if config.develop_every and state.step % config.develop_every == 0:
                row |= measure(state.average)
            state.average.save(directory / "pfn.safetensors")
            append_log(directory, row, LOG_COLUMNS)
            save_state(config, state, directory)  # last: what a kill leaves undone is done again
            yield row


class _Clock:
    """CPU hours of a run, in all processes that have worked on it."""

    def __init__(self, state: State):
        self.start, self.before = time.process_time(), state

    def hours(self, prior_seconds: float) -> tuple[float, float]:
        own = time.process_time() - self.start
        used = self.before.cpu_hours + (own + prior_seconds) / 3600
        return used, self.before.prior_hours + prior_seconds / 3600


def _row(config: PretrainConfig, state: State, loss: float) -> dict[str, Any]:
    values = (state.step, state.tables, loss, _schedule(config)(state.step - 1), state.cpu_hours, state.prior_hours)
    return dict(zip(LOG_COLUMNS, (round(float(v), 6) if i > 1 else v for i, v in enumerate(values)), strict=False))


def _initial(config: PretrainConfig) -> State:
    pfn = PFN.init(config.network, config.seed) if config.start is None else PFN.load(config.start)
    if pfn.config != config.network:
        raise ValueError(f"start: {config.start} holds a network with other sizes, {pfn.config}")
    return State(0, 0, 0.0, 0.0, pfn, _optimizer(config).init(pfn), jax.tree.map(jnp.copy, pfn))


@partial(jax.jit, static_argnames="config", donate_argnames=("pfn", "state", "average"))
def _update(
    config: PretrainConfig, step: Float[Array, ""], pfn: PFN, state: Any, average: PFN, gradients: PFN
) -> tuple[PFN, Any, PFN]:
    updates, state = _optimizer(config).update(gradients, state, pfn)
    pfn = optax.apply_updates(pfn, updates)
    kept = (1 - 1 / step) ** (_AVERAGE_POWER + 1)
    return pfn, state, jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, average, pfn)


def _schedule(config: PretrainConfig) -> optax.Schedule:
    pieces = [
        optax.linear_schedule(0, config.learning_rate, config.warmup_steps),
        optax.constant_schedule(config.learning_rate),
        optax.linear_schedule(config.learning_rate, 0, config.decay_steps),
    ]
    return optax.join_schedules(pieces, [config.warmup_steps, config.steps - config.decay_steps])


def _optimizer(config: PretrainConfig) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        muon(
            _schedule(config),
            weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=_matrices,
            consistent_rms=0.2,  # updates as large as Adam's
        ),
    )


def _matrices(pfn: PFN) -> PFN:
    """Which axes of each weight are a matrix's (in, out); None for those that Adam updates."""
    heads, plain = MuonDimensionNumbers(3, (2, 4)), MuonDimensionNumbers(1, 2)
    attention = {"qkv": heads, "out": MuonDimensionNumbers((1, 2), 3), "sharpness": None}
    layers = {"between_columns": attention, "between_rows": attention, "mlp_in": plain, "mlp_out": plain}
    vote = {"qk": MuonDimensionNumbers(2, (1, 3)), "sharpness": None}
    matrices = {"layers": layers, "vote": vote, "cell_mlp": MuonDimensionNumbers(0, 1)}
    others = jax.tree.map(lambda _: None, pfn.params)
    return PFN(pfn.config, others | matrices)


def main(argv: list[str] | None = None) -> int:
    """Pretrain from the command line; 2 with one line on standard error for bad input."""
    parser = OneLineParser(
        prog="python -m ttt_jax.tabular.pretraining",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    settings = parser.add_mutually_exclusive_group(required=True)
    settings.add_argument("--preset", choices=PRESETS)
    settings.add_argument("--config", metavar="FILE.json", help="an object of PretrainConfig's fields")
    parser.add_argument("--out", required=True, metavar="DIR", help="the run: state, log.csv, pfn.safetensors; resumed")
    parser.add_argument("--hours", type=float, help="stop at the first checkpoint after this time")
    for name in ("steps", "decay-steps", "seed"):
        parser.add_argument(f"--{name}", type=int, help="in place of the preset's")
    arguments = parser.parse_args(argv)

    def work() -> int:
        hours = positive_number("--hours", arguments.hours) if arguments.hours is not None else np.inf
        if arguments.preset:
            config = PRESETS[arguments.preset]
        else:
            config = PretrainConfig.from_json(Path(arguments.config).read_text(), arguments.config)
        given = {name: getattr(arguments, name) for name in ("steps", "decay_steps", "seed")}
        config = replace(config, **{name: value for name, value in given.items() if value is not None})
        out = Path(arguments.out)
        if compilation_cache() is None:  # a piece need not compile what an earlier one has
            jax.config.update("jax_compilation_cache_dir", str(out.absolute() / "compiled"))
        for row in pretrain(config, out, hours):
            emit("  ".join(f"{name} {value}" for name, value in row.items()))
        return 0

    return exit_status(parser.prog, work)
