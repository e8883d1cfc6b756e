"""The prior on both paths: reproducible, of the promised ranges and shares, and learnable."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from ttt_jax.tabular.pretraining.prior import KINDS, MAX_CLASSES, PriorConfig, host_tables, sample_tables
from ttt_jax.tabular.pretraining.prior.draws import Draws

TABLES, ROWS, FEATURES, SIGMAS = 96, 128, 16, 5
CONTEXT = 64


@pytest.fixture(scope="module")
def device():
    return jax.device_get(sample_tables(key(0), PriorConfig(), TABLES, ROWS, FEATURES))


@pytest.fixture(scope="module")
def host():
    return host_tables(PriorConfig(), 0, 0, TABLES, ROWS, FEATURES)


@pytest.fixture(params=["device", "host"])
def tables(request):
    return request.getfixturevalue(request.param)


def key(seed):
    return jax.random.key(seed, impl="threefry2x32")


def only(kind, **others):
    return PriorConfig(**{name: float(name == kind) for name in KINDS}, **others)


def number_of_classes(tables):
    return np.array([len(set(labels)) for labels in tables.y])


def test_the_key_decides_on_the_device(device):
    again, other = (sample_tables(key(seed), PriorConfig(), TABLES, ROWS, FEATURES) for seed in (0, 1))
    for part, same in zip(device, again, strict=True):
        assert part.tobytes() == np.asarray(same).tobytes()
    assert (np.asarray(other.y) != device.y).any(1).mean() > 0.9


def test_the_arguments_decide_on_the_host(host):
    """Of how many tables there are, a table does not depend."""
    again = host_tables(PriorConfig(), 0, 0, 24, ROWS, FEATURES)
    for part, same in zip(host, again, strict=True):
        assert part[:24].tobytes() == same.tobytes()


@pytest.mark.parametrize(("seed", "step"), [(0, 1), (1, 0)])
def test_every_step_and_seed_has_its_own_tables(host, seed, step):
    other = host_tables(PriorConfig(), seed, step, 8, ROWS, FEATURES)
    assert (other.y != host.y[:8]).any(1).all()


def test_ranges(tables):
    assert (tables.x.dtype, tables.y.dtype, tables.num_features.dtype) == (np.float32, np.int32, np.int32)
    assert (tables.x.shape, tables.y.shape) == ((TABLES, ROWS, FEATURES), (TABLES, ROWS))
    assert not np.isinf(tables.x).any()
    assert tables.y.min() == 0
    assert tables.y.max() == MAX_CLASSES - 1
    assert tables.num_features.min() >= 2
    assert tables.num_features.max() == FEATURES


def test_padding_is_zero_and_columns_are_not(tables):
    is_column = np.arange(FEATURES) < tables.num_features[:, None]
    assert not tables.x.swapaxes(1, 2)[~is_column].any()
    spread = np.nanmax(tables.x, 1) - np.nanmin(tables.x, 1)
    assert (spread[is_column] > 0).mean() > 0.97


@pytest.mark.parametrize(("rows", "features"), [(2, 2), (16, 64)])
def test_small_and_wide_tables(rows, features):
    host = host_tables(PriorConfig(), 3, 0, 24, rows, features)
    shapes = jax.eval_shape(lambda key: sample_tables(key, PriorConfig(), 24, rows, features), key(0))
    assert [part.shape for part in host] == [part.shape for part in shapes] == [(24, rows, features), (24, rows), (24,)]
    assert not np.isinf(host.x).any()
    assert host.num_features.min() >= 2
    assert host.num_features.max() <= features
    assert host.num_features.max() > features // 2


def test_values_are_missing_in_the_stated_share_of_tables(tables):
    has_missing = np.isnan(tables.x).any((1, 2))
    p = PriorConfig().missing
    # Of the tables in which values may be missing, some have no column with any: at most all of those with few columns.
    assert p / 2 - SIGMAS * (p / 2 / TABLES) ** 0.5 < has_missing.mean() < p + SIGMAS * (p * (1 - p) / TABLES) ** 0.5
    never = host_tables(replace(PriorConfig(), missing=0.0), 0, 0, 16, ROWS, FEATURES)
    assert not np.isnan(never.x).any()


def test_classes_are_as_often_binary_as_stated(tables):
    """Some tables of three and more classes show only two of them in so few rows, so the upper bound is loose."""
    p = PriorConfig().binary
    stderr = (p * (1 - p) / TABLES) ** 0.5
    assert p - SIGMAS * stderr < (number_of_classes(tables) <= 2).mean() < p + 0.1 + SIGMAS * stderr


def test_labels_are_hardly_ever_constant(tables):
    """At most one table in a hundred: so more than 6 of 96 are as unlikely as 5 sigma."""
    assert (number_of_classes(tables) == 1).sum() <= 6


def test_kinds_have_their_shares():
    """All values of a table of rules are small integers, and those of hardly any causal graph are."""
    count, share = 60, 0.3
    mixed = PriorConfig(graph=1 - share, extra_trees=0.0, boosting=0.0, rules=share, missing=0.0)
    of_mixed, of_graphs, of_rules = (
        np.isin(host_tables(config, 5, 0, tables, 32, 8).x, np.arange(8)).all((1, 2)).mean()
        for config, tables in ((mixed, count), (only("graph", missing=0.0), count), (only("rules", missing=0.0), 12))
    )
    assert of_rules == 1
    assert of_graphs < 0.2
    expected = (1 - share) * of_graphs + share
    assert abs(of_mixed - expected) < SIGMAS * (expected * (1 - expected) / count) ** 0.5


def test_both_paths_draw_alike(device, host):
    """Classes, columns, missing values and rows of the largest class: means within sampling error."""
    statistics = [
        (number_of_classes(t), t.num_features, np.isnan(t.x).mean((1, 2)), [np.bincount(y).max() for y in t.y])
        for t in (device, host)
    ]
    for ours, theirs in zip(*statistics, strict=True):
        stderr = ((np.var(ours) + np.var(theirs)) / TABLES) ** 0.5
        assert abs(np.mean(ours) - np.mean(theirs)) < SIGMAS * stderr


def test_rows_are_exchangeable(tables):
    """The first and the last rows of a table have the same class shares, up to chance."""
    first, last = (
        np.array([np.bincount(row, minlength=MAX_CLASSES) for row in half]) for half in np.split(tables.y, 2, axis=1)
    )
    chi2 = ((first - last) ** 2 / np.maximum(first + last, 1)).sum()
    degrees = ((first + last) > 0).sum() - TABLES
    assert abs(chi2 - degrees) < SIGMAS * (2 * degrees) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_tables_can_be_learnt(kind):
    """On 64 rows a forest beats the most frequent class on average, by more than three standard errors."""
    gains = []
    for x, y, _ in zip(*host_tables(only(kind), 1, 0, 20, ROWS, FEATURES), strict=True):
        forest = make_pipeline(SimpleImputer(keep_empty_features=True), RandomForestClassifier(20, random_state=0))
        score = forest.fit(x[:CONTEXT], y[:CONTEXT]).score(x[CONTEXT:], y[CONTEXT:])
        gains.append(score - (y[CONTEXT:] == np.bincount(y[:CONTEXT]).argmax()).mean())
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / len(gains) ** 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "rows must be an integer >= 1, got 0"),
        ({"features": 1}, "features must be an integer between 2 and 64, got 1"),
        ({"features": 65}, "features must be an integer between 2 and 64, got 65"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments, message):
    sizes = {"tables": 1, "rows": 8, "features": 4} | arguments
    with pytest.raises(ValueError, match=message):
        host_tables(PriorConfig(), 0, 0, **sizes)
    with pytest.raises(ValueError, match=message):
        sample_tables(key(0), PriorConfig(), **sizes)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"graph": 0.7}, r"graph \+ extra_trees \+ boosting \+ rules must be 1, got 1.1"),
        ({"missing": 1.5}, "missing must be a number between 0 and 1, got 1.5"),
        ({"noisy": float("nan")}, "noisy"),
    ],
)
def test_shares_out_of_range_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        PriorConfig(**shares)


def test_integers_have_both_ends():
    numbers = np.asarray(Draws.of(key(3), 400).integer(2, 4, (400,)))
    assert abs(np.bincount(numbers, minlength=5)[2:] - 400 / 3).max() < SIGMAS * (400 * 2 / 9) ** 0.5
