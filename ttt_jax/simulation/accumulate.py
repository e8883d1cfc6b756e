"""What a Monte Carlo run keeps in place of its draws: moments of vectors, and how they came about.

The device reduces a block of draws, in their precision, to moments about its own mean. The host adds blocks in their
order, in float64. However many blocks it gets at once, every sum is the same sequence of additions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Block", "Moments", "Tally", "reduce_block"]

RADIX = 16


class Moments(NamedTuple):
    """Count of vectors, and sums of products and powers of their deviations from a center; leading axes are of blocks.

    Args:
        count: number of vectors.
        center: where deviations are from, (V,).
        first: sum of deviations, (V,).
        second: sum of their outer products, (V, V).
        third, fourth: sums of their third and fourth powers, (V,).

    Example:
        >>> moments = Moments(2, np.array([1.0]), np.array([2.0]), np.array([[4.0]]), np.array([8.0]), np.array([16.0]))
        >>> moments.mean.tolist(), moments.covariance.tolist()  # of 1 and 3
        ([2.0], [[2.0]])
    """

    count: Any
    center: Float[Any, "... V"]
    first: Float[Any, "... V"]
    second: Float[Any, "... V V"]
    third: Float[Any, "... V"]
    fourth: Float[Any, "... V"]

    def about(self, center: Float[np.ndarray, " V"]) -> Moments:
        """The same sums about another center."""
        n, step = np.asarray(self.count)[..., None], self.center - center
        square, m2 = step * step, np.diagonal(self.second, axis1=-2, axis2=-1)
        cross = self.first[..., :, None] * step[..., None, :]
        return Moments(
            self.count,
            np.broadcast_to(center, step.shape),
            self.first + n * step,
            self.second + cross + np.swapaxes(cross, -1, -2) + n[..., None] * step[..., :, None] * step[..., None, :],
            self.third + 3 * step * m2 + 3 * square * self.first + n * square * step,
            self.fourth
            + 4 * step * self.third
            + 6 * square * m2
            + 4 * square * step * self.first
            + n * square * square,
        )

    @property
    def mean(self) -> Float[np.ndarray, " V"]:
        return self.center + self.first / max(self.count, 1)

    @property
    def central(self) -> Moments:
        """About the mean."""
        return self.about(self.mean)

    @property
    def covariance(self) -> Float[np.ndarray, "V V"]:
        """Unbiased covariance; nan for fewer than two vectors."""
        scatter = self.central.second
        return scatter / (self.count - 1) if self.count > 1 else np.full_like(scatter, np.nan)

    @property
    def stderr(self) -> Float[np.ndarray, " V"]:
        """Standard errors of the mean."""
        return np.sqrt(np.diag(self.covariance) / max(self.count, 1))

    @property
    def skewness(self) -> Float[np.ndarray, " V"]:
        """Third standardised moments, 0 for a symmetric law and for one that does not vary."""
        central = self.central
        m2 = np.diag(central.second)
        return np.where(m2 > 0, np.sqrt(self.count) * central.third / np.where(m2 > 0, m2, 1.0) ** 1.5, 0.0)

    @property
    def kurtosis(self) -> Float[np.ndarray, " V"]:
        """Fourth standardised moments, 3 for a Gaussian (not the excess) and for a law that does not vary."""
        central = self.central
        m2 = np.diag(central.second)
        return np.where(m2 > 0, self.count * central.fourth / np.where(m2 > 0, m2, 1.0) ** 2, 3.0)


class Block(NamedTuple):
    """What is kept of a block of draws.

    Args:
        num_nonfinite: vectors with an entry that is not finite.
        unit: what the others are divided by, (V,), so that no power of them overflows.
        moments: of the quotients, about their mean.
    """

    num_nonfinite: Int[Any, ...]
    unit: Float[Any, "... V"]
    moments: Moments


def reduce_block(values: Float[Array, "T V"], live: Bool[Array, " T"]) -> Block:
    """The moments of the vectors that are live, on the device.

    Example:
        >>> block = reduce_block(jnp.array([[1.0], [3.0], [jnp.inf], [7.0]]), jnp.array([True, True, True, False]))
        >>> block.moments.count.item(), block.num_nonfinite.item(), (block.unit * block.moments.center).tolist()
        (2, 1, [2.0])
    """
    finite = live & jnp.isfinite(values).all(axis=1)
    kept, count = finite[:, None], jnp.sum(finite)
    values = jnp.where(kept, values, 0)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(values), axis=0))
    unit = jnp.ldexp(jnp.ones_like(values[0]), jnp.maximum(exponent, -100) - 1)  # a power of two: no digit is lost
    values = values / unit
    anchor = values[jnp.argmax(finite)]  # so that what does not vary has no deviation at all
    deviation = jnp.where(kept, values - anchor, 0)
    shift = _total(deviation) / jnp.maximum(count, 1)
    deviation = jnp.where(kept, deviation - shift, 0)
    square = deviation * deviation
    scatter = jax.lax.map(lambda column: _total(deviation * column[:, None]), deviation.T)
    third, fourth = _total(square * deviation), _total(square * square)
    moments = Moments(count, anchor + shift, jnp.zeros_like(shift), scatter, third, fourth)
    return Block(jnp.sum(live) - count, unit, moments)


def _total(terms: Float[Array, "T V"]) -> Float[Array, " V"]:
    """The sum in a tree of RADIX branches: the rounding of a few additions, the same for every compiler."""
    while len(terms) > 1:
        padded = jnp.pad(terms, ((0, -len(terms) % RADIX), (0, 0)))
        terms = padded.reshape(RADIX, -1, terms.shape[1]).sum(axis=0)
    return terms[0]


@dataclass(frozen=True, eq=False)
class Tally:
    """The state of a Monte Carlo run after a number of blocks; adding the next ones is all that a run does to it.

    Args:
        num_blocks: blocks added.
        moments: of the vectors whose entries are all finite; None before the first block.
        num_nonfinite: the other vectors.
        history: (number of tasks, mean, standard error) of the last entry at four marks per octave of num_blocks.

    Example:
        >>> draws = jnp.array([[[1.0], [3.0]], [[2.0], [jnp.inf]]])
        >>> tally = Tally().add(jax.vmap(reduce_block)(draws, jnp.ones((2, 2), bool)))
        >>> tally.num_tasks, tally.moments.mean.tolist(), tally.num_nonfinite, [row[0] for row in tally.history]
        (4, [2.0], 1, [2, 4])
    """

    num_blocks: int = 0
    moments: Moments | None = None
    num_nonfinite: int = 0
    history: tuple[tuple[int, float, float], ...] = field(default=())

    @property
    def num_tasks(self) -> int:
        return (self.moments.count if self.moments else 0) + self.num_nonfinite

    @property
    def at_mark(self) -> bool:
        """Whether num_blocks is one of 1, 2, ..., 8, 10, 12, 14, 16, 20, ...: where a run may decide to stop."""
        return self.num_blocks > 0 and self.num_blocks == next_mark(self.num_blocks - 1)

    def add(self, blocks: Block, target: float | None = None) -> Tally:
        """The tally after more blocks, those behind the mark at which the target is reached left out.

        Args:
            blocks: stacked along a first axis.
            target: of the relative standard error, see `reached`.
        """
        blocks = jax.tree.map(lambda a: np.asarray(a, np.int64 if a.dtype.kind == "i" else np.float64), blocks)
        unit, (count, center, first, second, third, fourth) = blocks.unit, blocks.moments
        square, pairs = unit * unit, unit[..., :, None] * unit[..., None, :]
        scaled = center * unit, first * unit, second * pairs, third * square * unit, fourth * square * square
        tally, start, total = self, 0, len(count)
        while start < total and not (target is not None and tally.reached(target)):
            end = min(total, start + next_mark(tally.num_blocks) - tally.num_blocks)
            part = Moments(count[start:end], *(a[start:end] for a in scaled))
            tally, start = tally._plus(part, int(blocks.num_nonfinite[start:end].sum())), end
        return tally

    def _plus(self, blocks: Moments, num_nonfinite: int) -> Tally:
        """After blocks of which none but the last is at a mark; there the center becomes the mean."""
        center = self.moments.center if self.moments else blocks.center[0]
        added = blocks.about(center)
        before = self.moments or Moments(0, *(np.zeros_like(a[0]) for a in blocks[1:]))
        sums = (np.add.accumulate(np.concatenate([[a], b]))[-1] for a, b in zip(before[2:], added[2:], strict=True))
        moments = Moments(before.count + int(blocks.count.sum()), center, *sums)
        tally = replace(
            self,
            num_blocks=self.num_blocks + len(blocks.count),
            moments=moments,
            num_nonfinite=self.num_nonfinite + num_nonfinite,
        )
        if tally.at_mark:
            tally = replace(tally, moments=moments.central)
            tally = replace(tally, history=(*self.history, tally.point()))
        return tally

    def point(self) -> tuple[int, float, float]:
        """The entry of `history` that stands for now."""
        assert self.moments is not None
        return self.num_tasks, float(self.moments.mean[-1]), float(self.moments.stderr[-1])

    def reached(self, target_relative_stderr: float) -> bool:
        """Whether the run may stop here: at a mark, every standard error at most the target times the mean."""
        if not (self.at_mark and self.moments):
            return False
        return bool((self.moments.stderr <= target_relative_stderr * np.abs(self.moments.mean)).all())

    def to_dict(self) -> dict:
        """Plain data, for JSON."""
        moments = self.moments and {name: np.asarray(a).tolist() for name, a in self.moments._asdict().items()}
        return {**vars(self), "moments": moments}

    @classmethod
    def from_dict(cls, state: dict) -> Tally:
        history = tuple((int(count), mean, stderr) for count, mean, stderr in state["history"])
        moments = state["moments"] and Moments(
            **{name: value if name == "count" else np.array(value) for name, value in state["moments"].items()}
        )
        return cls(state["num_blocks"], moments, state["num_nonfinite"], history)


def next_mark(num_blocks: int) -> int:
    """The first of 1, 2, ..., 8, 10, 12, 14, 16, 20, ... beyond a number of blocks.

    Example:
        >>> [next_mark(i) for i in (0, 7, 8, 9, 15, 16)]
        [1, 8, 10, 10, 16, 20]
    """
    step = 1 << max(num_blocks.bit_length() - 3, 0)
    return (num_blocks // step + 1) * step
