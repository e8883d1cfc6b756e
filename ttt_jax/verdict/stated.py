"""A claim as a value: what `check` is to be asked, for a file of claims."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ttt_jax.verdict.claim import check
from ttt_jax.verdict.outcome import Check
from ttt_jax.verdict.trial import Trial, make_trial

__all__ = ["Claim"]


@dataclass(frozen=True, eq=False, init=False)
class Claim:
    """A claim and what it is tried on, with the arguments of `check`; `ttt-jax check` runs those of a Python file.

    Args:
        claim, problems: as `check` takes them.
        options: its other arguments, by name.

    Raises:
        ValueError: for an argument that `check` does not take; the others are checked when the claim is tried.

    Example:
        >>> import numpy as np
        >>> from ttt_jax import Problem
        >>> problems = [Problem(9, 4, np.ones(2))]
        >>> gain = Claim(lambda k, d: k / (k + d), problems, start="zero", relation="<=", quantity="gain")
        >>> gain.check(num_tasks=0).verdict
        'refuted'
    """

    claim: Any
    problems: Any
    options: Mapping[str, Any]

    def __init__(self, claim: Any, problems: Any, **options: Any):
        known = list(inspect.signature(check).parameters)[2:]
        if unknown := sorted(options.keys() - {*known}):
            raise ValueError(f"Claim takes claim, problems, {', '.join(known)}, got {unknown[0]}")
        for name, value in (("claim", claim), ("problems", problems), ("options", options)):
            object.__setattr__(self, name, value)

    def trial(self, **changes: Any) -> Trial:
        """The arguments, checked, some of them changed."""
        asked = inspect.signature(check).bind(self.claim, self.problems, **{**self.options, **changes})
        asked.apply_defaults()
        return make_trial(**asked.arguments)

    def check(self, **changes: Any) -> Check:
        """The verdict, with some arguments changed."""
        return check(self.claim, self.problems, **{**self.options, **changes})

    @property
    def asked(self) -> dict[str, Any]:
        """Start, procedure, quantity and the options given, but for the number of tasks and the seed."""
        usual = inspect.signature(check).parameters
        options = {name: usual[name].default for name in ("start", "procedure", "quantity")} | dict(self.options)
        return {name: value for name, value in options.items() if name not in ("num_tasks", "seed")}

    @property
    def statement(self) -> str:
        """The claim in words: the docstring of a function, or the expression."""
        return (inspect.getdoc(self.claim) or "") if inspect.isfunction(self.claim) else str(self.claim)
