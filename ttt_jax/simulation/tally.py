"""What a Monte Carlo run keeps: moments of the per-task risk so far, and how they came about."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np
from jaxtyping import Float

from ttt_jax.simulation.moments import Moments

__all__ = ["Tally"]


@dataclass(frozen=True)
class Tally:
    """The state of a Monte Carlo run after a number of blocks; adding the next block is all that a run does to it.

    Args:
        num_blocks: blocks added.
        moments: of the finite risks.
        num_nonfinite: risks that overflowed.
        history: (number of tasks, mean, standard error) at four marks per octave of num_blocks.

    Example:
        >>> tally = Tally().add(np.array([1.0, 3.0])).add(np.array([2.0, np.inf]))
        >>> tally.num_tasks, tally.moments.mean, tally.num_nonfinite, [row[0] for row in tally.history]
        (4, 2.0, 1, [2, 4])
    """

    num_blocks: int = 0
    moments: Moments = field(default_factory=Moments)
    num_nonfinite: int = 0
    history: tuple[tuple[int, float, float], ...] = ()

    @property
    def num_tasks(self) -> int:
        return self.moments.count + self.num_nonfinite

    @property
    def at_mark(self) -> bool:
        """Whether num_blocks is one of 1, 2, ..., 8, 10, 12, 14, 16, 20, ...: where a run may decide to stop."""
        return self.num_blocks % (1 << max(self.num_blocks.bit_length() - 3, 0)) == 0

    def add(self, risks: Float[np.ndarray, " T"]) -> Tally:
        """The tally after one more block."""
        finite = risks[np.isfinite(risks)]
        tally = replace(
            self,
            num_blocks=self.num_blocks + 1,
            moments=self.moments.merge(Moments.of(finite)),
            num_nonfinite=self.num_nonfinite + len(risks) - len(finite),
        )
        return replace(tally, history=(*self.history, tally.point())) if tally.at_mark else tally

    def point(self) -> tuple[int, float, float]:
        """The entry of `history` that stands for now."""
        return self.num_tasks, self.moments.mean, self.moments.stderr

    def reached(self, target_relative_stderr: float) -> bool:
        """Whether the run may stop here: at a mark, with a standard error of at most the target times the mean."""
        return self.at_mark and self.moments.stderr <= target_relative_stderr * abs(self.moments.mean)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict) -> Tally:
        history = tuple((int(count), mean, stderr) for count, mean, stderr in state["history"])
        return cls(state["num_blocks"], Moments(**state["moments"]), state["num_nonfinite"], history)
