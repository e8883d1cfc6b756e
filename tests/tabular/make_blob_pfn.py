"""Pretrain the tiny PFN that the estimator's tests use, on Gaussian blobs: a few minutes on a laptop's CPU.

    python tests/tabular/make_blob_pfn.py

It knows blobs and nothing else. It is a fixture, not a model to use.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ttt_jax.tabular import PFN, PFNConfig

STEPS, BATCH, ROWS = 3000, 8, 64


def tables(rng: np.random.Generator, context: int, features: int):
    """Blobs that share a covariance, with labels 0..classes-1 in random order and some label noise."""
    classes = rng.integers(2, 5)
    centres = rng.normal(size=(BATCH, classes, features)) * rng.uniform(0.5, 3)
    y = rng.integers(0, classes, (BATCH, ROWS))
    y[:, :classes] = np.arange(classes)
    x = np.take_along_axis(centres, y[..., None], axis=1) + rng.normal(size=(BATCH, ROWS, features))
    noisy = rng.random(y.shape) < 0.03
    y = np.where(noisy & (np.arange(ROWS) >= classes), rng.integers(0, classes, y.shape), y)
    return (
        x[:, :context].astype(np.float32),
        y[:, :context].astype(np.float32),
        x[:, context:].astype(np.float32),
        y[:, context:],
    )


def main() -> None:
    pfn = PFN.init(PFNConfig(embedding_size=32, num_heads=4, num_layers=3, mlp_factor=2), seed=0)
    schedule = optax.warmup_cosine_decay_schedule(0, 2e-3, STEPS // 20, STEPS)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))

    @jax.jit
    def step(pfn, state, x_context, y_context, x_query, y_query):
        def loss(pfn):
            logits = pfn.apply(x_context, y_context, x_query)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y_query).mean()

        value, gradient = jax.value_and_grad(loss)(pfn)
        updates, state = optimiser.update(gradient, state, pfn)
        return optax.apply_updates(pfn, updates), state, value

    state, rng = optimiser.init(pfn), np.random.default_rng(0)
    for i in range(STEPS):
        context, features = int(rng.choice([12, 40])), int(rng.choice([2, 4, 10]))
        pfn, state, value = step(pfn, state, *map(jnp.asarray, tables(rng, context, features)))
        if i % 500 == 0:
            print(i, float(value), flush=True)
    pfn.save(Path(__file__).parent / "fixtures" / "blobs.safetensors")


if __name__ == "__main__":
    main()
