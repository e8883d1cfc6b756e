"""The shares of what a synthetic table can be."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isclose

from ttt_jax._internal.validate import finite_number

__all__ = ["KINDS", "PriorConfig"]

KINDS = ("graph", "extra_trees", "boosting", "rules")
MAX_CLASSES, MAX_FEATURES = 10, 64


@dataclass(frozen=True)
class PriorConfig:
    """Shares of the kinds of table, which sum to 1, and how often a table has each peculiarity.

    Attributes:
        graph: class and columns are variables of one random causal graph.
        extra_trees: the class is a function of the columns, a few extremely randomised trees.
        boosting: the same with a sum of many small trees.
        rules: nominal columns, and a class by rules on them or before them.
        binary: two classes; the others have 3 to 10, few more often than many.
        missing: some columns have missing values.
        noisy: up to 15% of the labels are random.
        one_hot: of the tables of kind `rules`, one column per category.

    Raises:
        ValueError: a share outside [0, 1], or kinds that do not sum to 1.

    Example:
        >>> PriorConfig(graph=1.0, extra_trees=0.0, boosting=0.0, rules=0.0).shares
        (1.0, 0.0, 0.0, 0.0)
    """

    graph: float = 0.6
    extra_trees: float = 0.2
    boosting: float = 0.1
    rules: float = 0.1
    binary: float = 0.5
    missing: float = 0.2
    noisy: float = 0.3
    one_hot: float = 0.4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= finite_number(field.name, value) <= 1:
                raise ValueError(f"{field.name} must be a number between 0 and 1, got {value!r}")
        if not isclose(sum(self.shares), 1):
            raise ValueError(f"{' + '.join(KINDS)} must be 1, got {sum(self.shares):g}")

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the kinds, in the order of `KINDS`."""
        return tuple(getattr(self, kind) for kind in KINDS)
