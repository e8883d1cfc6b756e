"""The loss of pretraining against the network's public interface."""

import jax
import numpy as np
import pytest

from ttt_jax.tabular import PFN, PFNConfig
from ttt_jax.tabular.pretraining import objective
from ttt_jax.tabular.pretraining.objective import loss_and_gradients
from ttt_jax.tabular.pretraining.prior import Tables

CONFIG = PFNConfig(16, num_layers=1, num_heads=1, mlp_factor=3, architecture="slots", thinking_rows=2)
ROWS, MOST_CONTEXT = 30, 24


@pytest.fixture(scope="module")
def pfn():
    rng = np.random.default_rng(0)
    noise = lambda a: np.asarray(a) + 0.3 * rng.normal(size=a.shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(noise, PFN.init(CONFIG))


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(1)
    x, num_features = rng.normal(size=(3, ROWS, 8)).astype(np.float32), np.array([3, 5, 8], np.int32)
    y = rng.integers(0, 3, (3, ROWS)).astype(np.int32) * 3  # labels with gaps
    y[:, -1] = 5  # a class that no context has
    return Tables(np.where(np.arange(8) < num_features[:, None, None], x, 0), y, num_features)


SIZES = np.array([9, 20, 24], np.int32)


def test_the_loss_is_the_cross_entropy_of_the_rows_after_the_context(pfn, tables):
    losses = []
    for x, y, features, n in zip(*tables, SIZES, strict=True):
        context, queries = x[:n, :features], x[n:-1, :features]
        classes = np.unique(y[:n])
        logits = np.asarray(pfn.apply(context, y[:n], queries))[:, : len(classes)]
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        losses.append(-log_p[np.arange(len(queries)), np.searchsorted(classes, y[n:-1])].mean())
    loss, gradients = loss_and_gradients(pfn, MOST_CONTEXT, tables, SIZES)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
    gradients = jax.tree.map(np.asarray, gradients)
    direction = jax.tree.map(lambda g: g / 10, gradients)

    def along(step):
        moved = jax.tree.map(lambda p, d: p + np.float32(step) * d, pfn, direction)
        return float(loss_and_gradients(moved, MOST_CONTEXT, tables, SIZES)[0])

    slope = sum(np.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradients, direction)), strict=True))
    assert float(slope) == pytest.approx((along(0.01) - along(-0.01)) / 0.02, rel=0.02)


def test_an_accelerator_computes_the_same_up_to_bfloat16(pfn, tables):
    loss, gradients = loss_and_gradients(pfn, MOST_CONTEXT, tables, SIZES)
    half, half_gradients = objective._of_all(pfn, MOST_CONTEXT, tables, SIZES)
    assert float(half) == pytest.approx(float(loss), rel=0.03)
    ours, theirs = (np.concatenate([np.ravel(g) for g in jax.tree.leaves(t)]) for t in (gradients, half_gradients))
    assert ours.dtype == theirs.dtype == np.float32
    assert np.vdot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.99


def test_a_context_that_shows_no_class_of_the_queries_has_no_loss(pfn, tables):
    y = np.where(np.arange(ROWS) < MOST_CONTEXT, 0, 1)[None].repeat(3, 0).astype(np.int32)
    loss, gradients = loss_and_gradients(pfn, MOST_CONTEXT, tables._replace(y=y), np.full(3, MOST_CONTEXT, np.int32))
    assert float(loss) == 0
    assert all(not np.asarray(g).any() for g in jax.tree.leaves(gradients))
