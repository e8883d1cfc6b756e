"""The sizes and options of a PFN, read from a checkpoint's own description of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ttt_jax._internal.validate import boolean, choice, finite_number

__all__ = ["PFNConfig", "require_integer"]

# What the v2 classifier fixes. A checkpoint that says otherwise is another network.
_FIXED: dict[str, Any] = {
    "feature_positional_embedding": "subspace",
    "feature_attention_type": "full",
    "item_attention_type": "full",
    "multiquery_item_attention": False,
    "multiquery_item_attention_for_test_set": True,
    "nan_handling_enabled": True,
    "nan_handling_y_encoder": True,
    "normalize_x": True,
    "normalize_on_train_only": True,
    "normalize_by_used_features": True,
    "normalize_to_ranking": False,
    "remove_empty_features": True,
    "remove_outliers": False,
    "use_separate_decoder": False,
    "encoder_use_bias": False,
    "canonical_y_encoder": False,
    "bias": False,
    "two_sets_of_queries": False,
    "dag_pos_enc_dim": None,
}


@dataclass(frozen=True)
class PFNConfig:
    """What determines a PFN's network; the defaults are the sizes of the TabPFN v2 classifier.

    Attributes:
        architecture: `"tabpfn-v2"` (`ttt_jax.tabular.network.v2`) or `"slots"` (`ttt_jax.tabular.network.slots`).
        embedding_size: width E of every cell's vector.
        num_layers: number L of layers.
        num_heads: number H of attention heads; the head size is E / H.
        features_per_group: number g of features that share one column of vectors; v2 only, in slots each has its own.
        mlp_factor: the MLP's hidden width is this times E.
        num_classes: the largest number of classes, and the number of logits.
        thinking_rows: number of learned rows that every table is given as further context; slots only.
        slots_by_rank: the r-th smallest label takes slot r, in place of the class with r-th most rows; slots only.
            Test-time training sets it, for what it teaches a slot is about one class.
        column_seed: seed of the draws that tell columns apart (`ttt_jax.tabular.network.columns`).
        column_dtype: precision of these draws; `"float64"` gives those of the official package after `model.double()`.
        outlier_sigma: soft clipping of values further than this many standard deviations from the context mean, as the
            official classifier does with 12; None for no clipping. v2 only: slots compresses all values.

    Example:
        >>> PFNConfig(embedding_size=64, num_heads=4).head_size
        16
        >>> PFNConfig(embedding_size=64, num_heads=6)
        Traceback (most recent call last):
        ValueError: num_heads: 6 does not divide embedding_size 64; choose a divisor
    """

    embedding_size: int = 192
    num_layers: int = 12
    num_heads: int = 6
    features_per_group: int = 2
    mlp_factor: int = 4
    num_classes: int = 10
    column_seed: int = 0
    column_dtype: str = "float32"
    outlier_sigma: float | None = None
    architecture: str = "tabpfn-v2"
    thinking_rows: int = 16
    slots_by_rank: bool = False

    def __post_init__(self) -> None:
        for name in ("embedding_size", "num_layers", "num_heads", "features_per_group", "mlp_factor", "num_classes"):
            smallest = {"embedding_size": 4, "num_classes": 2}.get(name, 1)
            require_integer(name, getattr(self, name), smallest)
        require_integer("column_seed", self.column_seed, 0)
        require_integer("thinking_rows", self.thinking_rows, 0)
        boolean("slots_by_rank", self.slots_by_rank)
        choice("architecture", self.architecture, ("tabpfn-v2", "slots"))
        if self.column_seed >= 2**32:
            raise ValueError(f"column_seed must be below 2**32, got {self.column_seed}")
        if self.embedding_size % self.num_heads:
            raise ValueError(
                f"num_heads: {self.num_heads} does not divide embedding_size {self.embedding_size}; choose a divisor"
            )
        if self.column_dtype not in ("float32", "float64"):
            raise ValueError(f"column_dtype: {self.column_dtype!r} is neither 'float32' nor 'float64'")
        if self.outlier_sigma is not None and finite_number("outlier_sigma", self.outlier_sigma) <= 1:
            raise ValueError(
                f"outlier_sigma must be a number above 1, or None for no clipping, got {self.outlier_sigma!r}"
            )

    @property
    def head_size(self) -> int:
        return self.embedding_size // self.num_heads

    @property
    def hidden_size(self) -> int:
        return self.embedding_size * self.mlp_factor

    @property
    def column_size(self) -> int:
        """Length of a column's random vector."""
        return self.embedding_size // 4 if self.architecture == "tabpfn-v2" else 0

    @property
    def features_per_column(self) -> int:
        """How many features one column of vectors takes up."""
        return self.features_per_group if self.architecture == "tabpfn-v2" else 1

    @classmethod
    def from_tabpfn(cls, config: Mapping[str, Any], **options: Any) -> PFNConfig:
        """The configuration stored in an official checkpoint; `options` are fields in place of the file's.

        Keys that do not concern the network are ignored, absent keys and None mean the default; the number
        of classes must be there.

        Raises:
            ValueError: the file describes a network other than the v2 classifier.

        Example:
            >>> given = {"emsize": 64, "nhead": 4, "max_num_classes": 10, "nlayers": None, "seed": 5}
            >>> config = PFNConfig.from_tabpfn(given, column_seed=3)
            >>> config.num_layers, config.column_seed
            (12, 3)
        """
        given = {key: value for key, value in config.items() if value is not None}
        for shared in ("feature_attention_type", "item_attention_type"):
            given.setdefault(shared, given.get("attention_type", "full"))
        for key, expected in _FIXED.items():
            if key in given and given[key] != expected:
                raise ValueError(f"{key}: {given[key]!r} is not the v2 classifier, which has {expected!r}")
        classes = given.get("max_num_classes")
        if not isinstance(classes, int) or classes <= 2:
            raise ValueError(f"max_num_classes: {classes!r} is not a classifier of more than 2 classes; v2 has 10")
        names = {
            "emsize": "embedding_size",
            "nlayers": "num_layers",
            "nhead": "num_heads",
            "features_per_group": "features_per_group",
            "nhid_factor": "mlp_factor",
            "max_num_classes": "num_classes",
            "seed": "column_seed",
        }
        return cls(**{ours: given[theirs] for theirs, ours in names.items() if theirs in given} | options)


def require_integer(field: str, value: Any, smallest: int) -> None:
    """ValueError naming the field unless the value is a Python integer (as JSON holds) that is large enough."""
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise ValueError(f"{field} must be an integer >= {smallest}, got {value!r}")
