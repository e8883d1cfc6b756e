"""Live parity with the official package, where PyTorch and tabpfn are installed (docs/tabular.md)."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tables

pytest.importorskip("torch")
pytest.importorskip("tabpfn")

import official
import torch

from ttt_jax.tabular import load_tabpfn_checkpoint

CASES = tables.cases()


def random_checkpoint(folder, **sizes):
    path = folder / "random.ckpt"
    official.write_random_checkpoint(path, official.FULL_SIZE | sizes, seed=3)
    return path


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Other sizes than the official ones, in every respect."""
    return random_checkpoint(tmp_path_factory.mktemp("other"), emsize=128, nhead=4, nlayers=4, features_per_group=1)


@pytest.mark.parametrize("name", CASES)
def test_float32(full_size, name):
    case = CASES[name]
    pfn = load_tabpfn_checkpoint(full_size, outlier_sigma=case.outlier_sigma)
    with torch.inference_mode():
        expected = official.logits(official.load(full_size, case.outlier_sigma), *case[:3]).numpy()
    logits = pfn.apply(*(a.astype(np.float32) for a in case[:3]))
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("draws", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_float64(checkpoint, name, draws, monkeypatch):
    """With the draws that the package makes in float64, and with those that the weights were trained with."""
    case = CASES[name]
    pfn = load_tabpfn_checkpoint(checkpoint, outlier_sigma=case.outlier_sigma, column_dtype=draws)
    model = official.load(checkpoint, case.outlier_sigma, torch.float64)
    if draws == "float32":
        randn = torch.randn
        monkeypatch.setattr(torch, "randn", lambda *shape, dtype, **other: randn(*shape, **other).to(dtype))
    with torch.inference_mode():
        expected = official.logits(model, *case[:3]).numpy()
    with jax.enable_x64(True):
        logits = np.asarray(pfn.apply(*case[:3]))
    np.testing.assert_allclose(logits, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("rows", [5, 37, 300])
@pytest.mark.parametrize("features", [2, 4, 7, 20])
def test_columns_constant_in_the_context(checkpoint, rows, features):
    """Whether the mean rounds to the constant depends on the order of additions, see `torch_sum`."""
    rng = np.random.default_rng(rows * features)
    x, y = rng.normal(size=(rows + 4, features)).astype(np.float32), rng.integers(0, 3, rows).astype(np.float32)
    x[:rows, 1::2] = rng.normal(size=features // 2)
    pfn = load_tabpfn_checkpoint(checkpoint)
    with torch.inference_mode():
        expected = official.logits(official.load(checkpoint), x[:rows], y, x[rows:]).numpy()
    np.testing.assert_allclose(pfn.apply(x[:rows], y, x[rows:]), expected, atol=1e-5, rtol=0)


def test_gradients(checkpoint):
    case = CASES["NaN and infinities"]
    _, expected = official.loss_and_gradients(official.load(checkpoint), *case[:3])
    pfn = load_tabpfn_checkpoint(checkpoint)
    x = tuple(a.astype(np.float32) for a in case[:3])
    layers = jax.grad(lambda pfn: (pfn.apply(*x) ** 2).sum())(pfn).params["layers"]
    for i in range(pfn.config.num_layers):
        gradient = expected[f"transformer_encoder.layers.{i}.self_attn_between_items._w_qkv"]
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(layers["between_rows"]["qkv"][i], gradient, atol=1e-4 * scale, rtol=0)


def test_the_seed_of_the_configuration_counts(tmp_path):
    case = CASES["odd features"]
    official.write_random_checkpoint(tmp_path / "seed.ckpt", official.FULL_SIZE | {"nlayers": 2, "seed": 5})
    pfn = load_tabpfn_checkpoint(tmp_path / "seed.ckpt")
    with torch.inference_mode():
        expected = official.logits(official.load(tmp_path / "seed.ckpt"), *case[:3]).numpy()
    np.testing.assert_allclose(pfn.apply(*(a.astype(np.float32) for a in case[:3])), expected, atol=1e-5, rtol=0)
    unseeded = replace(pfn, config=replace(pfn.config, column_seed=0))
    assert np.abs(unseeded.apply(*case[:3]) - expected).max() > 1e-3
