"""The network against the official package's answers, and its properties."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tables

from ttt_jax.tabular import PFN, PFNConfig, load_tabpfn_checkpoint
from ttt_jax.tabular.network import pfn as pfn_module
from ttt_jax.tabular.network.blocks import bucket, map_in_blocks

FIXTURES = Path(__file__).parent / "fixtures"
CASES = tables.cases()
SINGLE = {name: case for name, case in CASES.items() if case.x_context.ndim == 2}


@pytest.fixture(scope="module")
def answers():
    with np.load(FIXTURES / "answers.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def small():
    return load_tabpfn_checkpoint(FIXTURES / "small.ckpt")


@pytest.fixture
def one_size(monkeypatch):
    """Small tables are padded to one size, so that one compilation serves them all."""
    monkeypatch.setattr(pfn_module, "bucket", lambda size: max(32, bucket(size)))


def with_options(pfn: PFN, case: tables.Case, dtype: str) -> PFN:
    return replace(pfn, config=replace(pfn.config, outlier_sigma=case.outlier_sigma, column_dtype=dtype))


def arrays(case: tables.Case, dtype=np.float32):
    return tuple(a.astype(dtype) for a in case[:3])


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_official_ones_in_float32(small, answers, name):
    pfn = with_options(small, CASES[name], "float32")
    logits = pfn.apply(*arrays(CASES[name]))
    np.testing.assert_allclose(logits, answers[f"{name}/float32"], atol=1e-5, rtol=0)


@pytest.mark.usefixtures("one_size")
@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_official_ones_in_float64_and_padded(small, answers, name):
    case = CASES[name]
    pfn = with_options(small, case, "float64")
    with jax.enable_x64(True):
        if name in SINGLE:
            logits = np.asarray(pfn.apply_table(pfn.pad(*case[:3])))[: len(case.x_query)]
        else:
            logits = np.asarray(pfn.apply(*case[:3]))
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, answers[f"{name}/float64"], atol=1e-9, rtol=0)


def test_parameter_gradients_equal_those_of_autograd(small, answers):
    """Every parameter, to 1e-4 of its gradient's largest entry; read through the names of the checkpoint."""
    case = arrays(CASES["NaN and infinities"])
    loss, gradients = jax.value_and_grad(lambda pfn: (pfn.apply(*case) ** 2).sum())(small)
    np.testing.assert_allclose(loss, answers["loss"], rtol=1e-5)
    ours = {
        "encoder.5.layer.weight": gradients.params["features"]["kernel"].T,
        "y_encoder.2.layer.bias": gradients.params["target"]["bias"],
        "feature_positional_embedding_embeddings.weight": gradients.params["column"]["kernel"].T,
        "decoder_dict.standard.2.weight": gradients.params["decoder_output"]["kernel"].T,
    }
    layers = gradients.params["layers"]
    for i in range(small.config.num_layers):
        prefix = f"transformer_encoder.layers.{i}"
        for theirs, attention in (("features", "between_columns"), ("items", "between_rows")):
            ours[f"{prefix}.self_attn_between_{theirs}._w_qkv"] = layers[attention]["qkv"][i]
            ours[f"{prefix}.self_attn_between_{theirs}._w_out"] = layers[attention]["out"][i]
        ours[f"{prefix}.mlp.linear1.weight"] = layers["mlp"]["hidden"]["kernel"][i].T
        ours[f"{prefix}.mlp.linear2.weight"] = layers["mlp"]["output"]["kernel"][i].T
    for name, gradient in ours.items():
        expected = answers[f"gradient/{name}"]
        np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max(), rtol=0, err_msg=name)


def input_gradients(pfn: PFN, name: str):
    """Of the real queries' squared logits, with respect to context and queries; the padded table, too."""
    table = pfn.pad(*arrays(CASES[name]))

    def loss(x_context, x_query):
        logits = pfn.apply_table(table._replace(x_context=x_context, x_query=x_query))
        return (jnp.where(table.is_query[:, None], logits, 0) ** 2).sum()

    return table, *jax.grad(loss, argnums=(0, 1))(table.x_context, table.x_query)


@pytest.mark.usefixtures("one_size")
@pytest.mark.parametrize("name", ["NaN and infinities", "constant columns", "all-NaN column", "one context row"])
def test_input_gradients_are_finite(small, name):
    _, *gradients = input_gradients(small, name)
    assert all(np.isfinite(g).all() for g in gradients)


def test_input_gradient_is_the_slope(small):
    x_context, y_context, x_query = arrays(CASES["even features"], np.float64)
    with jax.enable_x64(True):
        direction = np.random.default_rng(0).normal(size=x_query.shape) * np.abs(x_query)

        def loss(step):
            return (small.apply(x_context, y_context, x_query + step * direction) ** 2).sum()

        slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(loss)(0.0), slope, rtol=1e-6)


def test_padding_changes_nothing(small):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(70, 9)), rng.integers(0, 3, 70), rng.normal(size=(20, 9))
    table[0][:, 2] = 0.1  # a mean that does not round to the constant
    logits = small.apply(*table)
    padded = small.apply_table(small.pad(*table))
    assert padded.shape == (20, 10)
    assert small.pad(*table).x_context.shape == (80, 10)
    np.testing.assert_allclose(padded, logits, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("one_size")
def test_padding_receives_no_gradient(small):
    table, *gradients = input_gradients(small, "odd features")
    context, query = map(np.asarray, gradients)
    assert not query[~table.is_query].any()
    assert not context[~table.is_context].any()
    assert context[table.is_context].any()


def test_a_context_is_read_once_for_all_queries(small):
    """Padded, with missing values in queries and context, and whatever the queries are; clipped, in `test_storage`."""
    rng = np.random.default_rng(0)
    x, y, queries = rng.normal(size=(33, 5)), rng.integers(0, 3, 33), rng.normal(size=(20, 5))
    x[3, 1] = queries[4, 2] = np.nan
    reading = small.read(small.pad(x, y, queries[:1]))
    for q in (queries, 50 * queries):
        table = small.pad(x, y, q)
        np.testing.assert_allclose(small.answer(reading, table.x_query), small.apply_table(table), atol=1e-5, rtol=0)


def test_tables_of_different_shapes_share_a_compilation(small):
    rng = np.random.default_rng(0)
    before = pfn_module._call._cache_size()
    for n, m, features in ((57, 50, 9), (61, 49, 10), (64, 56, 8)):
        table = small.pad(rng.normal(size=(n, features)), rng.integers(0, 3, n), rng.normal(size=(m, features)))
        small.apply_table(table)
    assert pfn_module._call._cache_size() == before + 2  # 8 features are 4 groups, 9 and 10 are 5


def test_a_network_is_a_pytree_that_compiles_once_for_a_configuration(small):
    case, compiled = arrays(CASES["even features"]), jax.jit(lambda pfn, *table: pfn.apply(*table))
    gradient = jax.grad(lambda pfn: (compiled(pfn, *case) ** 2).sum())(small)
    assert isinstance(gradient, PFN)
    assert gradient.config == small.config
    assert jax.tree.map(jnp.shape, gradient.params) == jax.tree.map(jnp.shape, small.params)
    moved = jax.tree.map(lambda p, g: p + g, small, gradient)
    compiled.clear_cache()
    assert (compiled(moved, *case) != compiled(small, *case)).any()
    assert compiled._cache_size() == 1
    other = replace(small, config=replace(small.config, outlier_sigma=3.0))
    assert jax.tree.structure(other) != jax.tree.structure(small)


@pytest.mark.usefixtures("one_size")
def test_query_rows_do_not_see_each_other(small):
    x_context, y_context, x_query = arrays(CASES["even features"])
    together = small.apply_table(small.pad(x_context, y_context, x_query))[: len(x_query)]
    alone = [small.apply_table(small.pad(x_context, y_context, row[None]))[0] for row in x_query]
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_batch_is_its_tables(small):
    case = arrays(CASES["batch"])
    batch = small.apply(*case)
    for i, logits in enumerate(batch):
        np.testing.assert_allclose(small.apply(*(a[i] for a in case)), logits, atol=1e-5)


def test_blocks_are_only_a_matter_of_memory():
    x = jnp.linspace(0.0, 1.0, 24).reshape(8, 3)
    in_blocks = jax.grad(lambda x: map_in_blocks(jnp.tanh, x, elements_per_item=2**21).sum())(x)
    np.testing.assert_allclose(in_blocks, jax.grad(lambda x: jnp.tanh(x).sum())(x), rtol=1e-6)


def test_initial_layers_are_the_identity():
    """As TabPFN's: what a layer adds to its input is a projection, and starts as 0."""
    layers = PFN.init(PFNConfig(embedding_size=16, num_layers=2, num_heads=2)).params["layers"]
    added = layers["between_columns"]["out"], layers["between_rows"]["out"], layers["mlp"]["output"]["kernel"]
    assert not any(np.any(weights) for weights in added)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((0, 3), (0,), (2, 3)), "x_context: shape"),
        (((4, 0), (4,), (2, 0)), "x_context: shape"),
        (((4, 3), (5,), (2, 3)), "y_context: shape"),
        (((4, 3), (4,), (2, 2)), "x_query: shape"),
        (((2, 4, 3), (2, 4), (2, 3)), "x_query: shape"),
    ],
)
def test_wrong_shapes_are_refused(small, shapes, message):
    with pytest.raises(ValueError, match=message):
        small.apply(*map(np.ones, shapes))
