"""The expected risk in closed form, exactly and to leading order: two questions that every procedure may answer.

A formula for a procedure is a function registered by its type: `@exact.register` or `@leading_order.register` above
`def formula(procedure: GradientStep, problem, weights, num_tasks, seed)`.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, overload

import numpy as np

from ttt_jax._internal.validate import positive_integer, seed_integer, weights_array
from ttt_jax.problem import NotApplicable, Problem, require_linear
from ttt_jax.procedures import Folds, GradientStep, GradientSteps, Optimizer, Procedure, procedure_for
from ttt_jax.risk_curve import RiskCurve, RiskPath

__all__ = ["asymptotic_risk", "exact_risk"]


@overload
def exact_risk(
    problem: Problem,
    start: Any,
    procedure: GradientStep | Folds | float | str = ...,
    *,
    num_tasks: int = ...,
    seed: int = ...,
) -> RiskCurve: ...
@overload
def exact_risk(
    problem: Problem, start: Any, procedure: GradientSteps | Optimizer, *, num_tasks: int = ..., seed: int = ...
) -> RiskPath: ...
@overload
def exact_risk(
    problem: Problem, start: Any, procedure: Procedure | float | str, *, num_tasks: int = ..., seed: int = ...
) -> RiskCurve | RiskPath: ...
def exact_risk(
    problem: Problem,
    start: Any,
    procedure: Procedure | float | str = "optimal",
    *,
    num_tasks: int = 10_000,
    seed: int = 0,
) -> RiskCurve | RiskPath:
    """The exact expected risk after test-time training from W, at finite n, k, d.

        risk(lr) = E (y - x' W_TT u)^2 = c0 - c1 lr + c2 lr^2,     W_TT = W - lr grad L_train(W)

    Args:
        problem: the test-time problem; the risk includes its label noise and is not normalised by |b|^2.
        start: the weights W before the step, a scalar (times the identity), (d,) or (d, d), symmetric or not.
        procedure: what is done at test time; a number is the step size of one gradient step.
        num_tasks: for random tasks, how many to average over where there is no closed form.
        seed: for random tasks, the seed of these.

    Returns:
        A `RiskCurve` for a procedure of one step size, for every step size at once: `after(procedure)` takes one that
        was given. A `RiskPath` for several steps. For random tasks the curve is the averaged parabola, whose optimum is
        the best one step size for all tasks: E c1 / (2 E c2), not the average of the tasks' optima. c0 is always exact;
        c1 and c2 are if every matrix is a multiple of the identity, or if 4^rank(task covariance) <= num_tasks, for
        s-sparse tasks (d over s) 4^s. Else they are averages over sampled tasks, and `RiskCurve.stderr` says how
        precise.

    Raises:
        ValueError: if W does not fit the problem.
        NotApplicable: if no exact risk is known for the procedure, the problem or the start.

    Example:
        >>> import numpy as np
        >>> problem = Problem(n=20, k=40, task=np.ones(20) / np.sqrt(20))
        >>> curve = exact_risk(problem, 1 / 41)
        >>> round(curve.initial, 4), round(curve.optimal, 4)
        (0.5122, 0.4559)

    Reference: Lemma B.2 and Theorem 4.5 of Gozeten et al. (ICML 2025) are the special cases lr = 0 and W = 0; the
    general formula is this project's.
    """
    procedure, weights = _checked(problem, start, procedure, num_tasks, seed, "exact_risk")
    return exact(procedure, problem, weights, num_tasks, seed)


@overload
def asymptotic_risk(
    problem: Problem,
    start: Any,
    procedure: GradientStep | Folds | float | str = ...,
    *,
    num_tasks: int = ...,
    seed: int = ...,
) -> RiskCurve: ...
@overload
def asymptotic_risk(
    problem: Problem, start: Any, procedure: GradientSteps | Optimizer, *, num_tasks: int = ..., seed: int = ...
) -> RiskPath: ...
@overload
def asymptotic_risk(
    problem: Problem, start: Any, procedure: Procedure | float | str, *, num_tasks: int = ..., seed: int = ...
) -> RiskCurve | RiskPath: ...
def asymptotic_risk(
    problem: Problem,
    start: Any,
    procedure: Procedure | float | str = "optimal",
    *,
    num_tasks: int = 10_000,
    seed: int = 0,
) -> RiskCurve | RiskPath:
    """The risk after test-time training to leading order in n, k, d growing together, for any Sx, W and noise.

    For one plain step and the training law at inference, with e = R (b - n W p), V = R W R, R = Sx^(1/2),
    A_j = e'Sx^j e, B_j = n tau tr(Sx^j V V'), R_j = A_j + B_j, D = k R_2 + tr(Sx^2) (R_0 + s2) and
    U = n^2 |p|^2 + n tau tr Sx:

        initial = R_0 + s2;     fresh: gain k A_1^2 / D at lr = A_1 / (2 n^2 |p|^2 D);
                                same:  gain k R_1^2 / D at lr = R_1 / (2 U D).

    The error of the risk is O(1/d) as long as no few directions of Sx or W dominate tr(Sx^2) and tr(Sx^j V V').

    Args:
        problem, start, procedure, num_tasks, seed: as in `exact_risk`.

    Raises:
        NotApplicable: for a task without signal (Sx b = 0), where the leading order is 0/0; for contexts of training
            and inference that share no direction; where none is known.

    Example:
        >>> problem = Problem(n=500, k=2000, task=np.ones(1000) / np.sqrt(1000))
        >>> curve = asymptotic_risk(problem, 1 / 1501)      # 1/(1+a) - g/(1+g)/(1+a)^3 at a = 1/2, g = 2
        >>> abs(curve.optimal - (1 / 1.5 - 2 / 3 / 1.5**3)) < 1e-3
        True

    Reference: this project's correction of Theorem C.4, of which Theorems 4.2 and 5.3 are the isotropic cases.
    """
    procedure, weights = _checked(problem, start, procedure, num_tasks, seed, "asymptotic_risk")
    return leading_order(procedure, problem, weights, num_tasks, seed)


@singledispatch
def exact(procedure: Procedure, problem: Problem, weights: np.ndarray, num_tasks: int, seed: int) -> Any:
    """The exact risk of a procedure from checked weights, by its type."""
    raise NotApplicable(f"no exact risk is known for {type(procedure).__name__}")


@singledispatch
def leading_order(procedure: Procedure, problem: Problem, weights: np.ndarray, num_tasks: int, seed: int) -> Any:
    """The leading order of a procedure from checked weights, by its type."""
    raise NotApplicable(f"no leading order is known for {type(procedure).__name__}")


def _checked(
    problem: Any, start: Any, procedure: Any, num_tasks: Any, seed: Any, formula: str
) -> tuple[Procedure, np.ndarray]:
    positive_integer("num_tasks", num_tasks)
    seed_integer(seed)
    procedure = procedure_for(problem, procedure)
    require_linear(problem, formula)
    if isinstance(start, tuple) and len(start) == 2 and callable(start[0]):
        raise NotApplicable(f"{formula} is known for linear attention from W, not for a model with parameters")
    return procedure, weights_array(start, problem.d, "start")
