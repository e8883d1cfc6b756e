"""A scikit-learn classifier that fine-tunes a PFN on the training table before it predicts in context."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from ttt_jax._internal.validate import choice, level_number, positive_integer, positive_number, shown
from ttt_jax.tabular.classify.ensemble import Ensemble, mean_probabilities
from ttt_jax.tabular.classify.estimators import PFNClassifier
from ttt_jax.tabular.classify.members import Member, Plan
from ttt_jax.tabular.classify.scores import METRICS, fitted_temperature, metric, row_losses
from ttt_jax.tabular.classify.splits import deal_contexts, split_rows
from ttt_jax.tabular.classify.tuning import OPTIMIZERS, Episode, Judged, Score, Tuned, tune, tune_in_one_step
from ttt_jax.tabular.network.pfn import PFN

__all__ = ["TTTClassifier"]

MODES = ("none", "one", "few", "full")
_RATE = {"tabpfn-v2": 4, "slots": 8}  # of AdamW, times the square of the width
_FEW_STEPS, _STEPS_PER_CONTEXT = 30, 50
_MOST_ROWS_TRAINED_ON = 256  # context rows of an update, if prediction takes all rows
_MOST_ROWS_JUDGED_BY = 512  # context rows when held-out rows are scored, if prediction takes all rows
_JUDGES = 2  # members of the ensemble that choose the number of updates


class TTTClassifier(PFNClassifier):
    """Test-time training of a PFN: fine-tune it on the rows of a table, then predict with them as context.

    An update is a step of AdamW on the cross-entropy of query rows, given context rows; which rows are which is drawn
    anew for every member of an update. A share of the rows is held out; they choose the number of updates, 0
    included, by the averaged weights, so that the result is never worse on them than the untuned network, in the mean
    over the first two members of the ensemble, with at most 512 rows of context. By the log-loss, updates count only
    if they gain more than half the standard error of the gain: of a few held-out rows some gain is chance. Then these
    rows join the context, so judge the result on others.

    With one class, or fewer than two rows outside the context, nothing is trained: the prediction is `PFNClassifier`'s.

    Args:
        weights: as in `PFNClassifier`.
        n_context: rows that predictions are made from; None for all. Of more than `max_context_rows`, each member of
            the ensemble reads others.
        mode: `"none"`: no update, so the plain network on the same context; `"one"`: one step of gradient descent on
            all queries of one context, as in the theory; `"few"`: 30 updates, or as many as ask after every
            row once; `"full"`: 50 for every context that the rows fill.
        steps: updates in place of the mode's.
        learning_rate: the largest of the schedule, warm-up and then a cosine; None for 4 / embedding size^2 with
            AdamW, twice that for the slots network, 0.1 with gradient descent, and in mode `"one"` the best of
            nine on the held-out rows.
        optimizer: `"adamw"` or `"sgd"`; mode `"one"` is gradient descent always.
        batch_size: queries per member of an update.
        members_per_step: members of the ensemble per update; they take turns.
        validation_fraction: share of the rows that is held out, at most 500; with `n_context`, of the other rows.
        eval_metric: what chooses the number of updates: `"log_loss"`, `"accuracy"`, `"balanced_accuracy"` or
            `"roc_auc"`.
        patience: stop when this many of five evaluations in a row bring nothing better.
        time_limit: seconds that `fit` may take, compilation included; None for no limit. It ends at most one update
            and a tenth later, unless compilation alone takes longer; a warning then says how much is needed.
        max_context_rows: the most rows of a member's context without `n_context`; of more, each member gets a share.
        n_estimators, categorical_features, class_weight, softmax_temperature, outlier_sigma, cache_context, device,
            random_state: as in `PFNClassifier`, but the temperature is fitted to the held-out rows, and stays near
            the given one if they are few.

    Attributes:
        classes_, n_features_in_: as in `PFNClassifier`.
        pfn_: the tuned network.
        chosen_: the held-out score of the parameters in use; its `step` is 0 if no update was an improvement.
        scores_: all held-out scores, that of the untuned network first; empty, and no `chosen_`, without training.
        temperature_: in use.
        fit_seconds_: what the fit cost.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = TTTClassifier(time_limit=60).fit(X[::2], y[::2])  # doctest: +SKIP
        >>> model.score(X[1::2], y[1::2])  # doctest: +SKIP
    """

    def __init__(
        self,
        weights: str | Path | PFN = "default",
        *,
        n_context: int | None = None,
        mode: str = "few",
        steps: int | None = None,
        learning_rate: float | None = None,
        optimizer: str = "adamw",
        batch_size: int = 128,
        members_per_step: int = 1,
        validation_fraction: float = 0.2,
        eval_metric: str = "log_loss",
        patience: int = 3,
        time_limit: float | None = None,
        n_estimators: int = 4,
        categorical_features: Sequence[str | int] | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        softmax_temperature: float = 0.9,
        outlier_sigma: float | None = 12.0,
        cache_context: bool = False,
        max_context_rows: int = 2_000,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        super().__init__(
            weights,
            n_estimators=n_estimators,
            categorical_features=categorical_features,
            class_weight=class_weight,
            softmax_temperature=softmax_temperature,
            outlier_sigma=outlier_sigma,
            cache_context=cache_context,
            max_context_rows=max_context_rows,
            device=device,
            random_state=random_state,
        )
        self.n_context = n_context
        self.mode = mode
        self.steps = steps
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.members_per_step = members_per_step
        self.validation_fraction = validation_fraction
        self.eval_metric = eval_metric
        self.patience = patience
        self.time_limit = time_limit

    def fit(self, X: Any, y: Any, eval_set: tuple[Any, Any] | None = None) -> TTTClassifier:
        """Fine-tune the network on the table, and keep it as context.

        Args:
            X, y: the table.
            eval_set: features and labels of other rows that choose the number of updates; then none is held out.

        Raises:
            ValueError: a parameter or the table cannot be used, in one line that says what would be right.
        """
        started = time.monotonic()
        self.__dict__.pop("chosen_", None)  # of an earlier fit
        X, labels = self._read(X, y)
        others = None if eval_set is None else self._read_more(*eval_set)
        with self._on_device():
            self._fit_rows(X, labels, others, started)
        self.fit_seconds_ = time.monotonic() - started
        return self

    def _require_rows(self, rows: int) -> None:
        if self.n_context is not None and self.n_context > rows:
            raise ValueError(f"n_context must be at most the {rows} rows of X, got {self.n_context}")

    def _read_more(self, X: Any, y: Any) -> tuple[Float[np.ndarray, "M F"], Int[np.ndarray, " M"]]:
        y = column_or_1d(y)
        if len(unknown := np.setdiff1d(y, self.classes_)):
            raise ValueError(f"eval_set: class {shown(unknown[0])} is none of y's")
        return self._features(X), np.searchsorted(self.classes_, y)

    def _fit_rows(self, X, labels, others, started: float) -> None:
        seed = check_random_state(self.random_state).randint(2**31)
        rng = np.random.default_rng(seed)
        classes, rows = len(self.classes_), np.arange(len(X))
        n_context = 0 if self.n_context is None else self.n_context
        given = self.pfn_
        slots = given.config.architecture == "slots"
        ranks = _ranks(np.bincount(labels, minlength=classes), 0 if slots else n_context or len(X))
        training, held_out = split_rows(ranks[labels], n_context, held_out_fraction=self.validation_fraction, rng=rng)
        if others is not None:
            training, held_out = rows, rows[:0]
        contexts = self._contexts(ranks[labels], training, min(self.max_context_rows, _MOST_ROWS_JUDGED_BY), rng)
        shown = len(np.unique(labels[contexts[0]]))

        plan, predicted = Plan(self.n_estimators, contexts, ranks, 1 if slots else shown, seed), shown

        def ensemble(plan: Plan, predicted: int) -> Ensemble:
            return Ensemble.draw(X, labels, self._is_categorical(), plan, predicted)

        self.scores_, self.temperature_ = [], self.softmax_temperature
        queries, answers = others or (X[held_out], labels[held_out])
        if len(answers) and classes > 1 and self.mode != "none" and len(training) > max(1, n_context):
            # A class keeps its slot when the held-out rows join the context, though it may then be the most frequent.
            self.pfn_ = replace(given, config=replace(given.config, slots_by_rank=slots))
            trainer = _Trainer(self, ensemble(plan, predicted), training, queries, answers, rng)
            tuned = trainer.tune(started)
            self.scores_, self.chosen_ = tuned.scores, tuned.chosen.score
            self.pfn_ = tuned.pfn if self.chosen_.step else given
            self.temperature_ = fitted_temperature(
                tuned.chosen.logits, self.class_weights_, answers, self.softmax_temperature
            )
            predicted = classes if self.chosen_.step else shown
        if self.n_context is None:  # the held-out rows join the context
            plan = plan._replace(contexts=self._contexts(ranks[labels], rows, self.max_context_rows, rng))
        self._use(ensemble(plan, predicted))

    def _contexts(
        self, ranked: Int[np.ndarray, " rows"], rows: Int[np.ndarray, " some"], most: int, rng: np.random.Generator
    ) -> list[Int[np.ndarray, " N"]]:
        """`n_context` of these rows, or all of them, at most so many in a context."""
        if self.n_context is not None:
            return deal_contexts(ranked, rows, self.n_context, 1, rng)
        number = min(self.n_estimators, -(-len(rows) // most))
        return deal_contexts(ranked, rows, min(len(rows), most), number, rng)

    def _require_parameters(self) -> None:
        super()._require_parameters()
        for name in ("batch_size", "members_per_step", "patience"):
            positive_integer(name, getattr(self, name))
        for name in ("n_context", "steps"):
            if getattr(self, name) is not None:
                positive_integer(name, getattr(self, name))
        choice("mode", self.mode, MODES)
        choice("optimizer", self.optimizer, OPTIMIZERS)
        choice("eval_metric", self.eval_metric, METRICS)
        for name in ("learning_rate", "time_limit"):
            if getattr(self, name) is not None:
                positive_number(name, getattr(self, name))
        level_number("validation_fraction", self.validation_fraction)


class _Trainer:
    """Episodes about the training rows, and a judge by the held-out rows."""

    def __init__(self, model: TTTClassifier, ensemble: Ensemble, training, queries, answers, rng: np.random.Generator):
        self.model, self.ensemble, self.training = model, ensemble, training
        self.queries, self.answers, self.rng = queries, answers, rng
        self.width = max(len(member.order) for member in ensemble.members)
        if model.n_context is None:
            self.batch = max(1, min(model.batch_size, len(training) // 3))
            self.context = min(len(training) - self.batch, _MOST_ROWS_TRAINED_ON)
        else:
            self.context = model.n_context
            self.batch = min(model.batch_size, len(training) - self.context)

    def tune(self, started: float) -> Tuned:
        model, pfn = self.model, self.model.pfn_
        if model.mode == "one":
            return tune_in_one_step(pfn, self.all_queries(), self.judge, model.learning_rate)
        once = len(self.training) // (self.batch * model.members_per_step)
        by_mode = {
            "few": max(_FEW_STEPS, once),
            "full": _STEPS_PER_CONTEXT * max(1, len(self.training) // self.context),
        }
        usual = usual_rate(pfn) if model.optimizer == "adamw" else 0.1
        return tune(
            pfn,
            self.draws(),
            self.judge,
            steps=by_mode[model.mode] if model.steps is None else model.steps,
            learning_rate=usual if model.learning_rate is None else model.learning_rate,
            optimizer=model.optimizer,
            patience=model.patience,
            seconds=None if model.time_limit is None else model.time_limit - (time.monotonic() - started),
        )

    def draws(self) -> Iterator[list[Episode]]:
        """Without end: for each member of an update another choice of context and query rows."""
        members = itertools.cycle(self.ensemble.members)
        ranked = self.ensemble.plan.ranks[self.ensemble.labels]
        while True:
            episodes = []
            for member in itertools.islice(members, self.model.members_per_step):
                (context,) = deal_contexts(ranked, self.training, self.context, 1, self.rng)
                queries = self.rng.choice(np.setdiff1d(self.training, context), self.batch, replace=False)
                episodes.append(self.episode(member._replace(rows=context), queries))
            yield episodes

    def all_queries(self) -> list[Episode]:
        """All training rows outside the context of each member."""
        episodes = []
        for member in self.ensemble.members:
            context = member.rows[: self.context]
            outside = np.setdiff1d(self.training, context)
            pieces = np.array_split(outside, -(-len(outside) // self.model.batch_size))
            episodes += [self.episode(member._replace(rows=context), piece) for piece in pieces]
        return episodes

    def episode(self, member: Member, queries: Int[np.ndarray, " M"]) -> Episode:
        """The member's context and these rows, as in prediction."""
        pfn = self.model.pfn_
        labels = self.ensemble.labels[queries]
        table = self.ensemble.table(pfn, member, self.ensemble.X[queries], self.width)
        padding = (0, table.is_query.size - len(queries))
        weights = self.model.class_weights_[labels]
        log_odds = np.full(pfn.config.num_classes, -np.inf)
        log_odds[member.ranks] = np.log(self.model.class_weights_)
        return Episode(
            table,
            np.pad(member.ranks[labels], padding),
            np.pad(weights / weights.sum(), padding).astype(np.float32),
            log_odds.astype(np.float32),
        )

    def judge(self, pfn: PFN, step: int) -> Judged:
        """By the first members. Untuned, they predict the classes that their context shows and no others."""
        judges = replace(self.ensemble, members=self.ensemble.members[:_JUDGES], predicted=len(self.model.classes_))
        logits = judges.logits(pfn, self.queries)
        class_weights, temperature = self.model.class_weights_, self.model.softmax_temperature
        probabilities = mean_probabilities(logits, temperature, class_weights)
        losses = row_losses(probabilities, self.answers, class_weights)
        loss = float(losses.mean())
        if not step:
            probabilities = probabilities * (self.ensemble.plan.ranks < self.ensemble.predicted)
        accuracy = float((probabilities.argmax(1) == self.answers).mean())
        name = self.model.eval_metric
        if name == "log_loss":
            return Judged(Score(step, loss, accuracy, -loss), logits, losses)
        return Judged(Score(step, loss, accuracy, metric(name, probabilities, self.answers)), logits)


def usual_rate(pfn: PFN) -> float:
    """The largest learning rate of AdamW, unless another is asked for."""
    return _RATE[pfn.config.architecture] / pfn.config.embedding_size**2


def _ranks(counts: Int[np.ndarray, " C"], n_context: int) -> Int[np.ndarray, " C"]:
    """The rank of each class: its position, or by decreasing frequency if a context of that length cannot show all."""
    return np.arange(len(counts)) if n_context >= len(counts) else np.argsort(np.argsort(-counts, kind="stable"))
