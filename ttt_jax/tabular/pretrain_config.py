"""What determines a pretraining run, and the runs that have a name."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ttt_jax._internal.validate import finite_number
from ttt_jax.tabular.config import PFNConfig, require_integer


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
