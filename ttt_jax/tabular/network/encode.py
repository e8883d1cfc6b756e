"""From a raw table to the numbers that the network embeds: parameter-free, differentiable in the features.

Letters: R rows of which the first N are context, G column groups of g features, F features.

Tables may be padded: `context` and `real` mark the context rows and the rows that exist. Row 0 is always a context row.
Every statistic is over marked rows alone, so padding changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ttt_jax.tabular.network.torch_sum import sum_rows

_CLIP = 100.0  # standard deviations; the value the network was trained with


def encode_features(
    x: Float[Array, "R F"],
    context: Bool[Array, " R"],
    real: Bool[Array, " R"],
    features_per_group: int,
    outlier_sigma: float | None = None,
    num_groups: int | Int[Array, ""] | None = None,
) -> Float[Array, "R G inputs"]:
    """Standardised values and missingness indicators of each column group, of which `num_groups` are real."""
    rows, features = x.shape
    x = jnp.pad(x, ((0, 0), (0, -features % features_per_group)))
    x = x.reshape(rows, -1, features_per_group)
    x = _varying_features_first(x, real)
    indicators = missing_indicator(x)
    moments = _ContextMoments(context, features_per_group * (x.shape[1] if num_groups is None else num_groups))
    x = _impute(x, moments)
    if outlier_sigma is not None:
        x = _clip_outliers(x, moments, outlier_sigma)
    x = _standardise(x, moments)
    used = jnp.maximum(_varies(x, real).sum(-1, keepdims=True), 1)
    scale = jnp.sqrt(features_per_group / used.astype(jnp.float32))  # float32 whatever x is, as in the official package
    x = x * scale.astype(x.dtype)
    return jnp.concatenate([x, indicators], axis=-1)


def encode_target(y: Float[Array, " N"], context: Bool[Array, " N"]) -> tuple[Float[Array, "N 2"], Float[Array, " 2"]]:
    """The context rows' class ranks and missingness indicators, and the pair that every query row gets.

    A label's rank is the number of distinct labels below it. Query rows and missing labels rank as the mean label.
    """
    indicators = missing_indicator(y)
    moments = _ContextMoments(context, num_columns=1)
    y = _impute(y, moments)
    mean = moments.mean(y)
    ordered = jnp.sort(jnp.where(context, y, jnp.inf))
    is_new = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    distinct_before = jnp.concatenate([jnp.zeros(1, int), jnp.cumsum(is_new)])

    def rank(value: Array) -> Array:
        return distinct_before[jnp.searchsorted(ordered, value)].astype(y.dtype)

    query = jnp.stack([rank(mean), missing_indicator(jnp.full((), jnp.nan, y.dtype))])
    return jnp.stack([rank(y), indicators], axis=-1), query


def missing_indicator(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-2 for NaN, 2 for +inf, 4 for -inf and 0 for a number."""
    kinds = [jnp.isnan(x), jnp.isposinf(x), jnp.isneginf(x)]
    return jnp.select(kinds, [jnp.full_like(x, -2), jnp.full_like(x, 2), jnp.full_like(x, 4)], jnp.zeros_like(x))


def _varies(x: Float[Array, "R G g"], real: Bool[Array, " R"]) -> Bool[Array, "G g"]:
    """Whether a feature differs anywhere from its row 0; NaN differs from everything."""
    return ((x[1:] != x[0]) & real[1:, None, None]).any(0)


def _varying_features_first(x: Float[Array, "R G g"], real: Bool[Array, " R"]) -> Float[Array, "R G g"]:
    """Constant features zeroed and moved to the end of their group."""
    varies = _varies(x, real)
    order = jnp.argsort(~varies, axis=-1, stable=True)[None]
    return jnp.take_along_axis(jnp.where(varies, x, 0), order, axis=-1)


class _ContextMoments(NamedTuple):
    """Mean and standard deviation per column over context rows, bit for bit those of the official package."""

    context: Bool[Array, " R"]
    num_columns: int | Int[Array, ""]

    def mean(self, x: Float[Array, "R ..."], chosen: Bool[Array, "R ..."] | bool = True) -> Float[Array, " *rest"]:
        """Mean over the chosen context values, 0 if there are none."""
        # The barriers keep XLA from multiplying by a reciprocal, and from fusing the division into what uses the mean.
        terms = jax.lax.optimization_barrier((self._sum(x, chosen), jnp.maximum(self._count(x, chosen), 1)))
        return jax.lax.optimization_barrier(terms[0] / terms[1])

    def std(
        self, x: Float[Array, "R ..."], mean: Float[Array, " *rest"], chosen: Bool[Array, "R ..."] | bool = True
    ) -> Float[Array, " *rest"]:
        """Unbiased standard deviation, 0 where there is no variation (and a zero gradient there)."""
        variance = self._sum((x - mean) ** 2, chosen) / jnp.maximum(self._count(x, chosen) - 1, 1)
        positive = variance > 0
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)

    def _sum(self, x, chosen):
        return sum_rows(jnp.where(chosen, x, 0), self.context.sum(), self.num_columns)

    def _count(self, x, chosen):
        context = self.context.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.broadcast_to(context & chosen, x.shape).sum(0).astype(x.dtype)


def _impute(x: Float[Array, "R ..."], moments: _ContextMoments) -> Float[Array, "R ..."]:
    """NaN and infinities replaced by the mean of the finite context values."""
    finite = jnp.isfinite(x)
    x = jnp.where(finite, x, 0)
    return jnp.where(finite, x, moments.mean(x, finite))


def _clip_outliers(x: Float[Array, "R G g"], moments: _ContextMoments, sigma: float) -> Float[Array, "R G g"]:
    """Values beyond `sigma` standard deviations of the outlier-free context are pulled back logarithmically."""
    mean = moments.mean(x)
    reach = sigma * moments.std(x, mean)
    inlier = (x >= mean - reach) & (x <= mean + reach)
    mean = moments.mean(x, inlier)
    reach = sigma * moments.std(x, mean, inlier)
    x = jnp.maximum(x, mean - reach - jnp.log(1 + jnp.abs(x)))
    return jnp.minimum(x, mean + reach + jnp.log(1 + jnp.abs(x)))


def _standardise(x: Float[Array, "R G g"], moments: _ContextMoments) -> Float[Array, "R G g"]:
    mean = moments.mean(x)
    std = moments.std(x, mean)
    std = jnp.where((std == 0) | (moments.context.sum() == 1), 1, std)
    return jnp.clip((x - mean) / (std + 1e-16), -_CLIP, _CLIP)
