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
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from optax.contrib import MuonDimensionNumbers, muon

from ttt_jax.cli import OneLineParser
from ttt_jax.tabular.columns import column_draws
from ttt_jax.tabular.config import PFNConfig, require_integer
from ttt_jax.tabular.network import Table
from ttt_jax.tabular.pfn import PFN, Params
from ttt_jax.tabular.prior import MAX_CLASSES, Tasks, sample_tasks
from ttt_jax.validate import finite_number

_VALIDATION_TABLES, _VALIDATION_CONTEXT, _VALIDATION_QUERIES, _VALIDATION_FEATURES = 96, 64, 64, 8


@dataclass(frozen=True)
class PretrainConfig:
    """What determines a pretraining run.

    Attributes:
        embedding_size, num_layers, num_heads, features_per_group: sizes of the network, as in `PFNConfig`.
        steps: number of updates.
        decay_steps: over this many last updates the learning rate falls to zero.
        warmup_steps: over this many first updates it rises from zero.
        learning_rate: of Muon for the layers' matrices and of AdamW for the rest.
        weight_decay: of both.
        contexts: the largest numbers of context rows; a table has a log-uniform number between one and the one before.
        queries: number of query rows of a table.
        features: the possible numbers of columns.
        cells_per_step: rows times column vectors of all tables of a step; decides how many tables there are.
        report_every: validate, report and save after this many steps.
        seed: of weights and tables.
    """

    embedding_size: int = 64
    num_layers: int = 3
    num_heads: int = 4
    features_per_group: int = 3
    steps: int = 20_000
    decay_steps: int = 12_000
    warmup_steps: int = 300
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    contexts: tuple[int, ...] = (32, 128, 512)
    queries: int = 96
    features: tuple[int, ...] = (4, 8, 16, 32)
    cells_per_step: int = 4096
    report_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if isinstance(default, tuple):
                if not isinstance(value, tuple) or not value:
                    raise ValueError(f"{field.name} must be a list of integers >= 1, got {value!r}")
                for element in value:
                    require_integer(field.name, element, 1)
            elif isinstance(default, int):
                require_integer(field.name, value, 0 if field.name in ("seed", "decay_steps", "warmup_steps") else 1)
            elif not 0 <= finite_number(field.name, value) < 1:
                raise ValueError(f"{field.name} must be a number between 0 and 1, got {value!r}")
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError(f"steps: {self.steps} must be at least warmup_steps + decay_steps")
        if sorted(self.contexts) != list(self.contexts):
            raise ValueError(f"contexts: {self.contexts} must be increasing")
        self.network  # noqa: B018 (checks the sizes)

    @property
    def network(self) -> PFNConfig:
        return PFNConfig(self.embedding_size, self.num_layers, self.num_heads, self.features_per_group)

    @classmethod
    def from_json(cls, path: str | Path) -> PretrainConfig:
        """Read settings from a JSON object; fields that it does not name have their defaults."""
        given: Any = json.loads(Path(path).read_text())
        names = [field.name for field in fields(cls)]
        if not isinstance(given, dict) or (unknown := [name for name in given if name not in names]):
            wrong = "is no JSON object" if not isinstance(given, dict) else f"names an unknown field {unknown[0]!r}"
            raise ValueError(f"{path}: {wrong}; the fields are {', '.join(names)}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        return cls(**values)


PRESETS = {
    "cpu-smoke": PretrainConfig(
        embedding_size=16,
        num_layers=2,
        num_heads=2,
        steps=60,
        decay_steps=20,
        warmup_steps=10,
        contexts=(16,),
        queries=48,
        features=(4,),
        cells_per_step=2048,
        report_every=20,
    ),
    "cpu": PretrainConfig(),
    "gpu": PretrainConfig(
        embedding_size=128,
        num_layers=6,
        steps=30_000,
        decay_steps=6_000,
        warmup_steps=1_000,
        learning_rate=1e-3,
        contexts=(16, 48, 128, 384, 1024),
        queries=256,
        features=(2, 4, 8, 16, 32),
        cells_per_step=2**17,
    ),
}


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
        draws, started, losses = _draws(config), time.monotonic(), []
        while state.step < config.steps:
            shape = _shape(config, state.step)
            key = _key(config.seed, state.step)
            loss, gradients = _gradients(config.network, shape, state.params, key, draws[shape.features])
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


class Shape(NamedTuple):
    """Sizes of a step's tables, of which one compilation is made."""

    tables: int
    fewest_context: int
    context: int
    queries: int
    features: int


def _shape(config: PretrainConfig, step: int) -> Shape:
    rng = np.random.default_rng((config.seed, step))
    i, features = int(rng.integers(len(config.contexts))), int(rng.choice(config.features))
    fewest, context = ((4, *config.contexts)[i], config.contexts[i])
    columns = -(-features // config.features_per_group) + 1
    tables = max(1, round(config.cells_per_step / (columns * (context + config.queries))))
    return Shape(tables, min(fewest, context), context, config.queries, features)


def _key(seed: int, step: int) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.key(seed), step)


def _draws(config: PretrainConfig) -> dict[int, Float[np.ndarray, "G E/4"]]:
    network = config.network
    groups = {features: -(-features // config.features_per_group) for features in config.features}
    return {f: column_draws(network.column_seed, g, network.column_size) for f, g in groups.items()}


@partial(jax.jit, static_argnames=("config", "shape"))
def _gradients(config: PFNConfig, shape: Shape, params: Params, key: PRNGKeyArray, draws: Array):
    """Loss and gradients on fresh tables."""
    task_key, size_key = jax.random.split(key)
    tasks = sample_tasks(task_key, shape.tables, shape.context + shape.queries, shape.features)
    log_size = jax.random.uniform(
        size_key, (shape.tables,), minval=np.log(shape.fewest_context), maxval=np.log(shape.context + 1)
    )
    sizes = jnp.minimum(jnp.exp(log_size).astype(int), shape.context)
    is_context = jnp.arange(shape.context) < sizes[:, None]
    return jax.value_and_grad(_loss)(params, config, tasks, is_context, draws)


@partial(jax.jit, static_argnames="config", donate_argnames=("params", "state"))
def _update(config: PretrainConfig, params: Params, state: Any, gradients: Params) -> tuple[Params, Any]:
    updates, state = _optimizer(config).update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def _loss(
    params: Params, config: PFNConfig, tasks: Tasks, is_context: Bool[Array, "B N"], draws: Float[Array, "G E/4"]
) -> Float[Array, ""]:
    """Mean cross-entropy of the query rows whose class occurs in their context."""
    if jax.default_backend() != "cpu":
        params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    logits, target, known = _answers(params, config, tasks, is_context, draws)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    return jnp.where(known, losses, 0).sum() / jnp.maximum(known.sum(), 1)


def _answers(params, config, tasks, is_context, draws):
    """Logits of the query rows, -inf for ranks that no class of the context has; their ranks; whether they have one."""
    n, pfn = is_context.shape[1], PFN(config, params)
    y_context, y_query = tasks.y[:, :n], tasks.y[:, n:]

    def one_table(x, y, is_context):
        marks = is_context, jnp.ones(x.shape[0] - n, bool), jnp.ones(draws.shape[0], bool)
        return pfn.apply_table(params, Table(x[:n], y.astype(x.dtype), x[n:], *marks, draws))

    logits = jax.vmap(one_table)(tasks.x, y_context, is_context).astype(jnp.float32)
    present = (jax.nn.one_hot(y_context, MAX_CLASSES, dtype=bool) & is_context[..., None]).any(1)
    rank = jnp.cumsum(present, axis=1) - 1
    exists = jnp.arange(MAX_CLASSES) < present.sum(1, keepdims=True)
    logits = jnp.where(exists[:, None], logits, -jnp.inf)
    target = jnp.take_along_axis(rank, y_query, axis=1)
    known = jnp.take_along_axis(present, y_query, axis=1)
    return logits, jnp.maximum(target, 0), known


def validation_accuracy(config: PretrainConfig, params: Params) -> float:
    """Accuracy with 64 context rows on tables of the prior that no step trains on, the same for every network."""
    draws = column_draws(0, -(-_VALIDATION_FEATURES // config.features_per_group), config.network.column_size)
    return float(_validation_accuracy(config.network, params, draws))


@partial(jax.jit, static_argnames="config")
def _validation_accuracy(config: PFNConfig, params: Params, draws: Array) -> Float[Array, ""]:
    rows = _VALIDATION_CONTEXT + _VALIDATION_QUERIES
    key = jax.random.fold_in(jax.random.key(0), 2**32 - 1)  # no run has this many steps
    tasks = sample_tasks(key, _VALIDATION_TABLES, rows, _VALIDATION_FEATURES)
    is_context = jnp.ones((_VALIDATION_TABLES, _VALIDATION_CONTEXT), bool)
    logits, target, known = _answers(params, config, tasks, is_context, draws)
    return ((logits.argmax(-1) == target) & known).mean()


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
