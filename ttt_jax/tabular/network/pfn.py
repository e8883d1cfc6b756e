"""A PFN: a configuration and parameters, applied as a pure function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jaxtyping import Array, Float, Num
from safetensors import SafetensorError, safe_open
from safetensors.flax import save_file

from ttt_jax.tabular.network import slots, v2
from ttt_jax.tabular.network.blocks import bucket, map_in_blocks
from ttt_jax.tabular.network.columns import column_draws
from ttt_jax.tabular.network.config import PFNConfig
from ttt_jax.tabular.network.v2 import ArrayLike, Reading, Table
from ttt_jax.tabular.official.torch_file import CheckpointError

__all__ = ["PFN", "fit_params"]

Params: TypeAlias = dict[str, Any]
_FORMAT = "ttt_jax.tabular.PFN/1"
_MOST_CONFIG_CHARACTERS = 10_000


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PFN:
    """A prior-data fitted network: from a labelled context table to the logits of query rows, in one forward pass.

    It is a pytree whose leaves are the parameters: `jax.grad`, `jax.jit`, `jax.vmap` and optax take it whole.

    Attributes:
        config: the sizes and options of the network, static under `jax.jit`.
        params: nested dictionary of arrays; see `PFN.init` for random ones.

    Example:
        >>> import jax.numpy as jnp
        >>> pfn = PFN.init(PFNConfig(embedding_size=16, num_layers=2, num_heads=2, num_classes=3), seed=0)
        >>> x_context, y_context = jnp.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]]), jnp.array([0, 1, 1])
        >>> pfn.apply(x_context, y_context, x_query=jnp.array([[1.0, 1.0]])).shape
        (1, 3)
        >>> gradient = jax.grad(lambda pfn: (pfn.apply(x_context, y_context, x_context) ** 2).sum())(pfn)
        >>> type(gradient).__name__, gradient.config == pfn.config
        ('PFN', True)
    """

    config: PFNConfig = field(metadata={"static": True})
    params: Params

    @classmethod
    def init(cls, config: PFNConfig, seed: int = 0) -> PFN:
        """A random network; its layers start as the identity, and v2's attention is Xavier-uniform as TabPFN's."""
        return cls(config, _random_params(config, seed))

    def apply(
        self,
        x_context: Float[Array, "*batch N F"],
        y_context: Float[Array, "*batch N"],
        x_query: Float[Array, "*batch M F"],
    ) -> Float[Array, "*batch M classes"]:
        """The logits of the query rows given the context rows, as a pure, jitted, differentiable function.

        NaN and infinities are missing values. Labels are ranked, so any numbers do: logit j is the j-th smallest
        label's.
        Computed in float32, or in float64 if an argument is (which takes JAX's x64 mode).

        Raises:
            ValueError: if the shapes do not fit together, or no row is a context.
        """
        _require_shapes(jnp.shape(x_context), jnp.shape(y_context), jnp.shape(x_query))
        return _apply(self, x_context, y_context, x_query)

    def pad(
        self,
        x_context: Float[np.ndarray, "N F"],
        y_context: Num[np.ndarray, " N"],
        x_query: Float[np.ndarray, "M F"],
        width: int = 0,
    ) -> Table:
        """The table with its rows and columns padded to one of few sizes, so that tables share compilations.

        Of fewer than `width` columns, it is padded as one of `width`.

        Sizes are 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ...: at most a quarter is padding beyond the smallest.
        """
        _require_shapes(np.shape(x_context), np.shape(y_context), np.shape(x_query))
        dtype = np.result_type(np.float32, jnp.result_type(x_context, x_query))
        (n, features), m = np.shape(x_context), np.shape(x_query)[0]
        groups = -(-features // self.config.features_per_column)
        n_padded, m_padded, groups_padded = (
            bucket(n),
            bucket(m),
            bucket(max(groups, -(-width // self.config.features_per_column))),
        )
        columns = (0, groups_padded * self.config.features_per_column - features)
        draws = column_draws(self.config.column_seed, groups, self.config.column_size, self.config.column_dtype).astype(
            dtype
        )
        return Table(
            x_context=np.pad(np.asarray(x_context, dtype), ((0, n_padded - n), columns)),
            y_context=np.pad(np.asarray(y_context, dtype), (0, n_padded - n)),
            x_query=np.pad(np.asarray(x_query, dtype), ((0, m_padded - m), columns)),
            is_context=np.arange(n_padded) < n,
            is_query=np.arange(m_padded) < m,
            is_group=np.arange(groups_padded) < groups,
            column_draws=np.pad(draws, ((0, groups_padded - groups), (0, 0))),
        )

    def apply_table(self, table: Table) -> Float[Array, "M classes"]:
        """As `apply`, on a table of `pad`; the logits of padding rows mean nothing.

        Example:
            >>> pfn = PFN.init(PFNConfig(embedding_size=16, num_layers=2, num_heads=2, num_classes=3), seed=0)
            >>> table = pfn.pad(np.ones((5, 2)), np.arange(5) % 3, np.ones((9, 2)))
            >>> pfn.apply_table(table)[:9].shape
            (9, 3)
        """
        return _apply_table(self, table)

    def read(self, table: Table) -> Reading:
        """The context of a table of `pad`, once for all queries; of v2, no column may be constant in it.

        Example:
            >>> pfn = PFN.init(PFNConfig(embedding_size=16, num_layers=2, num_heads=2, num_classes=3), seed=0)
            >>> table = pfn.pad(np.eye(4), np.arange(4) % 3, np.ones((8, 4)))
            >>> pfn.answer(pfn.read(table), table.x_query).shape
            (8, 3)
        """
        return _call("read", self, table)

    def answer(self, reading: Reading, x_query: Float[ArrayLike, "M F"]) -> Float[Array, "M classes"]:
        """The logits of query rows, padded as the context that was read, up to rounding those of `apply_table`."""
        return _call("answer", self, reading, x_query)

    def save(self, path: str | Path) -> None:
        """Write the parameters and the configuration to a safetensors file."""
        tensors = {
            ".".join(name): jnp.asarray(value) for name, value in traverse_util.flatten_dict(self.params).items()
        }
        save_file(tensors, path, metadata={"format": _FORMAT, "config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | Path) -> PFN:
        """Read a file written by `PFN.save`; half precision becomes float32.

        Raises:
            CheckpointError: it is not such a file, or its tensors do not fit its configuration.
        """
        try:
            with safe_open(path, framework="flax") as file:
                config = _read_config(file.metadata() or {}, str(path))
                with np.errstate(over="ignore"):  # float64 beyond float32; refused as infinite
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({_one_line(error)})") from None
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a safetensors file ({_one_line(error)})") from None
        return cls(config, fit_params(config, tensors, str(path)))


def _read_config(metadata: Mapping[str, str], source: str) -> PFNConfig:
    if (found := metadata.get("format")) != _FORMAT:
        raise CheckpointError(f"{source}: format {found!r:.100} is not {_FORMAT!r}; use a file of PFN.save")
    text = metadata.get("config", "")
    if not 0 < len(text) <= _MOST_CONFIG_CHARACTERS:
        raise CheckpointError(f"{source}: config: {len(text)} characters; PFN.save writes a few hundred")
    try:
        return PFNConfig(**json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{source}: config: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def fit_params(config: PFNConfig, tensors: Mapping[str, Any], source: str) -> Params:
    """Named tensors as the parameters of a network, once names, shapes, kinds and values are checked."""
    leaves = traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(_abstract(config))))
    expected = {".".join(name): leaf.shape for name, leaf in leaves.items()}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(f"{source}: tensor {missing[0]!r} is missing ({len(missing)} in all)")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(
            f"{source}: tensor {unknown[0][:100]!r} is not part of the network ({len(unknown)} in all)"
        )
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{source}: {name}: shape {tensors[name].shape} where its configuration needs {shape}"
            )
        if not jnp.issubdtype(tensors[name].dtype, jnp.floating):
            raise CheckpointError(f"{source}: {name}: type {tensors[name].dtype} where real numbers are needed")
    with np.errstate(over="ignore"):  # half precision is for storage: updates of such weights would be lost to rounding
        arrays = {name: jnp.asarray(tensors[name], _at_least_float32(tensors[name])) for name in expected}
    for name, array in arrays.items():
        if not np.isfinite(np.asarray(array)).all():
            raise CheckpointError(f"{source}: {name}: holds NaN or infinite values; weights are finite")
    return traverse_util.unflatten_dict({tuple(name.split(".")): array for name, array in arrays.items()})


def _at_least_float32(tensor: Any) -> Any:
    return jnp.promote_types(tensor.dtype, jnp.float32)


def _require_shapes(x_context: tuple, y_context: tuple, x_query: tuple) -> None:
    if len(x_context) < 2 or x_context[-2] == 0 or x_context[-1] == 0:
        raise ValueError(f"x_context: shape {x_context} must be (..., rows, features), at least one of each")
    if y_context != x_context[:-1]:
        raise ValueError(f"y_context: shape {y_context} must be {x_context[:-1]}, a label per row of x_context")
    if len(x_query) != len(x_context) or x_query[:-2] != x_context[:-2] or x_query[-1] != x_context[-1]:
        raise ValueError(
            f"x_query: shape {x_query} must be {(*x_context[:-2], 'rows', x_context[-1])}, as x_context has"
        )


@jax.jit
def _apply(pfn, x_context, y_context, x_query):
    config, dtype = pfn.config, jnp.result_type(jnp.float32, x_context, x_query, *jax.tree.leaves(pfn))
    x_context, y_context, x_query = (jnp.asarray(a, dtype) for a in (x_context, y_context, x_query))
    (*batch, n, features), m = x_context.shape, x_query.shape[-2]
    groups = -(-features // config.features_per_column)
    draws = jnp.asarray(column_draws(config.column_seed, groups, config.column_size, config.column_dtype), dtype)
    marks = jnp.ones(n, bool), jnp.ones(m, bool), jnp.ones(groups, bool)

    def one_table(table):
        return _apply_table(pfn, Table(*table, *marks, draws))

    tables = x_context.reshape(-1, n, features), y_context.reshape(-1, n), x_query.reshape(-1, m, features)
    elements = (groups + 1) * (n + m) * (n * config.num_heads + config.hidden_size)
    return map_in_blocks(one_table, tables, elements).reshape(*batch, m, config.num_classes)


def _apply_table(pfn, table):
    return _call("__call__", pfn, table)


@partial(jax.jit, static_argnames="method")
def _call(method, pfn, *arguments):
    network = nnx.merge(nnx.graphdef(_abstract(pfn.config)), pfn.params)
    # Accelerators would otherwise multiply float32 in lower precision.
    with jax.default_matmul_precision(jax.config.jax_default_matmul_precision or "highest"):
        return getattr(network, method)(*arguments)


@partial(jax.jit, static_argnums=(0, 1))
def _random_params(config: PFNConfig, seed: int) -> Params:
    return nnx.to_pure_dict(nnx.state(_network(config, seed)))


def _network(config: PFNConfig, seed: int) -> v2.Network | slots.SlotNetwork:
    network = v2.Network if config.architecture == "tabpfn-v2" else slots.SlotNetwork
    return network(config, rngs=nnx.Rngs(seed))


@cache
def _abstract(config: PFNConfig) -> v2.Network | slots.SlotNetwork:
    return nnx.eval_shape(lambda: _network(config, 0))
