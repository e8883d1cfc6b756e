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
from ttt_jax.tabular.config import PFNConfig
from ttt_jax.tabular.network import Table
from ttt_jax.tabular.pfn import PFN, Params

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
    """The chosen parameters, their held-out score (step 0: the given parameters), and all scores along the way."""

    params: Params
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
    """One update per batch; the parameters of least held-out log-loss among those no less accurate than the given.

    Args:
        pfn: the network and the parameters to start from.
        batches: at least `steps` of them.
        held_out: what the parameters are chosen by; no row of it may be in `batches`.
        classes: of the table.
        steps: number of updates.
        learning_rate: of every update.
        optimizer: `"adam"`, with gradients clipped to norm 1; or `"sgd"`, plain gradient descent.
        evaluations: the held-out rows are scored this many times, at equal distances.
        patience: stop when this many evaluations in a row bring nothing better.
    """
    params = jax.tree.map(jnp.array, pfn.params)  # a copy: updates take over the memory of their arguments
    state = _transform(optimizer).init(params)
    best = _start(pfn, held_out, classes)
    every, last_better = -(-steps // evaluations), 0
    with Progress("test-time training", total=steps) as bar:
        for step, batch in enumerate(batches, start=1):
            params, state = _update(pfn.config, optimizer, classes.number, params, state, learning_rate, batch)
            bar.advance(note=f"log-loss {best.scores[-1].log_loss:.3f}")
            if step % every == 0 or step == steps:
                best = _better(best, pfn.config, params, held_out, classes, step)
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
    gradients, rows = jax.tree.map(jnp.zeros_like, pfn.params), sum(int(b.tables.is_query.sum()) for b in batches)
    for batch in batches:
        share = int(batch.tables.is_query.sum()) / rows
        gradients = _add_gradients(pfn.config, classes.number, gradients, share, pfn.params, batch)
    best = _start(pfn, held_out, classes)
    for rate in _ONE_STEP_RATES if learning_rate is None else (learning_rate,):
        params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, pfn.params, gradients)
        best = _better(best, pfn.config, params, held_out, classes, step=1)
    return best


def _start(pfn: PFN, held_out: Sequence[Batch], classes: Classes) -> Tuned:
    """Untuned, the network predicts the classes that its context shows and no others."""
    log_loss, _ = _evaluate(pfn.config, pfn.params, held_out, classes.number)
    _, accuracy = _evaluate(pfn.config, pfn.params, held_out, classes.shown)
    score = Score(0, log_loss, accuracy)
    return Tuned(pfn.params, score, [score])


def _better(
    best: Tuned, config: PFNConfig, params: Params, held_out: Sequence[Batch], classes: Classes, step: int
) -> Tuned:
    score = Score(step, *_evaluate(config, params, held_out, classes.number))
    scores = [*best.scores, score]
    if score.log_loss < best.chosen.log_loss and score.accuracy >= scores[0].accuracy:
        return Tuned(jax.tree.map(jnp.array, params), score, scores)
    return best._replace(scores=scores)


def _evaluate(config: PFNConfig, params: Params, held_out: Sequence[Batch], count: int) -> tuple[float, float]:
    """Log-loss and accuracy over all query rows, for the first `count` classes."""
    sums = np.sum([_losses_and_hits(config, count, params, batch) for batch in held_out], axis=0)
    rows = sum(int(batch.tables.is_query.sum()) for batch in held_out)
    return float(sums[0] / rows), float(sums[1] / rows)


@partial(jax.jit, static_argnames=("config", "count"))
def _losses_and_hits(config, count, params, batch):
    logits, is_query = _logits(config, count, params, batch.tables), batch.tables.is_query
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
    return jnp.stack([(losses * is_query).sum(), ((logits.argmax(-1) == batch.targets) & is_query).sum()])


@partial(jax.jit, static_argnames=("config", "optimizer", "count"), donate_argnames=("params", "state"))
def _update(config, optimizer, count, params, state, learning_rate, batch):
    gradients = jax.grad(_mean_loss)(params, config, count, batch)
    updates, state = _transform(optimizer).update(gradients, state, params)
    return jax.tree.map(lambda p, u: p - learning_rate * u, params, updates), state


@partial(jax.jit, static_argnames=("config", "count"), donate_argnames="gradients")
def _add_gradients(config, count, gradients, share, params, batch):
    more = jax.grad(_mean_loss)(params, config, count, batch)
    return jax.tree.map(lambda g, m: g + share * m, gradients, more)


def _mean_loss(params: Params, config: PFNConfig, count: int, batch: Batch) -> Float[Array, ""]:
    losses = optax.softmax_cross_entropy_with_integer_labels(
        _logits(config, count, params, batch.tables), batch.targets
    )
    return (losses * batch.tables.is_query).sum() / batch.tables.is_query.sum()


def _logits(config: PFNConfig, count: int, params: Params, tables: Table) -> Float[Array, "G M C"]:
    pfn = PFN(config, params)
    return jax.vmap(lambda table: pfn.apply_table(params, table))(tables)[..., :count]


def _transform(optimizer: str) -> optax.GradientTransformation:
    if optimizer == "sgd":
        return optax.identity()
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
