"""The network of our own: what it must not depend on, in float64, with every parameter random."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax.tabular import PFN, PFNConfig
from ttt_jax.tabular.network import pfn as pfn_module
from ttt_jax.tabular.network import slots

CONFIG = PFNConfig(32, num_layers=2, num_heads=2, mlp_factor=3, architecture="slots", thinking_rows=3)
N, M, F, CLASSES = 37, 11, 5, 4
pytestmark = pytest.mark.usefixtures("few_sizes")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def pfn():
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: np.asarray(a, np.float64) + 0.2 * rng.normal(size=a.shape), PFN.init(CONFIG, seed=0))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N + M, F))
    x[:, 1] = rng.integers(0, 3, N + M)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x[:N], np.append(np.arange(CLASSES), rng.integers(0, CLASSES, N - CLASSES)).astype(float), x[N:]


@pytest.fixture(scope="module")
def logits(pfn, table):
    with jax.enable_x64(True):
        return answer(pfn, *table)


@jax.jit
def halved(pfn):
    return jax.tree.map(lambda p: p.astype(jnp.bfloat16), pfn)


def answer(pfn, x_context, y_context, x_query):
    """Padded, so that most tests share a compilation."""
    return np.asarray(pfn.apply_table(pfn.pad(x_context, y_context, x_query)))[: len(x_query)]


def test_names_of_the_classes_do_not_matter(pfn, table, logits):
    x, y, x_query = table
    for names in ([2, 0, 3, 1], [-5.5, 100, 7, 8]):
        renamed = answer(pfn, x, np.array(names)[y.astype(int)], x_query)
        order = np.argsort(np.argsort(names))
        np.testing.assert_array_equal(renamed[:, order], logits[:, :CLASSES])
    assert np.abs(np.diff(logits[:, :CLASSES], axis=1)).max() > 0.1  # they do differ between classes


def test_a_context_is_read_once_for_all_queries(pfn, table, logits):
    x, y, x_query = table
    reading = pfn.read(pfn.pad(x, y, x_query[:1]))
    for queries in (x_query, 50 * x_query):
        padded = pfn.pad(x, y, queries)
        expected = answer(pfn, x, y, queries)
        np.testing.assert_allclose(pfn.answer(reading, padded.x_query)[:M], expected, atol=1e-12, rtol=0)


def test_names_of_equally_frequent_classes_do_not_matter(pfn, table):
    x, y, x_query = table[0][:36], np.arange(36.0) % 3, table[2]
    cycled = answer(pfn, x, (y + 1) % 3, x_query)
    np.testing.assert_array_equal(cycled[:, [1, 2, 0]], answer(pfn, x, y, x_query)[:, :3])


def test_the_order_of_the_context_does_not_matter(pfn, table, logits):
    order = np.random.default_rng(2).permutation(N)
    np.testing.assert_allclose(answer(pfn, table[0][order], table[1][order], table[2]), logits, atol=1e-12)


def test_rotated_columns_change_nothing_and_other_orders_something(pfn, table, logits):
    x, y, x_query = table
    rotated = answer(pfn, np.roll(x, 2, axis=1), y, np.roll(x_query, 2, axis=1))
    np.testing.assert_allclose(rotated, logits, atol=1e-12)
    other = answer(pfn, x[:, [1, 0, 2, 3, 4]], y, x_query[:, [1, 0, 2, 3, 4]])
    assert np.abs(other - logits).max() > 0.01


def test_units_of_the_columns_do_not_matter(pfn, table, logits):
    scale, shift = np.array([1e-3, 2, 5, 1e4, 1]), np.array([0, 1e6, -3, 50, 0])
    x, y, x_query = table
    np.testing.assert_allclose(answer(pfn, x * scale + shift, y, x_query * scale + shift), logits, atol=1e-6)


def test_queries_do_not_see_each_other(pfn, table, logits):
    x, y, x_query = table
    alone = [answer(pfn, x, y, np.where(np.arange(M)[:, None] == i, x_query, 1e3))[i] for i in range(M)]
    np.testing.assert_allclose(alone, logits, atol=1e-12)


def test_padding_changes_nothing_and_has_no_gradient(pfn, table, logits):
    padded = pfn.pad(*table)
    assert padded.is_context.size > N
    assert padded.is_group.size > padded.is_group.sum() == F
    filled = padded._replace(
        x_context=np.where(padded.is_context[:, None] & padded.is_group, padded.x_context, 1e3),
        x_query=np.where(padded.is_group, padded.x_query, -1e3),
    )
    np.testing.assert_allclose(pfn.apply_table(filled)[:M], logits, atol=1e-12)
    np.testing.assert_allclose(pfn.apply(*table), logits, atol=1e-12)

    def loss(x):
        return (pfn.apply_table(padded._replace(x_context=x))[:M] ** 2).sum()

    gradient = np.asarray(jax.grad(loss)(padded.x_context))
    assert np.isfinite(gradient).all()
    assert not gradient[N:].any()
    assert not gradient[:, F:].any()
    assert gradient[:N, :F].any()


def test_a_row_that_is_not_marked_as_context_is_a_query(pfn, table, logits):
    """As pretraining uses it: the queries stand in the context's place."""
    padded = pfn.pad(*table)
    both = np.concatenate([table[0], table[2]])
    labels = np.concatenate([table[1], np.full(M, 2.0)])
    structure = slots.nnx.graphdef(pfn_module._abstract(CONFIG))
    mixed = padded._replace(
        x_context=both,
        y_context=labels,
        x_query=both[:1],
        is_context=np.arange(N + M) < N,
        is_query=np.ones(1, bool),
        is_group=np.ones(F, bool),
        column_draws=np.zeros((F, 0)),
    )
    rows = jax.jit(lambda params, table: slots.nnx.merge(structure, params).all_rows(table))(pfn.params, mixed)
    np.testing.assert_allclose(rows[N : N + M], logits, atol=1e-12)


def test_missing_labels_are_queries(pfn, table):
    x, y, x_query = table
    y = np.where(np.arange(N) < 30, y, np.nan)
    np.testing.assert_allclose(answer(pfn, x, y, x_query), answer(pfn, x[:30], y[:30], x_query), atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 7.5, np.nan, np.inf])
def test_columns_without_variation(pfn, table, value):
    x, y, x_query = (a.copy() for a in table)
    x[:, 2] = value
    assert np.isfinite(answer(pfn, x, y, x_query)).all()


def test_smallest_tables(pfn):
    assert np.isfinite(answer(pfn, np.ones((1, 1)), np.ones(1), np.zeros((2, 1)))).all()


def test_at_first_all_rows_have_an_equal_vote(table):
    """Layers start as the identity; the first prediction follows from the cells alone and is near the class shares."""
    y = table[1]
    even = slots.Vote(CONFIG, rngs=slots.nnx.Rngs(0))
    one_hot = jnp.asarray(y[:, None] == np.arange(CLASSES), float)
    rows = jnp.zeros((N, 32))
    votes = jax.jit(lambda *rows: even(*rows))(rows, rows, one_hot, jnp.ones(N, bool))
    np.testing.assert_allclose(jnp.exp(votes[0]), one_hot.mean(0), atol=1e-4)


def test_blocks_are_only_a_matter_of_memory(pfn, table, logits, monkeypatch):
    monkeypatch.setattr(slots, "_ELEMENTS_AT_ONCE", 2_000)
    anew = replace(pfn, config=replace(CONFIG, column_seed=1))  # compiled anew, though slots draw nothing by it
    np.testing.assert_allclose(answer(anew, *table), logits, atol=1e-12)


def test_ranks_and_deviations_of_a_column():
    x = np.array([[3.0], [1.0], [1.0], [np.nan], [2.0], [1.0], [9.0]])
    is_context = np.arange(5) < 4  # row 4 is not: its 2 counts as little as the queries' values
    cells = np.asarray(jax.jit(slots.encode_cells)(x, is_context, np.ones(1, bool)))[:, 0]
    mean, std = 5 / 3, np.std([3, 1, 1])
    np.testing.assert_allclose(cells[:, 0], np.where(np.isnan(x[:, 0]), 0, np.arcsinh((x[:, 0] - mean) / std)))
    np.testing.assert_allclose(cells[:, 1], [2 / 3, -1 / 3, -1 / 3, 0, 1 / 3, -1 / 3, 1], atol=1e-12)
    np.testing.assert_array_equal(cells[:, 2], [0, 0, 0, 1, 0, 0, 0])


def test_half_precision_weights_compute_in_it(table):
    with jax.enable_x64(False):
        pfn, single = PFN.init(CONFIG), tuple(a.astype(np.float32) for a in table)
        np.testing.assert_allclose(halved(pfn).apply(*single), pfn.apply(*single), atol=0.3)


def test_save_and_load(tmp_path):
    PFN.init(CONFIG).save(tmp_path / "pfn.safetensors")
    assert PFN.load(tmp_path / "pfn.safetensors").config == CONFIG


def test_slots_by_rank_are_those_by_count_if_the_classes_are_named_so():
    rng = np.random.default_rng(0)
    x, asked, y = rng.normal(size=(12, 3)), rng.normal(size=(5, 3)), np.repeat([0.0, 1, 2], [6, 4, 2])
    leaves, structure = jax.tree.flatten(PFN.init(CONFIG))
    pfn = jax.tree.unflatten(structure, [leaf + 0.1 * rng.normal(size=leaf.shape) for leaf in leaves])
    by_rank = replace(pfn, config=replace(CONFIG, slots_by_rank=True))
    np.testing.assert_allclose(by_rank.apply(x, y, asked), pfn.apply(x, y, asked), atol=1e-6)
    renamed = 2 - y
    np.testing.assert_allclose(pfn.apply(x, renamed, asked)[:, :3], pfn.apply(x, y, asked)[:, 2::-1], atol=1e-6)
    assert np.abs(by_rank.apply(x, renamed, asked)[:, :3] - by_rank.apply(x, y, asked)[:, 2::-1]).max() > 1e-3


def test_a_file_in_half_precision_is_read_as_float32(tmp_path):
    """Or else small updates of the weights would be lost to rounding."""
    half = halved(PFN.init(CONFIG))
    half.save(tmp_path / "half.safetensors")
    again = PFN.load(tmp_path / "half.safetensors")
    assert {p.dtype for p in jax.tree.leaves(again)} == {jnp.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, again, jax.tree.map(lambda p: np.asarray(p, np.float32), half))


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="architecture must be one of tabpfn-v2, slots, got 'v3'"):
        PFNConfig(architecture="v3")


def test_the_most_frequent_class_has_the_first_slot(table):
    x, _, _ = table
    y = np.repeat([0, 1, 2], [9, 17, 11])
    cells = jax.jit(slots.encode_cells)(x, np.ones(N, bool), np.ones(F, bool))
    order = jax.jit(slots.slot_order)(y[:, None] == np.arange(3), cells, np.ones(F, bool))
    assert order.tolist() == [1, 2, 0]
