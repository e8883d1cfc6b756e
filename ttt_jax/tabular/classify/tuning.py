"""Test-time training of a PFN on one table: gradient steps on labelled rows, and the choice of where to stop.

Letters: G contexts in a batch, each of N rows and with M query rows; C classes of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ttt_jax._internal.progress import Progress
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.network.v2 import Table

OPTIMIZERS = ("adam", "sgd")
_ONE_STEP_RATES = tuple(4.0**i for i in range(-7, 2))


class Batch(NamedTuple):
    """Tables of one size, with the ranks of their query rows' classes."""

    tables: Table  # each array with a leading axis G
    targets: Int[np.ndarray, "G M"]


class Classes(NamedTuple):
    """How many classes the table has, and how many of them (ranks 0, 1, ...) its contexts show."""

    number: int
    shown: int


class Score(NamedTuple):
    """How well held-out rows are predicted after some updates."""

    step: int
    log_loss: float
    accuracy: float


class Tuned(NamedTuple):
    """The chosen network, its held-out score (step 0: the given network), and all scores along the way."""

    pfn: PFN
    chosen: Score
    scores: list[Score]


def make_batch(
    pfn: PFN,
    parts: Sequence[tuple[Float[np.ndarray, "N F"], Int[np.ndarray, " N"], Float[np.ndarray, "M F"]]],
    targets: Sequence[Int[np.ndarray, " M"]],
) -> Batch:
    """Contexts with ranks and query rows, of equal sizes, padded to a size that other batches share."""
    tables = [pfn.pad(*part) for part in parts]
    padding = tables[0].is_query.size - len(targets[0])
    return Batch(Table(*map(np.stack, zip(*tables, strict=True))), np.pad(targets, ((0, 0), (0, padding))))


def tune(
    pfn: PFN,
    batches: Iterable[Batch],
    held_out: Sequence[Batch],
    classes: Classes,
    *,
    steps: int,
    learning_rate: float,
    optimizer: str = "adam",
    evaluations: int = 10,
    patience: int = 3,
) -> Tuned:
    """One update per batch; the network of least held-out log-loss among those no less accurate than the given.

    Args:
        pfn: where to start.
        batches: at least `steps` of them.
        held_out: what the network is chosen by; no row of it may be in `batches`.
        classes: of the table.
        steps: number of updates.
        learning_rate: of every update.
        optimizer: `"adam"`, with gradients clipped to norm 1; or `"sgd"`, plain gradient descent.
        evaluations: the held-out rows are scored this many times, at equal distances.
        patience: stop when this many evaluations in a row bring nothing better.
    """
    best = _start(pfn, held_out, classes)
    pfn = jax.tree.map(jnp.array, pfn)  # a copy: updates take over the memory of their arguments
    state = _transform(optimizer).init(pfn)
    every, last_better = -(-steps // evaluations), 0
    with Progress("test-time training", total=steps) as bar:
        for step, batch in enumerate(batches, start=1):
            pfn, state = _update(optimizer, classes.number, pfn, state, learning_rate, batch)
            bar.advance(note=f"log-loss {best.scores[-1].log_loss:.3f}")
            if step % every == 0 or step == steps:
                best = _better(best, pfn, held_out, classes, step)
                last_better = step if best.chosen.step == step else last_better
            if step == steps or step - last_better >= patience * every:
                break
    return best


def tune_in_one_step(
    pfn: PFN,
    batches: Sequence[Batch],
    held_out: Sequence[Batch],
    classes: Classes,
    learning_rate: float | None = None,
) -> Tuned:
    """One step of gradient descent on the mean loss of all query rows; without a learning rate, the best of nine."""
    gradients, rows = jax.tree.map(jnp.zeros_like, pfn), sum(int(b.tables.is_query.sum()) for b in batches)
    for batch in batches:
        share = int(batch.tables.is_query.sum()) / rows
        gradients = _add_gradients(classes.number, gradients, share, pfn, batch)
    best = _start(pfn, held_out, classes)
    for rate in _ONE_STEP_RATES if learning_rate is None else (learning_rate,):
        moved = jax.tree.map(lambda p, g, rate=rate: p - rate * g, pfn, gradients)
        best = _better(best, moved, held_out, classes, step=1)
    return best


def _start(pfn: PFN, held_out: Sequence[Batch], classes: Classes) -> Tuned:
    """Untuned, the network predicts the classes that its context shows and no others."""
    log_loss, _ = _evaluate(pfn, held_out, classes.number)
    _, accuracy = _evaluate(pfn, held_out, classes.shown)
    score = Score(0, log_loss, accuracy)
    return Tuned(pfn, score, [score])


def _better(best: Tuned, pfn: PFN, held_out: Sequence[Batch], classes: Classes, step: int) -> Tuned:
    score = Score(step, *_evaluate(pfn, held_out, classes.number))
    scores = [*best.scores, score]
    if score.log_loss < best.chosen.log_loss and score.accuracy >= scores[0].accuracy:
        return Tuned(jax.tree.map(jnp.array, pfn), score, scores)
    return best._replace(scores=scores)


def _evaluate(pfn: PFN, held_out: Sequence[Batch], count: int) -> tuple[float, float]:
    """Log-loss and accuracy over all query rows, for the first `count` classes."""
    sums = np.sum([_losses_and_hits(count, pfn, batch) for batch in held_out], axis=0)
    rows = sum(int(batch.tables.is_query.sum()) for batch in held_out)
    return float(sums[0] / rows), float(sums[1] / rows)


@partial(jax.jit, static_argnames="count")
def _losses_and_hits(count, pfn, batch):
    logits, is_query = _logits(count, pfn, batch.tables), batch.tables.is_query
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
    return jnp.stack([(losses * is_query).sum(), ((logits.argmax(-1) == batch.targets) & is_query).sum()])


@partial(jax.jit, static_argnames=("optimizer", "count"), donate_argnames=("pfn", "state"))
def _update(optimizer, count, pfn, state, learning_rate, batch):
    gradients = jax.grad(_mean_loss)(pfn, count, batch)
    updates, state = _transform(optimizer).update(gradients, state, pfn)
    return jax.tree.map(lambda p, u: p - learning_rate * u, pfn, updates), state


@partial(jax.jit, static_argnames="count", donate_argnames="gradients")
def _add_gradients(count, gradients, share, pfn, batch):
    more = jax.grad(_mean_loss)(pfn, count, batch)
    return jax.tree.map(lambda g, m: g + share * m, gradients, more)


def _mean_loss(pfn: PFN, count: int, batch: Batch) -> Float[Array, ""]:
    losses = optax.softmax_cross_entropy_with_integer_labels(_logits(count, pfn, batch.tables), batch.targets)
    return (losses * batch.tables.is_query).sum() / batch.tables.is_query.sum()


def _logits(count: int, pfn: PFN, tables: Table) -> Float[Array, "G M C"]:
    return jax.vmap(pfn.apply_table)(tables)[..., :count]


def _transform(optimizer: str) -> optax.GradientTransformation:
    if optimizer == "sgd":
        return optax.identity()
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
