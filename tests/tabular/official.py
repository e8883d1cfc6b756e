"""The official package on random weights: what the fixtures are made with and the live tests compare to.

Needs PyTorch and tabpfn; docs/tabular.md tells how to make an environment that has both.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

os.environ["TABPFN_DISABLE_TELEMETRY"] = "1"

import numpy as np
import torch
from tabpfn.architectures import base
from tabpfn.utils import update_encoder_params

FULL_SIZE = {"max_num_classes": 10, "num_buckets": 1000}


def build(config: dict):
    parsed, _ = base.parse_config(config)
    model = base.get_architecture(parsed, n_out=parsed.max_num_classes, cache_trainset_representation=False)
    return parsed, model.eval()


def write_random_checkpoint(path: str | Path, config: dict = FULL_SIZE, seed: int = 0) -> None:
    """A checkpoint in the official format, every parameter drawn from a NumPy seed."""
    parsed, model = build(config)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = (parameter.shape[-1] if parameter.ndim > 1 else 1) ** -0.5
            parameter.copy_(torch.from_numpy(rng.normal(0, scale, parameter.shape)))
    torch.save({"state_dict": model.state_dict(), "config": asdict(parsed)}, path)


def load(path: str | Path, outlier_sigma: float | None = None, dtype: torch.dtype = torch.float32):
    contents = torch.load(path, weights_only=True)
    _, model = build(contents["config"])
    model.load_state_dict(contents["state_dict"])
    update_encoder_params(model, outlier_sigma, 0, inplace=True)
    return model.to(dtype)


def logits(model, x_context: np.ndarray, y_context: np.ndarray, x_query: np.ndarray) -> torch.Tensor:
    """(M, outputs), or (batch, M, outputs) for a batch of tables."""
    batched = x_context.ndim == 3
    dtype = next(model.parameters()).dtype
    x = torch.from_numpy(np.concatenate([x_context, x_query], axis=-2)).to(dtype)
    y = torch.from_numpy(np.asarray(y_context)).to(dtype)
    out = model(x.transpose(0, 1) if batched else x[:, None], y.T if batched else y[:, None])
    return out.transpose(0, 1) if batched else out[:, 0]


def loss_and_gradients(model, x_context, y_context, x_query) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The sum of squared logits, which every output enters, and its gradient by parameter name."""
    loss = (logits(model, x_context, y_context, x_query) ** 2).sum()
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    return loss.detach().numpy(), gradients
