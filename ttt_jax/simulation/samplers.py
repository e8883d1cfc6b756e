"""One experiment of a procedure, on one of three paths: a pure function (key, problem, arguments) -> values.

A path is a `singledispatch` on the procedure. To add a procedure to one, register a function there by its type:

    rows        linear attention on sampled rows, streamed
    summaries   linear attention from the law of its summaries
    prompts     any model on whole prompts
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ttt_jax._internal.validate import integer_from, positive_integer, require_arguments, shown
from ttt_jax.problem import NotApplicable, Problem
from ttt_jax.procedures import Procedure
from ttt_jax.simulation.scaled import Units

__all__ = ["Joint", "Sampler", "prompts", "rows", "summaries"]


@dataclass(frozen=True, eq=False)
class Sampler:
    """How a procedure is simulated.

    Args:
        draw: (key, scaled, start, arguments) -> (V,) values of one experiment, in the units of the problem; hashable,
            each new one compiles anew.
        arguments: what `draw` needs of the procedure, a pytree of numbers and arrays that are traced.
        units: of the values, (V,).
        num_rows: rows that one experiment holds at once.
        num_stepped: copies of the weights, or numbers in them, that one experiment steps and holds.
    """

    draw: Callable[..., Float[Array, " V"]]
    arguments: PyTree
    units: Float[np.ndarray, " V"]
    num_rows: int
    num_stepped: int = 0

    def __post_init__(self):
        require_arguments("draw", self.draw, "key", "scaled", "start", "arguments")
        if np.ndim(self.units) != 1:
            raise ValueError(f"units must be a vector, one for each value of draw, got {shown(self.units)}")
        positive_integer("num_rows", self.num_rows)
        integer_from(0, "num_stepped", self.num_stepped)
        for leaf in map(np.asarray, jax.tree.leaves(self.arguments)):
            if leaf.dtype.kind == "f" and np.isnan(leaf).any():
                raise ValueError(f"arguments must be numbers, got {shown(self.arguments)}")


@dataclass(frozen=True)
class Joint:
    """Several procedures in one experiment, on the same task, contexts and queries.

    Args:
        draws: of their samplers.
        counts: how many values each gives.
    """

    draws: tuple[Callable[..., Float[Array, " V"]], ...]
    counts: tuple[int, ...]

    def __call__(self, key: Key[Array, ""], setting: tuple) -> Float[Array, " V"]:
        scaled, start, arguments = setting
        values = []
        for (draw, count, *_), group in groupby(zip(self.draws, self.counts, arguments, strict=True), _kind):
            own = [arguments for *_, arguments in group]

            def checked(arguments, draw=draw, count=count):
                return _of_shape((count,), draw(key, scaled, start, arguments))

            if len(own) == 1:  # an axis of length 1 is not free
                values.append(checked(*own))
                continue
            stacked = jax.tree.map(lambda *alike: jnp.stack(alike), *own)
            # What does not depend on the arguments is drawn once; an optimiser of optax has none.
            values.append(jax.vmap(checked, axis_size=len(own))(stacked).reshape(-1))
        return jnp.concatenate(values)


def _kind(part: tuple[Callable, int, PyTree]) -> tuple:
    draw, count, arguments = part
    return draw, count, jax.tree.structure(arguments), [jnp.shape(leaf) for leaf in jax.tree.leaves(arguments)]


def _of_shape(shape: tuple[int, ...], values: Any) -> Any:
    """The values that a sampler's `draw` gave; ValueError unless they have this shape, that of its units."""
    if not hasattr(values, "shape") or values.shape != shape:
        got = f"shape {values.shape}" if hasattr(values, "shape") else shown(values)
        raise ValueError(f"draw must return an array of shape {shape}, as many values as units, got {got}")
    return values


@singledispatch
def rows(procedure: Procedure, problem: Problem, units: Units) -> Sampler:
    """Linear attention, streamed row blocks; the start is W, (d, d)."""
    raise NotApplicable(f"no sampler of rows is known for {type(procedure).__name__}")


@singledispatch
def summaries(procedure: Procedure, problem: Problem, units: Units, d: int) -> Sampler:
    """Linear attention, the law of the summaries; the start is W, (d,) or (d, d).

    For a problem that was taken along its task, see `in_frame`, d is the number of its features before that.
    """
    raise NotApplicable(f"sampler must be 'data' for {type(procedure).__name__}, got 'law'")


@singledispatch
def prompts(procedure: Procedure, problem: Problem, model: Callable, num_queries: int) -> Sampler:
    """Any model; the start is its parameters. Nothing is rescaled."""
    raise NotApplicable(f"no sampler of prompts is known for {type(procedure).__name__}")
