"""The best step of a prompt: against a search over step sizes, and against the Beta law of what it leaves."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import LinearAttention, Prompt, functional, ttt_step
from ttt_jax.theory.prompt_step import prompt_step_fraction, prompt_step_size


def draw(rng, n, k, d):
    task, x, queries = rng.normal(size=d), rng.normal(size=(n, d)), rng.normal(size=(k, d))
    return task, x, x @ task, queries, queries @ task


def test_no_other_step_of_the_model_leaves_less():
    rng = np.random.default_rng(0)
    task, x, y, queries, labels = draw(rng, 5, 7, 3)
    weights = rng.normal(size=(3, 3)) / 20
    best = prompt_step_size(weights, x, y, queries, labels)
    model, params = functional(LinearAttention(jnp.asarray(weights)))
    prompt = Prompt(*map(jnp.asarray, (x, y, queries, labels)))

    def risk(lr):
        stepped = np.asarray(ttt_step(model, params, prompt, lr).weights[...])
        return np.sum((task - stepped @ (x.T @ y)) ** 2)

    risks = [risk(factor * best) for factor in (0.99, 1.0, 1.01)]
    assert risks[1] < min(risks[0], risks[2])


def test_what_is_left_is_beta_whatever_the_start_is():
    rng, (n, k, d) = np.random.default_rng(1), (4, 6, 5)
    weights, left = rng.normal(size=(d, d)) / 20, []
    for _ in range(4000):
        task, x, y, queries, labels = draw(rng, n, k, d)
        u = x.T @ y
        r = task - weights @ u
        lr, v = prompt_step_size(weights, x, y, queries, labels), queries.T @ (labels - queries @ weights @ u)
        change = 2 * lr * (u @ u) * v
        left.append(np.sum((r - change) ** 2) / np.sum(r**2))
    mean, var = prompt_step_fraction(k, d)
    assert (mean, var) == (0.4, pytest.approx(0.4 * 0.6 / 6))
    assert abs(np.mean(left) - mean) < 4 * math.sqrt(var / len(left))
    square = (left - np.mean(left)) ** 2
    assert abs(square.mean() - var) < 4 * square.std() / math.sqrt(len(left))


def test_one_feature_leaves_nothing():
    assert prompt_step_fraction(3, 1) == (0, 0)


def test_a_prompt_that_no_step_changes_has_none():
    assert prompt_step_size(1.0, [[1.0]], [1.0], [[2.0]], [2.0]) == 0
    assert prompt_step_size(0.0, [[1.0]], [0.0], [[2.0]], [2.0]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, [1.0], [1.0], [[1.0]], [1.0]), r"context_x must be \(rows, d\) and context_y \(rows,\), got \(1,\) and"),
        (
            (0.0, [[1.0]], [1.0], [[1.0]], [1.0, 2.0]),
            r"query_x must be \(rows, d\) and query_y \(rows,\), got \(1, 1\)",
        ),
        ((0.0, [[1.0]], [1.0], [[1.0, 2.0]], [1.0]), "query_x must have 1 features as context_x has, got 2"),
        ((np.zeros(2), [[1.0]], [1.0], [[1.0]], [1.0]), r"weights must be a scalar or have shape \(1,\) or \(1, 1\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        prompt_step_size(*arguments)


def test_sizes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="k must be an integer >= 1, got 0"):
        prompt_step_fraction(0, 3)
