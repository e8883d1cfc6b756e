"""Test-time training on a tiny PFN that knows Gaussian blobs, and on tables that it does not know."""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

from ttt_jax.tabular import PFN, PFNClassifier, PFNConfig, TTTClassifier
from ttt_jax.tabular.classify import ttt_classifier, tuning
from ttt_jax.tabular.classify.scores import fitted_temperature, log_loss
from ttt_jax.tabular.classify.tuning import Judged, Score, tune

BLOBS = Path(__file__).parent / "fixtures" / "blobs.safetensors"
OFFICIAL = Path(__file__).parent / "fixtures" / "small.ckpt"
pytestmark = pytest.mark.usefixtures("few_sizes")
SLOTS = PFN.init(PFNConfig(16, num_layers=1, num_heads=1, num_classes=4, architecture="slots", thinking_rows=2))
PFN_TINY = PFN(PFNConfig(), {"weight": np.zeros(1, np.float32)})


def classifier(**options) -> TTTClassifier:
    defaults = {"weights": BLOBS, "n_estimators": 1, "n_context": 24, "batch_size": 64, "steps": 4}
    return TTTClassifier(**(defaults | {"members_per_step": 1} | options))


@pytest.fixture(scope="module")
def squares():
    """A checkerboard, which blobs do not prepare for."""
    X = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "even", "odd")
    return X[:300], y[:300], X[300:], y[300:]


@parametrize_with_checks([TTTClassifier(weights=str(BLOBS), n_estimators=1, steps=1, batch_size=16)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_tuning_teaches_what_the_prior_does_not_know(squares):
    X, y, X_test, y_test = squares
    model = classifier(n_context=64, steps=40, learning_rate=8e-3, patience=10).fit(X, y)
    plain = classifier(n_context=64, mode="none").fit(X, y)
    assert model.score(X_test, y_test) > plain.score(X_test, y_test) + 0.05
    assert model.chosen_.step > 0


@pytest.mark.parametrize(
    "options",
    [{"learning_rate": 100.0}, {"mode": "one"}, {"optimizer": "sgd"}, {"n_context": None, "n_estimators": 4}],
)
def test_never_worse_than_plain_on_the_held_out_rows(squares, options):
    model = classifier(**options).fit(*squares[:2])
    first = model.scores_[0]
    assert first.step == 0
    assert model.chosen_.log_loss <= first.log_loss
    assert model.chosen_ in model.scores_


def test_one_step_goes_down_the_gradient(squares):
    model = classifier(mode="one", n_context=None).fit(*squares[:2])
    plain, *stepped = (score.log_loss for score in model.scores_)
    assert min(stepped) < plain


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "roc_auc"])
def test_the_metric_chooses(squares, name):
    model = classifier(eval_metric=name, learning_rate=4e-3, steps=10).fit(*squares[:2])
    assert model.chosen_.metric == max(score.metric for score in model.scores_)


def test_a_harmful_learning_rate_leaves_the_plain_model(squares):
    X, y, X_test, _ = squares
    model = classifier(learning_rate=1e3).fit(X, y)
    assert model.chosen_.step == 0
    context = model.ensemble_.members[0].rows
    plain = PFNClassifier(weights=BLOBS, n_estimators=1, softmax_temperature=model.temperature_)
    plain.fit(X[context], y[context])
    np.testing.assert_allclose(model.predict_proba(X_test), plain.predict_proba(X_test), atol=1e-5)


@pytest.mark.parametrize("options", [{"n_context": 40}, {"n_context": None, "mode": "none"}])
def test_without_training_it_is_the_plain_model(squares, options):
    X, y, X_test, _ = squares
    model = classifier(**options).fit(X[:40], y[:40])
    assert model.scores_ == []
    plain = PFNClassifier(weights=BLOBS, n_estimators=1).fit(X[:40], y[:40])
    np.testing.assert_allclose(model.predict_proba(X_test), plain.predict_proba(X_test), atol=1e-5)


def test_a_later_fit_without_training_forgets_what_was_chosen(squares):
    X, y, _, _ = squares
    model = classifier(steps=1).fit(X, y)
    assert model.chosen_
    assert not hasattr(model.set_params(mode="none").fit(X, y), "chosen_")


def test_one_class_needs_no_training(squares):
    assert classifier().fit(squares[0], np.zeros(300)).scores_ == []


def test_the_seed_decides(squares):
    X, y, X_test, _ = squares
    first, again, other = (classifier(random_state=seed).fit(X, y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.predict_proba(X_test), again.predict_proba(X_test))
    assert (first.ensemble_.members[0].rows != other.ensemble_.members[0].rows).any()


def test_a_context_of_one_row_can_learn_all_classes():
    """The plain network can only name the class that its context shows."""
    X, y = make_blobs(n_samples=240, centers=3, n_features=2, random_state=0)
    model = classifier(n_context=1, steps=60, learning_rate=6e-3, patience=10).fit(X[:200], y[:200])
    assert len(set(PFNClassifier(weights=BLOBS, n_estimators=1).fit(X[:1], y[:1]).predict(X[200:]))) == 1
    assert len(set(model.predict(X[200:]))) == 3
    assert model.score(X[200:], y[200:]) > 0.6


@pytest.mark.parametrize("n_context", [None, 24])
def test_every_update_asks_new_episodes_about_training_rows(squares, n_context, monkeypatch):
    """Context and queries are disjoint and drawn anew; held-out rows are in neither, and in the context afterwards."""
    asked = []

    def spy(trainer, member, queries):
        asked.append((set(member.rows), set(queries)))
        return episode(trainer, member, queries)

    episode = ttt_classifier._Trainer.episode
    monkeypatch.setattr(ttt_classifier._Trainer, "episode", spy)
    model = classifier(n_context=n_context, members_per_step=2, n_estimators=3, steps=3).fit(*squares[:2])
    assert len(asked) >= 6
    assert all(not context & queries for context, queries in asked)
    assert len({frozenset(context) for context, _ in asked}) == len(asked)
    seen = set().union(*(context | queries for context, queries in asked))
    held_out = set(range(300)) - seen
    assert len(held_out) >= 55
    if n_context is None:
        assert set(model.ensemble_.members[0].rows) == set(range(300))


def test_rows_beyond_the_limit_are_dealt_to_the_members(squares):
    X, y, X_test, _ = squares
    model = classifier(n_context=None, max_context_rows=100, n_estimators=3, steps=1).fit(X, y)
    assert len(set(np.concatenate([m.rows for m in model.ensemble_.members]))) >= 298
    assert all(len(m.rows) == 100 for m in model.ensemble_.members)
    assert model.predict_proba(X_test[:50]).shape == (50, 2)


def test_other_rows_can_choose(squares):
    X, y, X_test, y_test = squares
    model = classifier(n_context=None).fit(X[:250], y[:250], eval_set=(X_test[:50], y_test[:50]))
    assert len(model.ensemble_.X) == 250
    labels = np.searchsorted(model.classes_, y_test[:50])
    assert log_loss(model.predict_proba(X_test[:50]), labels, np.ones(2)) <= model.scores_[0].log_loss + 1e-6
    with pytest.raises(ValueError, match="eval_set: class 'other' is none of y's"):
        classifier().fit(X, y, eval_set=(X_test[:2], ["odd", "other"]))


def test_class_weights_count_in_training(squares, monkeypatch):
    """In the loss, and in the odds that it is the loss of."""
    asked = []
    monkeypatch.setattr(tuning, "_add_gradients", lambda gradients, _, __, episode: asked.append(episode) or gradients)
    classifier(class_weight={"odd": 20.0}).fit(*squares[:2])
    for episode in asked:
        real = episode.weights > 0
        of_odd, of_even = (
            episode.weights[real & (episode.targets == 1)],
            episode.weights[real & (episode.targets == 0)],
        )
        np.testing.assert_allclose(of_odd, 20 * of_even[0], rtol=1e-5)
        assert episode.weights.sum() == pytest.approx(1, rel=1e-5)
        assert episode.log_odds[1] - episode.log_odds[0] == pytest.approx(np.log(20), rel=1e-5)
        assert (episode.log_odds[2:] == -np.inf).all()
    assert asked


@pytest.mark.parametrize("architecture", ["tabpfn-v2", "slots"])
def test_a_second_fit_compiles_nothing(squares, caplog, architecture):
    X, y, _, _ = squares
    options = {"n_context": None, "learning_rate": 3e-2, "steps": 5}
    if architecture == "slots":
        options["weights"] = SLOTS
    classifier(**options).fit(X, y)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        classifier(**options, random_state=3).fit(X[:298], y[:298])
    assert not [r for r in caplog.records if r.message.startswith("Compiling")]


def test_updates_reuse_memory(squares):
    """The parameters and the optimiser's state are given away to the update; the weights of the caller are not."""
    X, y, _, _ = squares
    pfn = PFNClassifier(weights=BLOBS, n_estimators=1).fit(X[:30], y[:30]).pfn_
    classifier(weights=pfn, steps=2).fit(X, y)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(pfn))


def test_a_large_table_keeps_its_classes():
    X = np.random.default_rng(0).normal(size=(5000, 2))
    y = (X[:, 0] > 0).astype(int)
    y[:3] = 2
    model = classifier(steps=1, validation_fraction=0.01).fit(X, y)
    rows = model.ensemble_.members[0].rows
    assert set(model.ensemble_.labels[rows]) == {0, 1, 2}
    assert len(rows) == 24


def test_official_weights_can_be_tuned(squares):
    X, y, X_test, _ = squares
    model = classifier(weights=OFFICIAL, steps=2).fit(X, y)
    assert model.predict_proba(X_test).shape == (300, 2)
    assert model.scores_


class Slow:
    """A clock that the work moves on, and work that takes known times: compilation first, then less."""

    def __init__(self, monkeypatch, judging=(6.0, 1.0), update=(15.0, 2.0)):
        self.now, self.judging, self.update, self.calls = 0.0, list(judging), list(update), 0
        monkeypatch.setattr(tuning.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(tuning, "_add_gradients", lambda gradients, *_: gradients)
        monkeypatch.setattr(tuning, "_update", self.step)

    def step(self, optimizer, pfn, average, state, gradients, rate, kept):
        self.now += self.update.pop(0) if len(self.update) > 1 else self.update[0]
        self.calls += 1
        return pfn, average, state

    def judge(self, pfn, step):
        self.now += self.judging.pop(0) if len(self.judging) > 1 else self.judging[0]
        losses = np.full(2, 1 / (1 + step))
        return Judged(Score(step, 1 / (1 + step), 1.0, -1 / (1 + step)), np.zeros((1, 1, 2)), losses)


@pytest.mark.parametrize("seconds", [30.0, 60.0, 61.5])
def test_the_time_limit_is_used_and_kept(monkeypatch, seconds):
    slow = Slow(monkeypatch)
    tuned = tune(PFN_TINY, itertools.repeat([None]), slow.judge, steps=1000, learning_rate=1e-3, seconds=seconds)
    assert seconds - 4 < slow.now <= seconds
    assert tuned.chosen.score.step == slow.calls


@pytest.mark.parametrize(("gains", "kept"), [([0.3, 0.3, 0.3, -0.2], 3), ([0.3, 0.3, -0.3, -0.2], 0), ([0.3], 0)])
def test_a_gain_within_half_its_standard_error_does_not_count(gains, kept):
    """Means of .175 and .025, with standard errors of .125 and .16; a single row has none."""

    def judge(pfn, step):
        losses = 1 - (np.array(gains) if step else 0) * np.ones(len(gains))
        return Judged(Score(step, float(losses.mean()), 1.0, -float(losses.mean())), np.zeros((1, 1, 2)), losses)

    start = Judged(Score(0, 1.0, 1.0, -1.0), np.zeros((1, 1, 2)), np.ones(len(gains)))
    best = tuning.Tuned(PFN_TINY, start, start, [start.score])
    assert tuning._better(best, PFN_TINY, judge, tuning._Clock(None), step=3).chosen.score.step == kept


@pytest.mark.parametrize(("rate", "by_rank"), [(3e-2, True), (1e3, False)])
def test_a_class_keeps_the_slot_that_it_was_trained_in(rate, by_rank, tmp_path):
    """Though the held-out rows, which join the context, change which class is the most frequent; untuned, nothing."""
    X, y = make_blobs(n_samples=[51, 50, 49], n_features=2, random_state=0)
    model = TTTClassifier(SLOTS, n_estimators=4, learning_rate=rate, steps=30, members_per_step=1).fit(X, y)
    assert model.pfn_.config.slots_by_rank == by_rank == (model.chosen_.step > 0)
    assert {tuple(member.ranks) for member in model.ensemble_.members} == {(0, 1, 2)}
    model.save(tmp_path / "model")
    again = TTTClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_limit_below_compilation_trains_nothing_and_says_what_is_needed(monkeypatch):
    slow = Slow(monkeypatch)
    with pytest.warns(UserWarning, match="time_limit: nothing was trained; about 24 s are needed here"):
        tuned = tune(PFN_TINY, itertools.repeat([None]), slow.judge, steps=9, learning_rate=1e-3, seconds=10.0)
    assert slow.now <= 10
    assert len(tuned.scores) == 1


def test_rates_warm_up_and_fall_to_zero(monkeypatch):
    rates = []
    slow = Slow(monkeypatch)
    monkeypatch.setattr(tuning, "_update", lambda *a: rates.append(a[5]) or a[1:4])
    tune(PFN_TINY, itertools.repeat([None]), slow.judge, steps=50, learning_rate=0.1, patience=9)
    assert len(rates) == 50
    assert np.argmax(rates) == 5
    assert max(rates) == pytest.approx(0.1, rel=0.05)
    assert rates[0] < 0.02
    assert rates[-1] < 0.001


def test_the_temperature_undoes_a_factor_of_the_logits():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(1, 4000, 3))
    labels = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits[0]])
    assert fitted_temperature(3 * logits, np.ones(3), labels, 0.9) == pytest.approx(3, rel=0.1)
    few, more = (fitted_temperature(3 * logits[:, :rows], np.ones(3), labels[:rows], 0.9) for rows in (5, 100))
    assert 0.9 <= few < more < 3  # of few rows it stays near the usual one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "many"}, "mode must be one of none, one, few, full, got 'many'"),
        ({"optimizer": "muon"}, "optimizer must be one of adamw, sgd, got 'muon'"),
        ({"eval_metric": "r2"}, "eval_metric must be one of log_loss, accuracy, balanced_accuracy, roc_auc, got 'r2'"),
        ({"n_context": 301}, "n_context must be at most the 300 rows of X, got 301"),
        ({"n_context": 0}, "n_context must be an integer >= 1, got 0"),
        ({"steps": 2.5}, "steps must be an integer >= 1, got 2.5"),
        ({"learning_rate": -1.0}, "learning_rate must be positive, got -1.0"),
        ({"learning_rate": "x"}, "learning_rate must be a finite number, got 'x'"),
        ({"time_limit": 0}, "time_limit must be positive, got 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be between 0 and 1, got 1.0"),
        ({"validation_fraction": "x"}, "validation_fraction must be a finite number, got 'x'"),
    ],
)
def test_parameters_are_refused_by_name(squares, options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options).fit(*squares[:2])
