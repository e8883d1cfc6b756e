"""Estimates from different problems or starts on the same random numbers, with the covariance of their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ttt_jax.problem import Problem
from ttt_jax.procedures import Procedure
from ttt_jax.simulation.accumulate import Block, Tally, reduce_block
from ttt_jax.simulation.estimate import JointEstimate, make_run
from ttt_jax.simulation.worklist import all_draws

__all__ = ["estimate_together"]

BLOCKS_AT_ONCE = 64


def estimate_together(
    arms: Sequence[tuple[Problem, Any, Procedure]], *, num_tasks: int, seed: int = 0
) -> JointEstimate:
    """Estimates of several arms, each a (problem, start, procedure): equal keys give equal tasks, contexts and queries.

    Neighbours of the same problem and start are one run, as in `estimate_risk`; the others are run one after another
    on the same blocks of tasks. Problems that differ in n, k or noise share what they can.

    Args:
        arms: what is tried; of several steps the risk after the last is paired.
        num_tasks, seed: as in `estimate_risk`.

    Example:
        >>> from ttt_jax.procedures import GradientStep
        >>> problem = Problem(n=40, k=40, task=np.ones(8) / 8**0.5)
        >>> joint = estimate_together([(problem, w, GradientStep(1e-6)) for w in (0.01, 0.012)], num_tasks=2000)
        >>> difference, stderr = joint.difference(0, 1)
        >>> stderr < joint.estimates[0].stderr
        True
    """
    groups = [list(group) for _, group in groupby(arms, lambda arm: (id(arm[0]), id(arm[1])))]
    asked = [(problem, start, tuple(arm[2] for arm in group)) for group in groups for problem, start, _ in group[:1]]
    runs = [make_run(*one, num_tasks=num_tasks, seed=seed) for one in asked]
    block_size = min(run.block_size for run in runs)
    runs = [make_run(*one, num_tasks=num_tasks, seed=seed, block_size=block_size) for one in asked]
    last = [np.cumsum([len(part.units) for part in run.parts]) - 1 for run in runs]
    tallies, joint = [Tally() for _ in runs], Tally()
    for first in range(0, -(-num_tasks // block_size), BLOCKS_AT_ONCE):
        until = min(num_tasks, (first + BLOCKS_AT_ONCE) * block_size)
        drawn = [list(all_draws(replace(run, num_tasks=until), first)) for run in runs]
        tallies = [tally.add(_reduced(blocks)) for tally, blocks in zip(tallies, drawn, strict=True)]
        of_all = zip(*drawn, strict=True)
        joint = joint.add(_reduced([np.hstack([b[:, own] for b, own in zip(bs, last, strict=True)]) for bs in of_all]))
    estimates = [one for run, tally in zip(runs, tallies, strict=True) for one in run.estimates(tally)]
    assert joint.moments is not None
    return JointEstimate(tuple(estimates), joint.moments.covariance / max(joint.moments.count, 1))


def _reduced(blocks: list[Float[np.ndarray, "_ V"]]) -> Block:
    """The moments of every block, of which the last may be shorter, in float64."""
    size = len(blocks[0])
    values = np.stack([np.pad(block, ((0, size - len(block)), (0, 0))) for block in blocks])
    live = np.arange(size) < np.array([[len(block)] for block in blocks])
    with jax.enable_x64(True):
        return _reduce(values, live)


_reduce = jax.jit(jax.vmap(reduce_block))
