"""Test-time training of a PFN on one table: gradient steps on labelled rows, and the choice of where to stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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

OPTIMIZERS = ("adamw", "sgd")
_ONE_STEP_RATES = tuple(4.0**i for i in range(-7, 2))
_WEIGHT_DECAY = 0.01
_SURE = 0.5  # standard errors: of the development tables' fits, 1 missed the gain on vehicle, 0 took losses on pima
_WARM_UP = 0.1  # of all updates
_AVERAGE_POWER = 3  # weights of update i count in proportion to i^3: the last quarter, roughly
_PHASES = 10_000  # into which the schedule is divided
_COMPILATIONS_OF_THE_GRADIENT = 3.0  # it takes as long as that many of the prediction
_FIRST_PER_SECOND = 3.0  # how much longer than again anything takes that is compiled, guessed until it is measured


class Episode(NamedTuple):
    """A context with query rows, what each of these counts, and what the classes count.

    Attributes:
        table: padded.
        targets: ranks of the query rows' classes.
        weights: of the query rows; 0 for padding, and 1 in the sum.
        log_odds: added to the logits of each rank; -inf for the ranks that the table has not.
    """

    table: Table
    targets: Int[np.ndarray, " M"]
    weights: Float[np.ndarray, " M"]
    log_odds: Float[np.ndarray, " C"]


class Score(NamedTuple):
    """How well held-out rows are predicted after some updates; of `metric`, more is better."""

    step: int
    log_loss: float
    accuracy: float
    metric: float

    def better_than(self, other: Score) -> bool:
        """A larger metric; among equals a smaller log-loss."""
        return (self.metric, -self.log_loss) > (other.metric, -other.log_loss)


class Judged(NamedTuple):
    """A network's score on held-out rows, the logits it is made from, and the losses if it is the mean of them."""

    score: Score
    logits: Float[np.ndarray, "members M C"]
    losses: Float[np.ndarray, " M"] | None = None

    def surely_better_than(self, other: Judged) -> bool:
        """By more than half a standard error of the mean difference; any better score will do if it is no mean."""
        if self.losses is None or other.losses is None:
            return self.score.better_than(other.score)
        gains = other.losses - self.losses
        return len(gains) > 1 and bool(gains.mean() > _SURE * gains.std(ddof=1) / len(gains) ** 0.5)


class Tuned(NamedTuple):
    """The chosen network, what held-out rows say about it, and all scores on the way.

    Attributes:
        pfn: the chosen network.
        start: of the given network.
        chosen: of the chosen one.
        scores: in the order of the updates; the first is of the given network.
    """

    pfn: PFN
    start: Judged
    chosen: Judged
    scores: list[Score]


Judge = Callable[[PFN, int], Judged]


def tune(
    pfn: PFN,
    draws: Iterable[Sequence[Episode]],
    judge: Judge,
    *,
    steps: int,
    learning_rate: float,
    optimizer: str = "adamw",
    evaluations: int = 5,
    patience: int = 3,
    seconds: float | None = None,
) -> Tuned:
    """One update per draw; the averaged network that is best on the held-out rows, if it surely beats the given one.

    Args:
        pfn: where to start.
        draws: without end; an update's gradient is the mean over the episodes of a draw.
        judge: scores a network after some updates on rows that no episode contains.
        steps: number of updates.
        learning_rate: the largest; it rises over the first tenth and then falls to zero as a cosine.
        optimizer: `"adamw"`, with gradients clipped to norm 1 and weight decay; `"sgd"`: plain gradient descent.
        evaluations: the held-out rows are scored this many times, at equal distances.
        patience: stop when this many evaluations in a row bring nothing better.
        seconds: stop when they are over, compilation included; None for no limit.
    """
    clock = _Clock(seconds)
    best = _start(pfn, judge, clock)
    if not clock.allows(needed := _COMPILATIONS_OF_THE_GRADIENT * clock.first["judging"]):
        least = clock.spent() + needed
        warnings.warn(f"time_limit: nothing was trained; about {least:.0f} s are needed here", stacklevel=2)
        return best
    pfn, average = jax.tree.map(jnp.array, (pfn, pfn))  # copies: updates take over the memory of their arguments
    state, no_gradients = _transform(optimizer).init(pfn), jax.tree.map(jnp.zeros_like, pfn)
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, _WARM_UP * _PHASES, _PHASES)
    every, last_better = -(-steps // evaluations), 0
    with Progress("test-time training", total=steps) as bar:
        for step, episodes in enumerate(draws, start=1):
            done = max((step - 0.5) / steps, clock.share())
            with clock.timing("update"):
                gradients = jax.tree.map(jnp.copy, no_gradients)
                for episode in episodes:
                    gradients = _add_gradients(gradients, 1 / len(episodes), pfn, episode)
                kept = 1 - (_AVERAGE_POWER + 1) / (step + _AVERAGE_POWER)
                pfn, average, state = _update(
                    optimizer, pfn, average, state, gradients, float(rate(done * _PHASES)), kept
                )
                jax.block_until_ready(average)
            bar.advance(note=f"log-loss {best.scores[-1].log_loss:.3f}")
            is_last = step == steps or not clock.allows(clock.cost("update") + clock.cost("judging"))
            if step % every == 0 or is_last:
                best = _better(best, average, judge, clock, step)
                *earlier, newest = best.scores
                last_better = step if all(map(newest.better_than, earlier)) else last_better
                is_last = step == steps or not clock.allows(clock.cost("update") + clock.cost("judging"))
            if is_last or step - last_better >= patience * every:
                break
    return best


def tune_in_one_step(pfn: PFN, episodes: Sequence[Episode], judge: Judge, learning_rate: float | None = None) -> Tuned:
    """One step of gradient descent on the mean loss of all episodes; without a learning rate, the best of nine."""
    gradients = jax.tree.map(jnp.zeros_like, pfn)
    rows = [np.count_nonzero(episode.weights) for episode in episodes]
    for episode, count in zip(episodes, rows, strict=True):
        gradients = _add_gradients(gradients, count / sum(rows), pfn, episode)
    clock = _Clock(None)
    best = _start(pfn, judge, clock)
    for rate in _ONE_STEP_RATES if learning_rate is None else (learning_rate,):
        moved = jax.tree.map(lambda p, g, rate=rate: p - rate * g, pfn, gradients)
        best = _better(best, moved, judge, clock, step=1)
    return best


class _Clock:
    """How long each kind of work takes, and how much of the limit is left."""

    def __init__(self, limit: float | None):
        self.limit, self.started = limit, time.monotonic()
        self.first: dict[str, float] = {}
        self.least: dict[str, float] = {}  # without the first, which includes compilation

    @contextmanager
    def timing(self, work: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        if work in self.first:
            self.least[work] = min(seconds, self.least.get(work, seconds))
        self.first.setdefault(work, seconds)

    def cost(self, work: str) -> float:
        """What doing it again should take."""
        return self.least.get(work, self.first.get(work, 0.0) / _FIRST_PER_SECOND)

    def spent(self) -> float:
        return time.monotonic() - self.started

    def share(self) -> float:
        """Of the limit that is spent."""
        return 0.0 if self.limit is None else min(1.0, self.spent() / self.limit)

    def allows(self, seconds: float) -> bool:
        return self.limit is None or self.spent() + seconds <= self.limit


def _start(pfn: PFN, judge: Judge, clock: _Clock) -> Tuned:
    with clock.timing("judging"):
        judged = judge(pfn, 0)
    return Tuned(pfn, judged, judged, [judged.score])


def _better(best: Tuned, pfn: PFN, judge: Judge, clock: _Clock, step: int) -> Tuned:
    with clock.timing("judging"):
        judged = judge(pfn, step)
    scores = [*best.scores, judged.score]
    if judged.score.better_than(best.chosen.score) and judged.surely_better_than(best.start):
        return Tuned(jax.tree.map(jnp.array, pfn), best.start, judged, scores)
    return best._replace(scores=scores)


@partial(jax.jit, donate_argnames="total")
def _add_gradients(total, share, pfn, episode):
    gradients = jax.grad(_loss)(pfn, episode)
    return jax.tree.map(lambda t, g: t + share * g, total, gradients)


@partial(jax.jit, static_argnames="optimizer", donate_argnames=("pfn", "average", "state"))
def _update(optimizer, pfn, average, state, gradients, learning_rate, kept):
    updates, state = _transform(optimizer).update(gradients, state, pfn)
    pfn = jax.tree.map(lambda p, u: p - learning_rate * u, pfn, updates)
    return pfn, jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, average, pfn), state


def _loss(pfn: PFN, episode: Episode) -> Float[Array, ""]:
    logits = pfn.apply_table(episode.table) + episode.log_odds
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, episode.targets)
    return (losses * episode.weights).sum()


def _transform(optimizer: str) -> optax.GradientTransformation:
    if optimizer == "sgd":
        return optax.identity()
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.add_decayed_weights(_WEIGHT_DECAY))
