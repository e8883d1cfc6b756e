"""What determines a pretraining run, and the runs that have a name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from ttt_jax._internal.validate import finite_number, shown
from ttt_jax.tabular.network.config import PFNConfig, require_integer
from ttt_jax.tabular.pretraining.prior import PriorConfig

__all__ = ["PRESETS", "PretrainConfig", "Shape"]

_FEWEST_CONTEXT = 8


class Shape(NamedTuple):
    """Sizes of a step's tables, of which one compilation is made."""

    tables: int
    rows: int
    features: int

    @property
    def most_context(self) -> int:
        return self.rows * 4 // 5


@dataclass(frozen=True)
class PretrainConfig:
    """What determines a pretraining run.

    A step's tables have one number of rows and a largest number of features, drawn by the shares; there are as many of
    them as fill `cells_per_step` cells at that number of features, so that steps cost about the same.

    Attributes:
        embedding_size, num_layers, num_heads, thinking_rows: sizes of the network, as in `PFNConfig`.
        steps: number of updates.
        decay_steps: over this many last updates the learning rate falls to zero.
        warmup_steps: over this many first updates it rises from zero.
        learning_rate: of Muon for the matrices and of AdamW for the rest.
        weight_decay: of the matrices.
        rows, row_shares: the numbers of rows of a table, context and queries, and the share of the steps of each.
        features, feature_shares: the largest numbers of columns, and their shares.
        cells_per_step: rows times features, over the tables of a step.
        most_cells: of a table; wider tables have fewer rows.
        prior: the shares of the kinds of table.
        stored: directory of tables that another program has drawn, in place of the prior's; for the control arm.
        start: file of the weights to begin with, of `PFN.save`; None for random ones.
        on_device: draw the tables on the accelerator, not in a separate process.
        report_every: updates between checkpoints, each with a row of the log.
        develop_every: updates between measurements of the accuracy on real tables; 0 for none.
        seed: of weights and tables.
    """

    embedding_size: int = 128
    num_layers: int = 6
    num_heads: int = 2
    thinking_rows: int = 16
    steps: int = 1_000_000
    decay_steps: int = 0
    warmup_steps: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    rows: tuple[int, ...] = (64, 128, 256, 512, 1024)
    row_shares: tuple[float, ...] = (0.1, 0.15, 0.15, 0.2, 0.4)
    features: tuple[int, ...] = (4, 8, 16, 32, 64)
    feature_shares: tuple[float, ...] = (0.2, 0.3, 0.3, 0.15, 0.05)
    cells_per_step: int = 20_480
    most_cells: int = 2**15
    prior: PriorConfig = field(default_factory=PriorConfig)
    stored: str | None = None
    start: str | None = None
    on_device: bool = False
    report_every: int = 50
    develop_every: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "cells_per_step", "most_cells", "report_every"):
            require_integer(name, getattr(self, name), 1)
        for name in ("decay_steps", "warmup_steps", "develop_every", "seed"):
            require_integer(name, getattr(self, name), 0)
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= finite_number(name, getattr(self, name)) < 1:
                raise ValueError(f"{name} must be a number between 0 and 1, got {getattr(self, name)!r}")
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError(f"steps must be at least warmup_steps + decay_steps, got {self.steps}")
        for sizes, shares in (("rows", "row_shares"), ("features", "feature_shares")):
            if not getattr(self, sizes):
                raise ValueError(f"{sizes} must be a list of integers, got none")
            for size in getattr(self, sizes):
                require_integer(sizes, size, {"rows": 16, "features": 1}[sizes])
            if len(getattr(self, shares)) != len(getattr(self, sizes)) or min(getattr(self, shares)) < 0:
                raise ValueError(f"{shares} must be a share for each of {sizes}, got {getattr(self, shares)}")
            if abs(sum(getattr(self, shares)) - 1) > 1e-6:
                raise ValueError(f"{shares} must sum to 1, got {sum(getattr(self, shares)):g}")
        if self.most_cells < min(self.rows) * max(self.features):
            raise ValueError(
                f"most_cells must be at least {min(self.rows)} rows of {max(self.features)}, got {self.most_cells}"
            )
        if self.stored and self.on_device:
            raise ValueError(f"stored: the tables of {self.stored} are read on the host; set on_device to false")
        self.network  # noqa: B018 (checks the sizes)

    @property
    def network(self) -> PFNConfig:
        return PFNConfig(
            self.embedding_size,
            self.num_layers,
            self.num_heads,
            mlp_factor=3,
            architecture="slots",
            thinking_rows=self.thinking_rows,
        )

    def shape(self, step: int) -> Shape:
        """Of the tables of a step."""
        rng = np.random.default_rng((self.seed, step))
        features = int(rng.choice(self.features, p=self.feature_shares))
        rows = int(rng.choice(self.rows, p=self.row_shares))
        rows = max(r for r in self.rows if r <= rows and r * features <= self.most_cells)
        return Shape(max(1, round(self.cells_per_step / (rows * features))), rows, features)

    def context_sizes(self, step: int) -> Int[np.ndarray, " tables"]:
        """Of each table of a step: half to four fifths of its rows; from 8 up, log-uniform, in the smallest tables."""
        shape, rng = self.shape(step), np.random.default_rng((self.seed, step, 1))
        fewest = _FEWEST_CONTEXT if shape.rows == self.rows[0] else shape.rows // 2
        log = rng.uniform(np.log(fewest), np.log(shape.most_context + 1), shape.tables)
        return np.minimum(np.exp(log).astype(np.int32), shape.most_context)

    @classmethod
    def from_json(cls, text: str, source: str | Path) -> PretrainConfig:
        """Settings from a JSON object; fields that it does not name have their defaults."""
        try:
            given: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{source}: not JSON ({error})") from None
        names = [f.name for f in fields(cls)]
        if not isinstance(given, dict) or (unknown := [name for name in given if name not in names]):
            wrong = "is not a JSON object" if not isinstance(given, dict) else f"names an unknown field {unknown[0]!r}"
            raise ValueError(f"{source}: {wrong}; the fields are {', '.join(names)}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        if "prior" in values:
            shares, known = values["prior"], [f.name for f in fields(PriorConfig)]
            if not isinstance(shares, dict) or not shares.keys() <= set(known):
                raise ValueError(f"{source}: prior must be an object of {', '.join(known)}, got {shown(shares)}")
            values["prior"] = PriorConfig(**shares)
        return cls(**values)


_CPU = PretrainConfig()
PRESETS = {
    "cpu-smoke": PretrainConfig(
        embedding_size=32,
        num_layers=2,
        num_heads=1,
        thinking_rows=4,
        steps=60,
        decay_steps=20,
        warmup_steps=5,
        learning_rate=5e-3,
        rows=(64,),
        row_shares=(1.0,),
        features=(4,),
        feature_shares=(1.0,),
        cells_per_step=1024,
        report_every=20,
        develop_every=0,
    ),
    "cpu": _CPU,
    "pilot-128": _CPU,
    "pilot-192": replace(_CPU, embedding_size=192, num_layers=5, num_heads=3),
    "gpu": replace(
        _CPU,
        embedding_size=192,
        num_layers=5,
        num_heads=3,
        steps=25_000,
        decay_steps=6_000,
        warmup_steps=500,
        cells_per_step=2**18,
        on_device=True,
        report_every=500,
        develop_every=0,
    ),
}
