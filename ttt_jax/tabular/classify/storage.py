"""Fitted classifiers in one file, without pickle: arrays as safetensors, everything else as JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ttt_jax.tabular.classify.ensemble import Ensemble
from ttt_jax.tabular.classify.members import Plan
from ttt_jax.tabular.classify.tuning import Score
from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.pfn import PFN, fit_params
from ttt_jax.tabular.official.torch_file import CheckpointError

_FORMAT = "ttt_jax.tabular.classifier/1"
_NETWORK = "network."
_ARRAYS = {"X": "f", "labels": "i", "ranks": "i", "columns": "i", "offsets": "f", "class_weights": "f"}
_MOST_MEMBERS = 10_000


def save_classifier(model: Any, path: str | Path) -> None:
    """Write a fitted classifier: its network, its rows and what it has learnt about the columns.

    Raises:
        ValueError: its labels are neither numbers nor strings.
    """
    ensemble, plan = model.ensemble_, model.ensemble_.plan
    tensors = {
        "X": ensemble.X,
        "labels": ensemble.labels.astype(np.int64),
        "ranks": plan.ranks.astype(np.int64),
        "columns": model.columns_.astype(np.int64),
        "offsets": np.asarray(model.offsets_, np.float64),
        "class_weights": model.class_weights_.astype(np.float64),
    }
    tensors |= {f"context.{i}": rows.astype(np.int64) for i, rows in enumerate(plan.contexts)}
    for name, value in traverse_util.flatten_dict(model.pfn_.params).items():
        tensors[_NETWORK + ".".join(name)] = np.asarray(value)
    options = {k: v for k, v in model.get_params(deep=False).items() if _is_plain(v) and k not in ("weights", "device")}
    content = {
        "class": type(model).__name__,
        "options": options,
        "network": asdict(model.pfn_.config),
        "classes": _classes_as_json(model.classes_),
        "categories": model.categories_,
        "names": list(model.feature_names_in_) if hasattr(model, "feature_names_in_") else None,
        "features": model.n_features_in_,
        "members": plan.number,
        "contexts": len(plan.contexts),
        "shown": plan.shown,
        "seed": int(plan.seed),
        "predicted": ensemble.predicted,
        "temperature": model.temperature_,
        "scores": [list(score) for score in getattr(model, "scores_", [])],
        "chosen": list(model.chosen_) if hasattr(model, "chosen_") else None,
    }
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(contiguous, path, metadata={"format": _FORMAT, "content": json.dumps(content)})


def load_classifier(path: str | Path, kinds: Mapping[str, type]) -> Any:
    """Read a file of `save_classifier`; nothing in it is executed.

    Args:
        path: the file.
        kinds: the classes that it may hold, by name.

    Raises:
        CheckpointError: it is not such a file, or what it says does not fit together.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if (found := metadata.get("format")) != _FORMAT:
                raise CheckpointError(f"{path}: format {found!r:.100} is not {_FORMAT!r}; use a file of save")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return _restored(json.loads(metadata["content"]), tensors, kinds, str(path))
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({_one_line(error)})") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({_one_line(error)})") from None
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, or not written by save ({_one_line(error)})") from None


def _restored(content: dict[str, Any], tensors: dict[str, np.ndarray], kinds: Mapping[str, type], path: str) -> Any:
    arrays = {name: tensors[name] for name in _ARRAYS}
    for name, array in arrays.items():
        _require(array.dtype.kind == _ARRAYS[name] and array.ndim == (2 if name == "X" else 1), name)
    X, labels = arrays["X"], arrays["labels"]
    classes, features = _classes_from_json(content["classes"]), content["features"]
    contexts = [tensors[f"context.{i}"] for i in range(min(content["contexts"], len(tensors)))]
    plan = Plan(content["members"], contexts, arrays["ranks"], content["shown"], content["seed"])
    _require(isinstance(features, int) and features >= 1, "features")
    _require(len(X) == len(labels) >= 1 and _within(labels, len(classes)), "labels")
    _require(X.dtype == np.float32 and X.shape[1] == len(arrays["columns"]) >= 1, "X")
    _require(_within(arrays["columns"], features) and len(set(arrays["columns"])) == X.shape[1], "columns")
    _require(arrays["offsets"].shape == (features,) and np.isfinite(arrays["offsets"]).all(), "offsets")
    _require(sorted(plan.ranks) == list(range(len(classes))), "ranks")
    weights = arrays["class_weights"]
    _require(weights.shape == classes.shape and (weights > 0).all() and np.isfinite(weights).all(), "class_weights")
    _require(all(r.dtype.kind == "i" and r.ndim == 1 and len(r) and _within(r, len(X)) for r in contexts), "contexts")
    for name, most in (("members", _MOST_MEMBERS), ("shown", len(classes)), ("predicted", len(classes))):
        _require(isinstance(content[name], int) and 1 <= content[name] <= most, name)
    _require(len(contexts) == content["contexts"] >= 1 and 0 <= content["seed"] < 2**32, "contexts")
    _require(0 < content["temperature"] < np.inf, "temperature")

    config = PFNConfig(**content["network"])
    _require(len(classes) <= config.num_classes, "classes")
    network = {name.removeprefix(_NETWORK): t for name, t in tensors.items() if name.startswith(_NETWORK)}
    pfn = PFN(config, jax.tree.map(jnp.asarray, fit_params(config, network, path)))
    _require(content["class"] in kinds, "class")
    model = kinds[content["class"]](pfn, **content["options"])
    model._require_parameters()
    model.pfn_, model.classes_, model.n_features_in_ = pfn, classes, features
    model.categories_ = {int(i): [str(name) for name in names] for i, names in content["categories"].items()}
    if content["names"] is not None:
        model.feature_names_in_ = np.array([str(name) for name in content["names"]], dtype=object)
        _require(len(model.feature_names_in_) == features, "names")
    model.columns_, model.offsets_, model.class_weights_ = arrays["columns"], arrays["offsets"], weights
    model.temperature_ = float(content["temperature"])
    if hasattr(model, "mode"):
        model.scores_ = [Score(*score) for score in content["scores"]]
        if content["chosen"] is not None:
            model.chosen_ = Score(*content["chosen"])
    model._use(Ensemble.draw(X, labels, model._is_categorical(), plan, content["predicted"]))
    return model


def _require(fits: Any, name: str) -> None:
    if not fits:
        raise ValueError(f"{name} does not fit the rest")


def _within(values: np.ndarray, limit: int) -> bool:
    return bool((values >= 0).all() and (values < limit).all())


def _is_plain(value: Any) -> bool:
    """JSON gives it back as it is."""
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def _classes_as_json(classes: np.ndarray) -> dict[str, Any]:
    texts = classes.dtype.kind == "O" and all(isinstance(name, str) for name in classes)
    if not texts and classes.dtype.kind not in "iufbU":
        raise ValueError(f"labels must be numbers or strings to be saved, got labels of type {classes.dtype}")
    return {"dtype": classes.dtype.str, "values": classes.tolist()}


def _classes_from_json(found: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(found["dtype"])
    _require(dtype.kind in "iufbUO" and found["values"], "classes")
    if dtype.kind == "O":
        _require(all(isinstance(name, str) for name in found["values"]), "classes")
    classes = np.array(found["values"], dtype=dtype if dtype.kind in "iufbO" else str)
    _require(classes.ndim == 1 and len(np.unique(classes)) == len(classes), "classes")
    return classes


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
