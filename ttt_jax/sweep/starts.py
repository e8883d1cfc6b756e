"""Where a cell of a sweep starts: from W, or from a model by name that is pretrained on the law of the cell's shift."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np

from ttt_jax._internal.validate import choice, positive_integer, positive_number, seed_integer
from ttt_jax.problem import Pretraining
from ttt_jax.shifts import make_shift
from ttt_jax.theory.pretrained import pretrained_weights
from ttt_jax.training.catalogue import MODELS, make_model
from ttt_jax.training.models import functional
from ttt_jax.training.pretraining import pretrain

INITS = ("pretrained", "zero")
PRETRAINING = {
    "num_steps": positive_integer,
    "batch_size": positive_integer,
    "learning_rate": positive_number,
    "seed": lambda _, value: seed_integer(value),
}
"""What a table may say of the pretraining of its model, and what checks it; the rest are parameters of the model."""


def checked_init(key: str, value: Any) -> str | dict[str, Any]:
    """A name of INITS, or the table of a model; ValueError naming the key."""
    if not isinstance(value, dict):
        return choice(key, value, INITS)
    if "model" not in value:
        raise ValueError(f"{key}.model is missing: one of {', '.join(MODELS)}")
    for name in value.keys() & PRETRAINING.keys():
        PRETRAINING[name](f"{key}.{name}", value[name])
    parameters = {name: value[name] for name in value.keys() - PRETRAINING.keys() - {"model"}}
    try:
        make_model(choice(f"{key}.model", value["model"], tuple(MODELS)), d=1, **parameters)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{key}: {error}") from None
    return value


def start_of(init: str | dict[str, Any], shift: dict[str, Any], pretraining: Pretraining) -> Any:
    """W, or (model, params) after pretraining, which cells of equal n, d and noise share."""
    if isinstance(init, dict):
        law = shift | {"n": pretraining.n, "d": pretraining.d, "noise_var": pretraining.noise_var}
        return _pretrained_model(json.dumps(init), json.dumps(law))
    return pretrained_weights(pretraining, dense=False) if init == "pretrained" else np.zeros(())


@lru_cache(8)
def _pretrained_model(init: str, law: str) -> Any:
    given = json.loads(init)
    how = {name: given.pop(name) for name in tuple(given) if name in PRETRAINING}
    pretraining, _ = make_shift(**json.loads(law), k=1)
    module = make_model(given.pop("model"), d=pretraining.d, seed=how.get("seed", 0), **given)
    model, params = functional(module)
    return model, pretrain(model, params, pretraining, progress=False, **how)
