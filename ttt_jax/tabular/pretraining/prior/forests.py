"""Classes that trees on the columns decide: random trees in JAX, or scikit-learn's, fitted to noise.

Letters: F columns, of which the first `used` exist, R rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ttt_jax.tabular.pretraining.prior.config import MAX_CLASSES
from ttt_jax.tabular.pretraining.prior.draws import Draws
from ttt_jax.tabular.pretraining.prior.graph import class_shares, classes_by_score, standardise
from ttt_jax.tabular.pretraining.prior.mechanisms import sum_of_trees

_TREES, _DEPTH = 8, 6
_BOOSTED, _SHALLOW = 32, 3


def random_forest(
    key: PRNGKeyArray, x: Float[Array, "F R"], used: Int[Array, ""], classes: Int[Array, ""]
) -> Int[Array, " R"]:
    """By the sum of 1 to 8 trees whose every node tests a random column against a random row's value."""
    inner, rows = 2**_DEPTH, x.shape[1]
    draw = Draws.of(key, 6 + 2 * _TREES * inner, _TREES * inner * MAX_CLASSES + (len(x) + 1) * MAX_CLASSES)
    depth, count = draw.integer(2, _DEPTH), draw.few(1, _TREES)
    column = draw.integer(0, used - 1, (_TREES, inner))
    threshold = x[column, draw.integer(0, rows - 1, (_TREES, inner))]
    value = draw.normal(_TREES, inner, MAX_CLASSES) * (jnp.arange(_TREES) < count)[:, None, None]

    def tree(column, threshold, value):
        node = jnp.ones(rows, int)
        for level in range(_DEPTH):
            below = 2 * node + (x[column[node], jnp.arange(rows)] > threshold[node])
            node = jnp.where(level < depth, below, node) % inner
        return value[node]

    scores = jax.vmap(tree)(column, threshold, value).sum(0).T
    return _decide(draw, scores, x, used, classes)


def boosted_trees(
    key: PRNGKeyArray, x: Float[Array, "F R"], used: Int[Array, ""], classes: Int[Array, ""]
) -> Int[Array, " R"]:
    """By the sum of up to 32 shallow trees."""
    normals = _BOOSTED * 2**_SHALLOW * MAX_CLASSES + (len(x) + 1) * MAX_CLASSES
    draw = Draws.of(key, 6 + 2 * _BOOSTED * (_SHALLOW + 1), normals)
    return _decide(draw, sum_of_trees(draw, x, used, _BOOSTED, _SHALLOW, MAX_CLASSES), x, used, classes)


def _decide(draw: Draws, scores: Float[Array, "classes R"], x: Float[Array, "F R"], used, classes) -> Int[Array, " R"]:
    """The largest score; for two classes, whether one is large. In half of the tables scores have a linear part."""
    shares = class_shares(draw, classes)
    weight = draw.normal(MAX_CLASSES, len(x)) * (jnp.arange(len(x)) < used)
    scores = standardise(scores) + _linear_share(draw(), draw()) * standardise(weight @ _moderate(x))
    return classes_by_score(scores, shares, classes)


def _linear_share(first, second):
    return (first < 0.5) * (0.5 + 2 * second)


def _moderate(x: Float[Array, "F R"]) -> Float[Array, "F R"]:
    return jnp.clip(standardise(x), -3, 3)


def fitted_trees(
    rng: np.random.Generator, kind: str, x: Float[np.ndarray, "R F"], classes: int
) -> Int[np.ndarray, " R"]:
    """Classes by a model of scikit-learn, fitted on a few rows to noise, half of the time with a linear part.

    Args:
        kind: "extra_trees", 1 to 8 of them, or "boosting", 5 to 30 shallow ones.
        x: columns without missing values.
    """
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor

    def few(low: int, high: int) -> int:
        return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))

    outputs = 1 if classes == 2 else classes
    some = rng.permutation(len(x))[: few(min(8, len(x)), min(len(x), 128))]
    moderate = np.clip((x - x.mean(0)) / (x.std(0) + 1e-6), -3, 3)[some]
    linear = moderate @ rng.standard_normal((x.shape[1], outputs))
    target = rng.standard_normal((len(some), outputs))
    target += _linear_share(rng.random(), rng.random()) * linear / (linear.std(0) + 1e-6)
    seed = int(rng.integers(2**31))
    if kind == "extra_trees":
        depth, share = int(rng.integers(2, 8)), float(rng.uniform(0.2, 1))
        model = ExtraTreesRegressor(few(1, 8), max_depth=depth, max_features=share, random_state=seed)
        scores = model.fit(x[some], target.squeeze()).predict(x).reshape(len(x), outputs)
    else:
        trees, depth = few(5, 30), int(rng.integers(1, 4))
        model = GradientBoostingRegressor(
            n_estimators=trees, max_depth=depth, learning_rate=0.3, max_features=0.5, random_state=seed
        )
        scores = np.stack([model.fit(x[some], one).predict(x) for one in target.T], axis=1)
    spread = 0.15 if rng.random() < 0.5 else rng.uniform(0.15, 1)
    weight = np.exp(spread * rng.standard_normal(classes))
    shares = weight / weight.sum()
    if outputs == 1:
        cut = np.quantile(scores, shares[0])
        return ((scores[:, 0] >= cut) & (scores[:, 0] > scores.min())).astype(np.int32)
    scores = (scores - scores.mean(0)) / (scores.std(0) + 1e-6)
    return (scores + np.log(shares)).argmax(1).astype(np.int32)
