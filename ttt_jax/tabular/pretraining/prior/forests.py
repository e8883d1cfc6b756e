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
from ttt_jax.tabular.pretraining.prior.graph import class_shares, intervals, standardise
from ttt_jax.tabular.pretraining.prior.mechanisms import sum_of_trees

_TREES, _DEPTH = 8, 6
_BOOSTED, _SHALLOW = 32, 3


def random_forest(
    key: PRNGKeyArray, x: Float[Array, "F R"], used: Int[Array, ""], classes: Int[Array, ""]
) -> Int[Array, " R"]:
    """The largest mean vote of 1 to 8 trees whose every node tests a random column against a random row's value."""
    inner, rows = 2**_DEPTH, x.shape[1]
    draw = Draws(key, 4 + 2 * _TREES * inner, _TREES * inner * MAX_CLASSES + MAX_CLASSES)
    depth, count, shares = draw.integer(2, _DEPTH), draw.few(1, _TREES), class_shares(draw, classes)
    column = draw.integer(0, used - 1, (_TREES, inner))
    threshold = x[column, draw.integer(0, rows - 1, (_TREES, inner))]
    vote = draw.normal(_TREES, inner, MAX_CLASSES)

    def leaf(column, threshold):
        node = jnp.ones(rows, int)
        for level in range(_DEPTH):
            below = 2 * node + (x[column[node], jnp.arange(rows)] > threshold[node])
            node = jnp.where(level < depth, below, node) % inner
        return node

    votes = jax.vmap(lambda vote, *tree: vote[leaf(*tree)])(vote, column, threshold)
    exists = (jnp.arange(_TREES) < count)[:, None, None]
    return _decide((votes * exists).sum(0).T, shares, classes)


def boosted_trees(
    key: PRNGKeyArray, x: Float[Array, "F R"], used: Int[Array, ""], classes: Int[Array, ""]
) -> Int[Array, " R"]:
    """The largest of sums of up to 32 shallow trees; for two classes, whether one sum is large."""
    draw = Draws(key, 4 + 2 * _BOOSTED * (_SHALLOW + 1), _BOOSTED * 2**_SHALLOW * MAX_CLASSES + MAX_CLASSES)
    shares = class_shares(draw, classes)
    scores = sum_of_trees(draw, x, used, _BOOSTED, _SHALLOW, MAX_CLASSES)
    return _decide(scores, shares, classes)


def _decide(scores: Float[Array, "classes R"], shares: Float[Array, " classes"], classes: Int[Array, ""]):
    largest = (standardise(scores) + jnp.log(shares + 1e-9)[:, None]).argmax(0)
    return jnp.where(classes == 2, intervals(scores[0], shares, classes), largest)


def fitted_trees(
    rng: np.random.Generator, kind: str, x: Float[np.ndarray, "R F"], classes: int
) -> Int[np.ndarray, " R"]:
    """Classes by a model of scikit-learn that was fitted to noise on a few of the rows.

    Args:
        kind: "extra_trees", 1 to 8 of them, or "boosting", 5 to 30 shallow ones.
        x: columns without missing values.
    """
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor

    outputs = 1 if classes == 2 else classes
    some = rng.permutation(len(x))[: int(np.exp(rng.uniform(np.log(8), np.log(min(len(x), 128)))))]
    noise = rng.standard_normal((len(some), outputs))
    seed = int(rng.integers(2**31))
    if kind == "extra_trees":
        trees = int(np.exp(rng.uniform(0, np.log(9))))
        model = ExtraTreesRegressor(
            trees, max_depth=int(rng.integers(2, 8)), max_features=float(rng.uniform(0.2, 1)), random_state=seed
        )
        scores = model.fit(x[some], noise.squeeze()).predict(x).reshape(len(x), outputs)
    else:
        trees, depth = int(rng.integers(5, 31 if outputs == 1 else 11)), int(rng.integers(1, 4))
        models = [
            GradientBoostingRegressor(
                n_estimators=trees, max_depth=depth, learning_rate=0.3, max_features=0.5, random_state=seed + i
            )
            for i in range(outputs)
        ]
        scores = np.stack(
            [model.fit(x[some], target).predict(x) for model, target in zip(models, noise.T, strict=True)], axis=1
        )
    spread = 0.15 if rng.random() < 0.5 else rng.uniform(0.15, 1)
    weight = np.exp(spread * rng.standard_normal(classes))
    shares = weight / weight.sum()
    if outputs == 1:
        cut = np.quantile(scores, shares[0])
        return ((scores[:, 0] >= cut) & (scores[:, 0] > scores.min())).astype(np.int32)
    scores = (scores - scores.mean(0)) / (scores.std(0) + 1e-6)
    return (scores + np.log(shares)).argmax(1).astype(np.int32)
