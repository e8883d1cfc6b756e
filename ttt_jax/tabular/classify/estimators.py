"""A scikit-learn classifier around a PFN: prediction in context, no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ttt_jax._internal.validate import boolean, positive_integer, positive_number, shown
from ttt_jax.tabular.classify.ensemble import Ensemble, mean_probabilities
from ttt_jax.tabular.classify.members import Plan
from ttt_jax.tabular.classify.storage import load_classifier, save_classifier
from ttt_jax.tabular.classify.table_input import as_frame, categories_of, numbers
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.official.checkpoint import load_tabpfn_checkpoint

__all__ = ["BUNDLED", "PFNClassifier", "load_weights"]

BUNDLED = ("default", "small")


class PFNClassifier(ClassifierMixin, BaseEstimator):
    """Classify rows of a table by one forward pass of a PFN whose context is the training table.

    Numbers, strings, categories and booleans are accepted, in NumPy arrays or pandas data frames; NaN, None and
    infinities are missing values. Columns that are constant in the training table are dropped.

    Args:
        weights: `"default"` or `"small"` for a bundled network, the better one or one ten times as fast; the path of
            an official TabPFN v2 classifier checkpoint or of a file of `PFN.save`; or a `PFN`.
        n_estimators: number of forward passes, each with its own order of features and of classes, and some with
            a column per category and quantiles of numbers, or with principal components, in place of the columns.
            Their probabilities are averaged.
        categorical_features: names or positions of columns that hold categories though they are numbers. Strings,
            objects and pandas categories are categorical anyway.
        class_weight: `"balanced"`, or a weight for each class: probabilities are multiplied by it, and errors on its
            rows count as much more; None for 1.
        softmax_temperature: logits are divided by this.
        outlier_sigma: soft clipping beyond so many standard deviations, above 1, of a TabPFN v2 network; None for none.
        cache_context: keep what the network makes of each member's context, so that later predictions take a fraction
            of the time. It takes memory: rows times columns times width times layers, for each member.
        max_context_rows: refuse a larger training table; time grows with its square, memory in proportion.
        device: a platform of JAX, `"cpu"`, `"gpu"` or `"tpu"`; None for JAX's default.
        random_state: seed of the orders.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_: number of columns of the training table.
        pfn_: the network in use.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> pfn = PFNClassifier(weights="tabpfn-v2-classifier.ckpt").fit(X[::2], y[::2])  # doctest: +SKIP
        >>> pfn.score(X[1::2], y[1::2])  # doctest: +SKIP
    """

    def __init__(
        self,
        weights: str | Path | PFN = "default",
        *,
        n_estimators: int = 4,
        categorical_features: Sequence[str | int] | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        softmax_temperature: float = 0.9,
        outlier_sigma: float | None = 12.0,
        cache_context: bool = False,
        max_context_rows: int = 10_000,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.weights = weights
        self.n_estimators = n_estimators
        self.categorical_features = categorical_features
        self.class_weight = class_weight
        self.softmax_temperature = softmax_temperature
        self.outlier_sigma = outlier_sigma
        self.cache_context = cache_context
        self.max_context_rows = max_context_rows
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def fit(self, X: Any, y: Any) -> PFNClassifier:
        """Keep the table as the context of later predictions.

        Raises:
            ValueError: a parameter or the table cannot be used, in one line that says what would be right.
        """
        X, labels = self._read(X, y)
        classes = len(self.classes_)
        seed = check_random_state(self.random_state).randint(2**31)
        plan = Plan(self.n_estimators, [np.arange(len(X))], np.arange(classes), classes, seed)
        self.temperature_ = self.softmax_temperature
        self._use(Ensemble.draw(X, labels, self._is_categorical(), plan, predicted=classes))
        return self

    def _use(self, ensemble: Ensemble) -> None:
        with self._on_device():
            self.ensemble_ = ensemble.read(self.pfn_) if self.cache_context else ensemble

    def _read(self, X: Any, y: Any) -> tuple[Float[np.ndarray, "rows F"], Int[np.ndarray, " rows"]]:
        """Learn what columns and classes there are, load the network, and return the table as numbers."""
        self._require_parameters()
        X = as_frame(X, self.categorical_features)
        self.categories_ = categories_of(X, self.categorical_features)
        X, y = validate_data(self, numbers(X, self.categories_), y, dtype=np.float64, ensure_all_finite=False)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._require_rows(len(X))
        pfn = load_weights(self.weights)
        if len(self.classes_) > pfn.config.num_classes:
            raise ValueError(
                f"y: {len(self.classes_)} classes, but this network has {pfn.config.num_classes}; "
                "merge rare classes, or wrap it in sklearn.multiclass.OneVsRestClassifier"
            )
        with self._on_device():
            self.pfn_ = jax.tree.map(
                jnp.asarray, replace(pfn, config=replace(pfn.config, outlier_sigma=self.outlier_sigma))
            )
        self.offsets_ = _offsets(X)
        X = self._float32(X)
        varies = (X[1:] != X[0]).any(0) & np.isfinite(X).any(0)
        self.columns_ = np.flatnonzero(varies) if varies.any() else np.arange(1)
        self.class_weights_ = _class_weights(self.class_weight, self.classes_, y)
        return X[:, self.columns_], labels

    def _is_categorical(self) -> Bool[np.ndarray, " F"]:
        return np.isin(self.columns_, list(self.categories_))

    def _require_rows(self, rows: int) -> None:
        if rows > self.max_context_rows:
            raise ValueError(
                f"X: {rows} rows exceed max_context_rows={self.max_context_rows}; subsample, or raise the limit"
            )

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """Class probabilities, columns in the order of `classes_`."""
        check_is_fitted(self)
        X = self._features(X)
        with self._on_device():
            logits = self.ensemble_.logits(self.pfn_, X)
        return mean_probabilities(logits, self.temperature_, self.class_weights_)

    def save(self, path: str | Path) -> None:
        """Write the fitted classifier, network and rows included, to one file without pickle."""
        check_is_fitted(self)
        save_classifier(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A classifier of `save`, with the same predictions by the same versions of JAX and scikit-learn.

        Nothing in the file is executed.

        Raises:
            CheckpointError: it is not such a file, or what it says does not fit together.
        """
        return load_classifier(path, {kind.__name__: kind for kind in (cls, *cls.__subclasses__())})

    def _features(self, X: Any) -> Float[np.ndarray, "M F"]:
        """Other rows of the table's columns, as numbers."""
        if hasattr(X, "columns"):
            validate_data(self, X, reset=False, skip_check_array=True)  # the names, before what is in the columns
        X = numbers(as_frame(X, self.categorical_features), self.categories_)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=False)
        return self._float32(X)[:, self.columns_]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def _float32(self, X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, "rows F"]:
        with np.errstate(over="ignore"):
            return (X - self.offsets_).astype(np.float32)

    def _on_device(self):
        return nullcontext() if self.device is None else jax.default_device(jax.devices(self.device)[0])

    def _require_parameters(self) -> None:
        for name in ("n_estimators", "max_context_rows"):
            positive_integer(name, getattr(self, name))
        positive_number("softmax_temperature", self.softmax_temperature)
        boolean("cache_context", self.cache_context)
        try:
            jax.devices(self.device)
        except (RuntimeError, TypeError):
            here = jax.default_backend()
            raise ValueError(f"device must be a platform of this machine, as {here!r}, got {self.device!r}") from None


def _offsets(X: Float[np.ndarray, "rows F"]) -> Float[np.ndarray, " F"]:
    """What to subtract before rounding to float32: the median of columns as timestamps, far from 0 for their spread."""
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.ma.masked_invalid(X)
        median = np.ma.median(finite, axis=0).filled(0)
        return np.where(np.abs(median) > 1000 * finite.std(0).filled(np.inf), median, 0)


def _class_weights(given: Any, classes: np.ndarray, y: np.ndarray) -> Float[np.ndarray, " C"]:
    if given is not None and given != "balanced" and not isinstance(given, Mapping):
        raise ValueError(f"class_weight must be 'balanced', a weight for each class or None, got {shown(given)}")
    if isinstance(given, Mapping):
        for name, weight in given.items():
            if name not in classes:
                raise ValueError(f"class_weight: class {name!r} is none of y's")
            positive_number(f"class_weight[{name!r}]", weight)
    return compute_class_weight(given, classes=classes, y=y)


def load_weights(weights: str | Path | PFN) -> PFN:
    """The network that `PFNClassifier(weights=...)` names."""
    if isinstance(weights, PFN):
        return weights
    if not isinstance(weights, (str, Path)):
        raise ValueError(f"weights must be 'default', 'small', the path of a file or a PFN, got {weights!r}")
    if weights in BUNDLED:
        with resources.as_file(resources.files("ttt_jax.tabular").joinpath(f"{weights}.safetensors")) as path:
            return PFN.load(path)
    if not Path(weights).is_file():
        raise ValueError(f"weights must be default, small or the path of a file, got {str(weights)!r}, no such file")
    with open(weights, "rb") as file:
        is_zip = file.read(2) == b"PK"
    return load_tabpfn_checkpoint(weights) if is_zip else PFN.load(weights)
