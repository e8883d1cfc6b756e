"""Official TabPFN v2 classifier checkpoints as PFNs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.pfn import PFN, fit_params
from ttt_jax.tabular.official.torch_file import CheckpointError, read_torch_file

__all__ = ["load_tabpfn_checkpoint"]

# PyTorch's name -> ours, and whether the matrix is stored as [out, in] where ours is (in, out).
_OUTER = {
    "features": ("features.kernel", True),
    "y_encoder.2.layer.weight": ("target.kernel", True),
    "y_encoder.2.layer.bias": ("target.bias", False),
    "feature_positional_embedding_embeddings.weight": ("column.kernel", True),
    "feature_positional_embedding_embeddings.bias": ("column.bias", False),
    "decoder_dict.standard.0.weight": ("decoder_hidden.kernel", True),
    "decoder_dict.standard.0.bias": ("decoder_hidden.bias", False),
    "decoder_dict.standard.2.weight": ("decoder_output.kernel", True),
    "decoder_dict.standard.2.bias": ("decoder_output.bias", False),
}
_PER_LAYER = {
    "self_attn_between_features._w_qkv": ("layers.between_columns.qkv", False),
    "self_attn_between_features._w_out": ("layers.between_columns.out", False),
    "self_attn_between_items._w_qkv": ("layers.between_rows.qkv", False),
    "self_attn_between_items._w_out": ("layers.between_rows.out", False),
    "mlp.linear1.weight": ("layers.mlp.hidden.kernel", True),
    "mlp.linear2.weight": ("layers.mlp.output.kernel", True),
}
_FEATURE_ENCODER = re.compile(r"encoder\.\d+\.layer\.weight")  # its number depends on the encoder's other steps


def load_tabpfn_checkpoint(path: str | Path, **options: Any) -> PFN:
    """Read an official TabPFN v2 classifier checkpoint (`tabpfn-v2-classifier*.ckpt`), without PyTorch.

    Nothing in the file is executed. The weights are Prior Labs' and under their licence, which asks for attribution.

    Args:
        path: the file that a user of TabPFN has downloaded.
        options: fields of `PFNConfig`, in place of the file's: `outlier_sigma`, `column_seed`, `column_dtype`.

    Raises:
        CheckpointError: it is not such a file, in one line that says why.

    Example:
        >>> pfn = load_tabpfn_checkpoint("tabpfn-v2-classifier.ckpt")  # doctest: +SKIP
        >>> logits = pfn.apply(x_context, y_context, x_query)  # doctest: +SKIP
    """
    contents = read_torch_file(path)
    if not isinstance(contents, dict):
        raise CheckpointError(f"{path}: holds no dictionary, so it is not a TabPFN checkpoint")
    if "architecture_name" in contents:
        raise CheckpointError(
            f"{path}: architecture_name: set, so this is TabPFN v2.5 or later; a v2 classifier is needed"
        )
    for key in ("state_dict", "config"):
        if not isinstance(contents.get(key), dict):
            raise CheckpointError(f"{path}: {key}: missing or no dictionary, so it is not a TabPFN checkpoint")
    try:
        config = PFNConfig.from_tabpfn(_plain(contents["config"]), **options)
    except ValueError as error:
        raise CheckpointError(f"{path}: {str(error)[:200]}") from None
    return PFN(config, fit_params(config, _rename(contents["state_dict"], str(path)), str(path)))


def _plain(config: Mapping[Any, Any]) -> dict[Any, Any]:
    """Anything but a number or a short text, as the name of its type: nested tuples may be endless to print."""
    short = {key: value[:100] if isinstance(value, str) else value for key, value in config.items()}
    return {
        k: v if v is None or isinstance(v, bool | int | float | str) else type(v).__name__ for k, v in short.items()
    }


def _rename(state: Mapping[Any, Any], source: str) -> dict[str, np.ndarray]:
    """Our names, layers stacked. Names that we do not know are kept, for `fit_params` to refuse."""
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, np.ndarray) or tensor.dtype.kind not in "fV":
            raise CheckpointError(f"{source}: state_dict: {str(name)[:100]!r} is not a tensor of real numbers")
    if len(encoders := [name for name in state if _FEATURE_ENCODER.fullmatch(name)]) > 1:
        raise CheckpointError(f"{source}: {encoders[1]}: a second feature encoder; the v2 classifier has one")
    tensors = {"features" if _FEATURE_ENCODER.fullmatch(name) else name: tensor for name, tensor in state.items()}
    renamed = {}
    for theirs, (ours, transpose) in _OUTER.items():
        if theirs in tensors:
            tensor = _real(tensors.pop(theirs))
            renamed[ours] = tensor.T if transpose else tensor
    for theirs, (ours, transpose) in _PER_LAYER.items():
        layers = []
        for i in count():
            if (name := f"transformer_encoder.layers.{i}.{theirs}") not in tensors:
                break
            tensor = _real(tensors.pop(name))
            layers.append(tensor.T if transpose else tensor)
        if len({tensor.shape for tensor in layers}) > 1:
            raise CheckpointError(f"{source}: {theirs}: the layers differ in shape")
        if layers:
            renamed[ours] = np.stack(layers)
    return renamed | tensors


def _real(tensor: np.ndarray) -> np.ndarray:
    """Half precision is stored but never computed in."""
    return tensor if tensor.dtype == np.float64 else tensor.astype(np.float32)
