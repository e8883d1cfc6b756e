"""Tables of nominal columns, with classes by rules on them, or before them. Letters: F columns, R rows, L levels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ttt_jax.tabular.pretraining.prior.config import MAX_CLASSES
from ttt_jax.tabular.pretraining.prior.draws import Draws
from ttt_jax.tabular.pretraining.prior.graph import class_shares, classes_by_score, intervals

_LEVELS, _RULES, _LITERALS = 8, 16, 3


def nominal_table(
    key: PRNGKeyArray, rows: int, features: int, used: Int[Array, ""], classes: Int[Array, ""], one_hot: Bool[Array, ""]
) -> tuple[Float[Array, "F R"], Int[Array, " R"], Int[Array, ""]]:
    """Columns, classes and the number of columns, about `used`: one per variable, or one per category if `one_hot`."""
    keys = jax.random.split(key, 4)
    draw = Draws.of(keys[0], 6 + 2 * features + 2 * rows, features * (2 * MAX_CLASSES * _LEVELS) + MAX_CLASSES)
    levels = draw.few(2, draw.integer(2, _LEVELS), (features,))
    last = jnp.cumsum(levels)
    variables = jnp.where(one_hot, jnp.maximum((last <= jnp.maximum(used, last[0])).sum(), 1), used)
    is_used = jnp.arange(features) < variables

    # Levels have probabilities of their own; with a latent class that comes first, or is unseen, others in each.
    shares = class_shares(draw, classes)
    group = draw.pick(shares, (rows,))
    kind = draw.pick((0.35, 0.25, 0.15, 0.25))
    grouped = (kind == 3) | (draw() < 0.5)
    tells = draw(shape=(features,)) < 0.6
    logits = draw.normal(features, 1, _LEVELS) + jnp.where((grouped & tells)[:, None, None], 1.5, 0.0) * draw.normal(
        features, MAX_CLASSES, _LEVELS
    )
    logits = jnp.where(jnp.arange(_LEVELS) < levels[:, None, None], logits, -jnp.inf)
    chance = jnp.cumsum(jax.nn.softmax(logits), axis=-1)[:, group]
    uniform = jax.random.uniform(keys[1], (features, rows, 1))
    code = jnp.minimum((uniform > chance).sum(-1), levels[:, None] - 1)

    labels = [
        _decision_list(keys[2], code, variables, classes),
        _weights(keys[3], code, is_used, shares, classes),
        _count(keys[3], code, variables, shares, classes),
        group,
    ]
    y = jnp.select([kind == i for i in range(4)], labels)
    variable = jnp.searchsorted(last, jnp.arange(features), side="right")
    category = jnp.arange(features) - jnp.concatenate([jnp.zeros(1, int), last])[variable]
    indicators = code[variable] == category[:, None]
    x = jnp.where(one_hot, indicators, code).astype(jnp.float32)
    return x, y, jnp.where(one_hot, jnp.minimum(last[variables - 1], features), used)


def _literals(draw: Draws, code: Int[Array, "F R"], variables: Int[Array, ""], count: int) -> Bool[Array, "count R"]:
    """Whether a random variable's category is in a random set; needs (1 + L) count uniforms."""
    variable = draw.integer(0, variables - 1, (count,))
    holds = draw(shape=(count, _LEVELS)) < 0.5
    return jnp.take_along_axis(holds, code[variable], axis=1)


def _decision_list(key, code, variables, classes) -> Int[Array, " R"]:
    """The class of the first rule whose 1 to 3 literals all hold, of at most 16 rules."""
    draw = Draws.of(key, _RULES * (_LITERALS * (1 + _LEVELS) + 2) + 1)
    literals = _literals(draw, code, variables, _RULES * _LITERALS).reshape(_RULES, _LITERALS, -1)
    length = draw.integer(1, _LITERALS, (_RULES, 1, 1))
    holds = (literals | (jnp.arange(_LITERALS)[:, None] >= length)).all(1)
    exists = jnp.arange(_RULES) < draw.few(classes, _RULES)
    first = jnp.where(holds & exists[:, None], jnp.arange(_RULES)[:, None], _RULES).min(0)
    conclusion = jnp.append(jnp.arange(_RULES), _RULES) % classes
    return conclusion[first]


def _weights(key, code, is_used, shares, classes) -> Int[Array, " R"]:
    """The largest sum of a weight per class, variable and category; about half of the variables have none."""
    features = len(code)
    draw = Draws.of(key, features, features * _LEVELS * MAX_CLASSES)
    weight = draw.normal(features, _LEVELS, MAX_CLASSES)
    weight *= (is_used & ((draw(shape=(features,)) < 0.5) | (jnp.arange(features) == 0)))[:, None, None]
    scores = jnp.take_along_axis(weight, code[..., None], axis=1).sum(0).T
    return classes_by_score(scores, shares, classes)


def _count(key, code, variables, shares, classes) -> Int[Array, " R"]:
    """How many of 2 to 8 literals hold."""
    draw = Draws.of(key, 1 + 8 * (1 + _LEVELS))
    used = (jnp.arange(8) < draw.integer(2, 8))[:, None]
    return intervals((_literals(draw, code, variables, 8) & used).sum(0).astype(jnp.float32), shares, classes)
