"""What a Monte Carlo run keeps in place of its draws: streaming moments of vectors, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

__all__ = ["Moments", "Tally"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean, scatter matrix and sums of third and fourth powers of deviations from the mean, in float64.

    Merging is exact up to rounding, so a sample may be cut into blocks; the order of merging fixes the rounding.

    Args:
        count: number of vectors.
        mean: (V,).
        scatter: sum of outer products of deviations, (V, V).
        m3, m4: sums of third and fourth powers of deviations, (V,).

    Example:
        >>> a = Moments.of([[1.0], [2.0]]).merge(Moments.of([[3.0], [6.0]]))
        >>> a.count, a.mean.tolist(), a.covariance.round(4).tolist()
        (4, [3.0], [[4.6667]])

    Reference: Chan, Golub, LeVeque (1979); Pebay (2008), equations 3.1.
    """

    count: int
    mean: Float[np.ndarray, " V"]
    scatter: Float[np.ndarray, "V V"]
    m3: Float[np.ndarray, " V"]
    m4: Float[np.ndarray, " V"]

    @classmethod
    def of(cls, values: ArrayLike) -> Moments:
        """The moments of vectors (T, V)."""
        columns = np.ascontiguousarray(np.asarray(values, dtype=np.float64).T)
        width, count = columns.shape
        if not count:
            return cls(0, np.zeros(width), np.zeros((width, width)), np.zeros(width), np.zeros(width))
        mean = columns.mean(axis=1)
        deviation = columns - mean[:, None]
        square = deviation * deviation
        scatter = deviation @ deviation.T
        np.fill_diagonal(scatter, square.sum(axis=1))
        return cls(count, mean, scatter, (square * deviation).sum(axis=1), (square * square).sum(axis=1))

    def merge(self, other: Moments) -> Moments:
        """The moments of both samples together."""
        if not (self.count and other.count):
            return self if self.count else other
        a, b = self.count, other.count
        n = a + b
        delta = other.mean - self.mean
        step = delta / n
        m2, other_m2 = np.diag(self.scatter), np.diag(other.scatter)
        return Moments(
            n,
            self.mean + step * b,
            self.scatter + other.scatter + np.outer(delta, step) * a * b,
            self.m3 + other.m3 + delta * step * step * a * b * (a - b) + 3 * step * (a * other_m2 - b * m2),
            self.m4
            + other.m4
            + delta * step**3 * a * b * (a * a - a * b + b * b)
            + 6 * step**2 * (a * a * other_m2 + b * b * m2)
            + 4 * step * (a * other.m3 - b * self.m3),
        )

    @property
    def covariance(self) -> Float[np.ndarray, "V V"]:
        """Unbiased covariance; nan for fewer than two vectors."""
        return self.scatter / (self.count - 1) if self.count > 1 else np.full_like(self.scatter, np.nan)

    @property
    def stderr(self) -> Float[np.ndarray, " V"]:
        """Standard errors of the mean."""
        return np.sqrt(np.diag(self.covariance) / max(self.count, 1))

    @property
    def skewness(self) -> Float[np.ndarray, " V"]:
        """Third standardised moments, 0 for a symmetric law and for one that does not vary."""
        m2 = np.diag(self.scatter)
        return np.where(m2 > 0, np.sqrt(self.count) * self.m3 / np.where(m2 > 0, m2, 1.0) ** 1.5, 0.0)

    @property
    def kurtosis(self) -> Float[np.ndarray, " V"]:
        """Fourth standardised moments, 3 for a Gaussian (not the excess) and for a law that does not vary."""
        m2 = np.diag(self.scatter)
        return np.where(m2 > 0, self.count * self.m4 / np.where(m2 > 0, m2, 1.0) ** 2, 3.0)


@dataclass(frozen=True, eq=False)
class Tally:
    """The state of a Monte Carlo run after a number of blocks; adding the next block is all that a run does to it.

    Args:
        num_blocks: blocks added.
        moments: of the vectors whose entries are all finite; None before the first block.
        num_nonfinite: the other vectors.
        history: (number of tasks, mean, standard error) of the last entry at four marks per octave of num_blocks.

    Example:
        >>> tally = Tally().add(np.array([[1.0], [3.0]])).add(np.array([[2.0], [np.inf]]))
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
        return self.num_blocks % (1 << max(self.num_blocks.bit_length() - 3, 0)) == 0

    def add(self, values: Float[np.ndarray, "T V"]) -> Tally:
        """The tally after one more block."""
        finite = values[np.isfinite(values).all(axis=1)]
        block = Moments.of(finite)
        tally = replace(
            self,
            num_blocks=self.num_blocks + 1,
            moments=self.moments.merge(block) if self.moments else block,
            num_nonfinite=self.num_nonfinite + len(values) - len(finite),
        )
        return replace(tally, history=(*self.history, tally.point())) if tally.at_mark else tally

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
        moments = self.moments and {name: np.asarray(value).tolist() for name, value in vars(self.moments).items()}
        return {**vars(self), "moments": moments}

    @classmethod
    def from_dict(cls, state: dict) -> Tally:
        history = tuple((int(count), mean, stderr) for count, mean, stderr in state["history"])
        given = state["moments"]
        moments = given and Moments(given.pop("count"), **{name: np.array(value) for name, value in given.items()})
        return cls(state["num_blocks"], moments, state["num_nonfinite"], history)
