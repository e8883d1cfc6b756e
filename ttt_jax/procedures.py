"""What is done at test time, as values: the third of a problem, a start and a procedure.

A procedure says how the start is trained on the n + k labelled pairs. Each is one frozen dataclass here, one sampler
for each path of `ttt_jax.simulation`, and one formula in `ttt_jax.theory` where one is known, all found by its type.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import jax
import numpy as np

from ttt_jax._internal.validate import (
    boolean,
    choice,
    finite_array,
    finite_number,
    integer_from,
    positive_integer,
    require_optimizer,
    require_square,
    shown,
    step_size_array,
)
from ttt_jax.problem import Problem, require_problem

__all__ = [
    "PROCEDURES",
    "Folds",
    "GradientStep",
    "GradientSteps",
    "Optimizer",
    "Procedure",
    "as_procedure",
    "make_procedure",
]


class Procedure:
    """What is done at test time; the base class of those below and of your own, which are frozen dataclasses.

    A field `lr` is the step size: a step of 0 changes nothing, sweeps and the command line set it by their own lr, and
    "optimal" leaves it for theory to choose.
    """

    def check(self, problem: Problem) -> None:
        """ValueError if the procedure does not fit the problem."""


@dataclass(frozen=True, eq=False)
class GradientStep(Procedure):
    """One gradient step on the n + k pairs, W - lr L grad R; plain without L and R.

    Args:
        lr: step size, for a loss that is a SUM over the k queries; "optimal" leaves it free, for theory to choose.
        left: L, a scalar, (d,) or (d, d); None for the identity. L = R = K is a preconditioned step.
        right: R, in the same forms. L = I and R = A'A is the first step of LoRA in B, W + B A, from B = 0.

    Raises:
        ValueError: if lr is neither "optimal" nor a finite number, or a factor is not an array of finite numbers.

    Example:
        >>> GradientStep(1e-3).lr, GradientStep().lr
        (0.001, 'optimal')
    """

    lr: float | str = "optimal"
    left: Any = None
    right: Any = None

    def __post_init__(self):
        object.__setattr__(self, "lr", _lr(self.lr))
        for name in ("left", "right"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, finite_array(name, getattr(self, name)))

    def check(self, problem: Problem) -> None:
        for name in ("left", "right"):
            if (factor := getattr(self, name)) is not None:
                require_square(name, factor, problem.d)


@dataclass(frozen=True, eq=False)
class Folds(Procedure):
    """One gradient step on all N = n + k pairs, each a query once with the pairs of the other folds as its context.

    Args:
        folds: number of folds K >= 2, a divisor of N; K = N is leave-one-out. The new context at inference has as many
            pairs as a context in training, N - N/K; the context "same" is that of the first fold.
        lr: step size, or "optimal".

    Example:
        >>> Folds(5).folds
        5
    """

    folds: int
    lr: float | str = "optimal"

    def __post_init__(self):
        integer_from(2, "folds", self.folds)
        object.__setattr__(self, "lr", _lr(self.lr))

    def check(self, problem: Problem) -> None:
        if (total := problem.n + problem.k) % self.folds:
            raise ValueError(f"folds must divide n + k = {total}, got {self.folds}")

    def context(self, problem: Problem) -> int:
        """Pairs in a context, N - N/K."""
        total = problem.n + problem.k
        return total - total // self.folds


@dataclass(frozen=True, eq=False)
class GradientSteps(Procedure):
    """T gradient steps of given sizes.

    Args:
        step_sizes: lr_1, ..., lr_T.
        new_context: draw all n + k pairs anew before each step, as in the paper's Figure 2c; else every step is on the
            same pairs.

    Example:
        >>> GradientSteps([1e-3, 5e-4]).num_steps
        2
    """

    step_sizes: Any
    new_context: bool = False

    def __post_init__(self):
        object.__setattr__(self, "step_sizes", step_size_array(self.step_sizes))
        boolean("new_context", self.new_context)

    def check(self, problem: Problem) -> None:
        _require_fresh(problem, self.new_context)

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.step_sizes)


@dataclass(frozen=True, eq=False)
class Optimizer(Procedure):
    """T steps of an optax optimiser on the loss that is a sum over the k queries.

    Args:
        optimizer: any optax gradient transformation that needs the gradient and the weights alone.
        num_steps: T.
        new_context: draw all pairs anew before each step.
        held_out: number of further labelled pairs, queried with the first context, that decide when to stop.

    Example:
        >>> import optax
        >>> Optimizer(optax.adam(1e-3), 20).num_steps
        20
    """

    optimizer: Any
    num_steps: int
    new_context: bool = False
    held_out: int = 0

    def __post_init__(self):
        require_optimizer(self.optimizer)
        positive_integer("num_steps", self.num_steps)
        boolean("new_context", self.new_context)
        integer_from(0, "held_out", self.held_out)

    def check(self, problem: Problem) -> None:
        _require_fresh(problem, self.new_context)


def as_procedure(given: Procedure | float | str) -> Procedure:
    """The procedure; a number, or "optimal", stands for `GradientStep` of this step size.

    Example:
        >>> as_procedure(0.1).lr
        0.1
    """
    if isinstance(given, int | float | np.number | np.ndarray | jax.Array) or given == "optimal":
        return GradientStep(given)
    if not isinstance(given, Procedure):
        right = "a step size or a procedure such as GradientStep(1e-3), or 'optimal'"
        named = isinstance(given, str) and given in PROCEDURES
        hint = "; ttt_jax.procedures.make_procedure takes names" * named
        raise ValueError(f"procedure must be {right}, got {shown(given)}{hint}")
    if (lr := getattr(given, "lr", None)) is not None:
        _lr(lr)
    return given


def procedure_for(problem: Any, given: Any) -> Procedure:
    """`as_procedure`; ValueError unless the problem is one and the procedure fits it."""
    require_problem(problem)
    procedure = as_procedure(given)
    procedure.check(problem)
    return procedure


PROCEDURES: dict[str, type[Procedure]] = {
    "step": GradientStep,
    "folds": Folds,
    "steps": GradientSteps,
    "optimizer": Optimizer,
}
"""Procedures by the names that sweeps and the command line use; add your own here."""


def make_procedure(name: str, **parameters: Any) -> Procedure:
    """A procedure by its name in `PROCEDURES`, with the parameters of its class.

    The optimizer is given by its name in optax, and its learning_rate.

    Raises:
        ValueError: if the name, or a parameter, is not known or invalid.

    Example:
        >>> make_procedure("folds", folds=5, lr=1e-3)
        Folds(folds=5, lr=0.001)
        >>> make_procedure("folds", number=5)
        Traceback (most recent call last):
        ValueError: procedure 'folds' takes folds, lr, got number
    """
    kind = PROCEDURES[choice("procedure", name, tuple(PROCEDURES))]
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    given = dict(parameters)
    if kind is Optimizer:
        known.insert(1, "learning_rate")
        given = _named_optimizer(given)
    if unknown := sorted(parameters.keys() - set(known)):
        raise ValueError(f"procedure {name!r} takes {', '.join(known)}, got {unknown[0]}")
    try:
        return kind(**given)
    except TypeError:
        missing = [one.name for one in fields(kind) if one.default is MISSING and one.name not in given]  # type: ignore[arg-type]
        raise ValueError(f"procedure {name!r} needs {' and '.join(missing)}") from None


def _named_optimizer(parameters: dict[str, Any]) -> dict[str, Any]:
    import optax

    rate, name = parameters.pop("learning_rate", None), parameters.get("optimizer")
    make = getattr(optax, name, None) if isinstance(name, str) else None
    refused = ValueError(f"optimizer must be the name of an optax optimiser such as 'adam', got {name!r}")
    if not callable(make):
        raise refused
    rate = finite_number("learning_rate", rate)
    try:
        optimizer = make(rate)
    except (AttributeError, TypeError, ValueError):  # optax has other functions too
        raise refused from None
    if not isinstance(optimizer, optax.GradientTransformation):
        raise refused
    return parameters | {"optimizer": optimizer}


def has_free_lr(procedure: Procedure) -> bool:
    """Whether the step size is left for theory to choose."""
    return getattr(procedure, "lr", None) == "optimal"


def with_lr(procedure: Any, lr: float) -> Any:
    """The procedure with this step size."""
    return replace(procedure, lr=lr)


def _lr(lr: object) -> float | str:
    if isinstance(lr, str):
        if lr != "optimal":
            raise ValueError(f"lr must be a finite number or 'optimal', got {lr!r}")
        return lr
    return finite_number("lr", lr)


def _require_fresh(problem: Problem, new_context: bool) -> None:
    if new_context and problem.inference.context == "same":
        raise ValueError("evaluation must be 'fresh' for new contexts at every step, got 'same'")
