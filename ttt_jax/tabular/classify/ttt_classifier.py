"""A scikit-learn classifier that fine-tunes a PFN on the training table, then predicts from a small context."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.utils import check_random_state

from ttt_jax._internal.validate import choice, finite_number, positive_integer
from ttt_jax.tabular.classify.estimators import PFNClassifier
from ttt_jax.tabular.classify.members import Member, draw_members
from ttt_jax.tabular.classify.splits import Split, split_rows
from ttt_jax.tabular.classify.tuning import OPTIMIZERS, Batch, Classes, Tuned, make_batch, tune, tune_in_one_step
from ttt_jax.tabular.network.pfn import PFN

__all__ = ["TTTClassifier"]

MODES = ("none", "one", "few", "full")
_FEW_STEPS, _STEPS_PER_GROUP = 50, 50
_GROUPS_AT_ONCE, _CONTEXT_ROWS_AT_ONCE = 8, 512
_JUDGES = 8  # members of the ensemble that choose the number of updates


class TTTClassifier(PFNClassifier):
    """Test-time training of a PFN: fine-tune it on the demonstrations, then predict from `n_context` of them.

    The demonstrations are split into groups. A group's context is n rows; its queries are drawn from the training rows
    outside them. An update is one gradient step on the cross-entropy of a batch of queries. A share of the rows is held
    out from training; by it the stopping point is chosen among 0 and later updates, so that the result is never worse
    on these rows than the untuned network, in the mean over the first eight members of the ensemble. Judge it on other
    rows. Columns and classes are encoded and ordered in training as in prediction.

    With one class, or fewer than two rows outside the context, nothing is trained: the prediction is `PFNClassifier`'s.

    Args:
        weights: as in `PFNClassifier`.
        n_context: rows n of a context; None for half of the table, at most 256.
        n_training: number k of demonstrations, contexts included; a random choice is made from a larger table.
        groups: number of contexts; None for as many as the rows not held out fill without sharing.
        mode: `"none"`: no update, so the plain network on the same context; `"one"`: one step of gradient descent on
            all queries of one context, as in the theory; `"few"`: 50 updates; `"full"`: 50 updates per group.
        steps: updates in place of the mode's.
        learning_rate: None for 0.02 / embedding size with Adam, 0.1 with gradient descent, and in mode `"one"` the
            best of nine on the held-out rows.
        optimizer: `"adam"` or `"sgd"`; mode `"one"` is gradient descent always.
        batch_size: queries per update.
        validation_fraction: share of the rows outside the context that is held out, at most 1,000 rows.
        patience: stop when this many of ten evaluations in a row bring nothing better.
        n_contexts: contexts whose predictions are averaged, at most the number of groups.
        n_estimators, softmax_temperature, outlier_sigma, max_context_rows, device, random_state: as in `PFNClassifier`.

    Attributes:
        classes_, n_features_in_: as in `PFNClassifier`.
        pfn_: the tuned network.
        chosen_: the held-out score of the parameters in use; its `step` is 0 if no update was an improvement.
        scores_: all held-out scores, that of the untuned network first; empty, and no `chosen_`, without training.
        fit_seconds_: what the training cost.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = TTTClassifier(n_context=20, random_state=0).fit(X[::2], y[::2])  # doctest: +SKIP
        >>> model.score(X[1::2], y[1::2])  # doctest: +SKIP
    """

    def __init__(
        self,
        weights: str | Path | PFN = "default",
        *,
        n_context: int | None = None,
        n_training: int = 10_000,
        groups: int | None = None,
        mode: str = "few",
        steps: int | None = None,
        learning_rate: float | None = None,
        optimizer: str = "adam",
        batch_size: int = 256,
        validation_fraction: float = 0.2,
        patience: int = 3,
        n_contexts: int = 1,
        n_estimators: int = 32,
        softmax_temperature: float = 0.9,
        outlier_sigma: float | None = 12.0,
        max_context_rows: int = 10_000,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        super().__init__(
            weights,
            n_estimators=n_estimators,
            softmax_temperature=softmax_temperature,
            outlier_sigma=outlier_sigma,
            max_context_rows=max_context_rows,
            device=device,
            random_state=random_state,
        )
        self.n_context = n_context
        self.n_training = n_training
        self.groups = groups
        self.mode = mode
        self.steps = steps
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_contexts = n_contexts

    def _require_rows(self, rows: int) -> None:
        if self.n_context is not None and self.n_context > min(rows, self.n_training):
            raise ValueError(
                f"n_context: {self.n_context} exceeds the {min(rows, self.n_training)} demonstrations; choose fewer"
            )
        if self._context_rows(rows) > self.max_context_rows:
            raise ValueError(
                f"n_context must be at most max_context_rows={self.max_context_rows}, got {self._context_rows(rows)}"
            )

    def _context_rows(self, rows: int) -> int:
        return max(1, min(256, min(rows, self.n_training) // 2)) if self.n_context is None else self.n_context

    def _set_context(self, X: Float[np.ndarray, "rows F"], labels: Int[np.ndarray, " rows"]) -> None:
        started = time.perf_counter()
        self.__dict__.pop("chosen_", None)  # of an earlier fit
        random = check_random_state(self.random_state)
        rng = np.random.default_rng(random.randint(2**31))
        n_context = self._context_rows(len(X))
        chosen = _choose_rows(labels, self.n_training, rng)
        X, labels = X[chosen], labels[chosen]
        ranks = _ranks(np.bincount(labels, minlength=len(self.classes_)), n_context)
        split = split_rows(
            ranks[labels], n_context, groups=self.groups, held_out_fraction=self.validation_fraction, rng=rng
        )
        shown = len(np.unique(labels[split.contexts[0]]))
        self.members_ = draw_members(self.n_estimators, X[split.contexts[0]], ranks, shown, random)
        self.contexts_ = [(X[rows], labels[rows]) for rows in split.contexts[: self.n_contexts]]
        self.scores_, self.ranks_shown_ = [], shown
        if len(split.held_out) and len(ranks) > 1 and self.mode != "none":
            tuned = self._tune(_Rows(self.pfn_, X, labels, split, self.members_), Classes(len(ranks), shown), rng)
            self.pfn_ = tuned.pfn
            self.scores_, self.chosen_ = tuned.scores, tuned.chosen
            self.ranks_shown_ = len(ranks) if tuned.chosen.step else shown
        self.fit_seconds_ = time.perf_counter() - started

    def _tune(self, rows: _Rows, classes: Classes, rng: np.random.Generator) -> Tuned:
        held_out = rows.held_out(self.n_contexts, self.batch_size)
        if self.mode == "one":
            return tune_in_one_step(self.pfn_, rows.all_queries(self.batch_size), held_out, classes, self.learning_rate)
        by_mode = {"few": _FEW_STEPS, "full": _STEPS_PER_GROUP * len(rows.split.contexts)}[self.mode]
        usual = 0.02 / self.pfn_.config.embedding_size if self.optimizer == "adam" else 0.1
        return tune(
            self.pfn_,
            rows.random_queries(self.batch_size, rng),
            held_out,
            classes,
            steps=by_mode if self.steps is None else self.steps,
            learning_rate=usual if self.learning_rate is None else self.learning_rate,
            optimizer=self.optimizer,
            patience=self.patience,
        )

    def _require_parameters(self) -> None:
        super()._require_parameters()
        for name in ("n_training", "batch_size", "patience", "n_contexts"):
            positive_integer(name, getattr(self, name))
        for name in ("n_context", "groups", "steps"):
            if getattr(self, name) is not None:
                positive_integer(name, getattr(self, name))
        choice("mode", self.mode, MODES)
        choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.learning_rate is not None and finite_number("learning_rate", self.learning_rate) <= 0:
            raise ValueError(f"learning_rate must be a positive number, or None, got {self.learning_rate!r}")
        if not 0 < finite_number("validation_fraction", self.validation_fraction) < 1:
            raise ValueError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction!r}")


class _Rows:
    """Batches of a table's rows, features and classes as in prediction."""

    def __init__(self, pfn: PFN, X: np.ndarray, labels: np.ndarray, split: Split, members: list[Member]):
        self.pfn, self.X, self.labels, self.split, self.members = pfn, X, labels, split, members
        self.outside = [np.setdiff1d(split.training, context) for context in split.contexts]

    def batch(self, member: Member, parts: list[tuple[int, Int[np.ndarray, " M"]]]) -> Batch:
        """From a group and query rows each."""
        tables, targets = [], []
        for group, queries in parts:
            context = self.split.contexts[group]
            labelled = member.features(self.X[context]), member.ranks[self.labels[context]]
            tables.append((*labelled, member.features(self.X[queries])))
            targets.append(member.ranks[self.labels[queries]])
        return make_batch(self.pfn, tables, targets)

    def random_queries(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Without end: `size` queries of a few groups, which take turns as the members do."""
        groups, n = len(self.split.contexts), len(self.split.contexts[0])
        at_once = max(1, min(groups, _GROUPS_AT_ONCE, _CONTEXT_ROWS_AT_ONCE // n, size))
        queries = min(size // at_once, *map(len, self.outside))
        turns = itertools.cycle(range(groups))
        for member in itertools.cycle(self.members):
            chosen = list(itertools.islice(turns, at_once))
            yield self.batch(member, [(g, rng.choice(self.outside[g], queries, replace=False)) for g in chosen])

    def all_queries(self, size: int) -> list[Batch]:
        """All queries of the first context, as every member sees them."""
        pieces = np.array_split(self.outside[0], -(-len(self.outside[0]) // size))
        return [self.batch(member, [(0, piece)]) for member in self.members for piece in pieces]

    def held_out(self, contexts: int, size: int) -> list[Batch]:
        """The held-out rows after each context of prediction, as the first members see them."""
        members = self.members[:_JUDGES]
        pieces = np.array_split(self.split.held_out, -(-len(self.split.held_out) // size))
        groups = range(min(contexts, len(self.split.contexts)))
        return [self.batch(member, [(g, piece)]) for g in groups for member in members for piece in pieces]


def _ranks(counts: Int[np.ndarray, " C"], n_context: int) -> Int[np.ndarray, " C"]:
    """The rank of each class: its position, or by decreasing frequency if a context cannot show them all."""
    return np.arange(len(counts)) if n_context >= len(counts) else np.argsort(np.argsort(-counts, kind="stable"))


def _choose_rows(labels: Int[np.ndarray, " rows"], most: int, rng: np.random.Generator) -> Int[np.ndarray, " k"]:
    """At most that many rows at random, and one of each class among them."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rows = rng.permutation(len(labels))
    _, first = np.unique(labels[rows], return_index=True)
    return np.concatenate([rows[first], np.delete(rows, first)])[:most]
