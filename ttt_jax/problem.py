"""What is being asked: the law that the weights were trained under, and the law that they are tested under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import (
    boolean,
    called,
    choice,
    covariance,
    finite_array,
    finite_number,
    non_negative,
    positive_integer,
    require_type,
    shown,
)

__all__ = [
    "LINKS",
    "GaussianTasks",
    "Inference",
    "NotApplicable",
    "Pretraining",
    "Problem",
    "SingleIndex",
    "SparseTasks",
]


FEATURE_LAWS = ("gaussian", "rademacher", "student_t")
EVALUATIONS = ("fresh", "same")
PROTOCOLS = ("one_batch", "new_context")


class NotApplicable(ValueError):
    """A formula does not cover this problem, although every value in it is valid."""


@dataclass(frozen=True, eq=False)
class GaussianTasks:
    """Random task vectors b ~ N(mean, cov) in R^d.

    Args:
        mean: the mean task, (d,), or one number for every coordinate.
        cov: the task covariance, a scalar, a diagonal (d,) or a dense (d, d) matrix.
        d: number of features; needed only where neither mean nor cov is an array.

    Raises:
        ValueError: if a field is out of range; the message names it.

    Example:
        >>> GaussianTasks(cov=[1.0, 0.5]).mean.tolist()
        [0.0, 0.0]
    """

    mean: Any = 0.0
    cov: Any = 1.0
    d: Any = None

    def __post_init__(self):
        mean, cov = finite_array("mean", self.mean), finite_array("cov", self.cov)
        d = _dimension(self.d, {"mean": mean, "cov": cov})
        if mean.ndim > 1:
            raise ValueError(f"mean must have shape (d,), got {mean.shape}")
        _set(self, mean=np.broadcast_to(mean, (d,)), cov=covariance("cov", cov), d=d)


@dataclass(frozen=True, eq=False)
class SparseTasks:
    """Random task vectors with s coordinates that are not 0, at random places, each N(0, variance); E bb' = v s/d I.

    Args:
        d: number of features.
        nonzero: s, at most d.
        variance: v; 1/s makes E |b|^2 = 1.

    Raises:
        ValueError: if a field is out of range; the message names it.

    Example:
        >>> SparseTasks(10, nonzero=2, variance=0.5).nonzero
        2

    Reference: Garg, Tsipras, Liang, Valiant (2022), section 4, keep 3 of 20 coordinates.
    """

    d: int
    nonzero: int
    variance: float = 1.0

    def __post_init__(self):
        d, nonzero = positive_integer("d", self.d), positive_integer("nonzero", self.nonzero)
        if nonzero > d:
            raise ValueError(f"nonzero must be at most d = {d}, got {nonzero}")
        _set(self, d=d, nonzero=nonzero, variance=non_negative("variance", self.variance))


LINKS: dict[str, Callable] = {"sign": jnp.sign, "relu": jax.nn.relu, "tanh": jnp.tanh, "square": jnp.square}
"""Links by name; add your own here."""


@dataclass(frozen=True, eq=False)
class SingleIndex:
    """Tasks with labels y = f(x'b) + xi; classification by sign is the link "sign", whose labels are -1 and 1.

    The risk is the squared error to f(x'b), plus the variance of xi. It is simulated; no formula is for it.

    Args:
        task: the law of b: a vector (d,), `GaussianTasks` or `SparseTasks`.
        link: f, a name in `LINKS` or a function of JAX arrays, entry by entry; each new one compiles anew.

    Raises:
        ValueError: if a field is invalid.

    Example:
        >>> Problem(n=20, k=40, task=SingleIndex([0.6, 0.8], "sign")).d
        2

    Reference: Oko, Song, Suzuki, Wu (2024) for pretraining on such tasks.
    """

    task: Any
    link: str | Callable

    def __post_init__(self):
        if not callable(self.link):
            choice("link", self.link, tuple(LINKS))
        if isinstance(self.task, SingleIndex):
            raise ValueError(f"task must be a vector, GaussianTasks or SparseTasks, got {shown(self.task)}")
        found = called("link", jax.eval_shape, lambda z: self.function(z), jax.ShapeDtypeStruct((3,), jnp.float32))
        if (shape := getattr(found, "shape", None)) != (3,):
            raise ValueError(f"link must act entry by entry, got shape {shape} from (3,)")
        _set(self, task=_task(self.task))

    @property
    def d(self) -> int:
        """Number of features."""
        return _features(self.task)

    @property
    def function(self) -> Callable:
        """f."""
        return LINKS[self.link] if isinstance(self.link, str) else self.link


@dataclass(frozen=True, eq=False)
class Pretraining:
    """The law that the weights were trained under: y = x'b + xi, x ~ N(0, feature_cov), b ~ N(0, task_cov).

    Args:
        n: number of context pairs in a pretraining prompt.
        feature_cov: covariance of the features x, a scalar (times the identity), a diagonal (d,) or dense (d, d).
        task_cov: covariance of the task vectors b, in the same forms.
        noise_var: variance of the label noise xi.
        d: number of features; needed only where both covariances are scalars.

    Raises:
        ValueError: if a field is out of range; the message names it.

    Example:
        >>> Pretraining(n=20, task_cov=[1.0, 1.0, 0.0]).d
        3

    Reference: Gozeten et al. (ICML 2025), section 2.
    """

    n: int
    feature_cov: Any = 1.0
    task_cov: Any = 1.0
    noise_var: float = 0.0
    d: Any = None

    def __post_init__(self):
        feature_cov, task_cov = finite_array("feature_cov", self.feature_cov), finite_array("task_cov", self.task_cov)
        _set(
            self,
            n=positive_integer("n", self.n),
            noise_var=non_negative("noise_var", self.noise_var),
            d=_dimension(self.d, {"feature_cov": feature_cov, "task_cov": task_cov}),
            feature_cov=covariance("feature_cov", feature_cov),
            task_cov=covariance("task_cov", task_cov),
        )


@dataclass(frozen=True, eq=False)
class Inference:
    """The law at inference, where it differs from that of training: another context, another query.

    The query is drawn like the rows of the inference context unless it has its own law.

    Args:
        context: "fresh" draws a new context for the query, "same" takes that of the TTT step again.
        n: number of context pairs; None for as many as in training.
        feature_cov: Se, covariance of the context's features, a scalar, a diagonal (d,) or dense (d, d); None for that
            of training.
        noise_var: se2, label noise of the context; None for that of training.
        query_feature_cov: Sq, covariance of the query's features; None for Se.
        query_noise_var: sq2, label noise of the query, a part of the risk; None for se2.
        rescale: multiply the summary u = X'y of the context by (n in training) / (n at inference), for linear
            attention from W, which has no factor 1/n, and a context of another length.

    Raises:
        ValueError: if a field is invalid; "same" takes no law for the context.

    Example:
        >>> Inference(n=80, query_noise_var=0.0).n
        80
        >>> Inference("same", n=80)
        Traceback (most recent call last):
        ValueError: n must be None for the context 'same', got 80
    """

    context: str = "fresh"
    n: int | None = None
    feature_cov: Any = None
    noise_var: float | None = None
    query_feature_cov: Any = None
    query_noise_var: float | None = None
    rescale: bool = False

    def __post_init__(self):
        choice("context", self.context, EVALUATIONS)
        checks = {"n": positive_integer, "feature_cov": covariance, "noise_var": non_negative}
        checks |= {"query_feature_cov": covariance, "query_noise_var": non_negative}
        for name, check in checks.items():
            if (value := getattr(self, name)) is None:
                continue
            if self.context == "same" and name in ("n", "feature_cov", "noise_var"):
                raise ValueError(f"{name} must be None for the context 'same', got {shown(value)}")
            _set(self, **{name: check(name, value)})
        boolean("rescale", self.rescale)


@dataclass(frozen=True, eq=False)
class Problem:
    """One test-time problem: n context pairs and k further labelled pairs of one task, y = x'b + xi.

    The TTT step trains on the n + k pairs (the n as the context of k prompts, the k as their queries); the risk is the
    expected squared error on a new query, label noise included. Nothing is divided by n, k or d.

    Args:
        n: number of context pairs.
        k: number of training queries of the TTT step.
        task: the task vector b, (d,); `GaussianTasks` or `SparseTasks` for tasks drawn anew in every experiment;
            `SingleIndex` for labels that are not linear, y = f(x'b) + xi.
        feature_cov: covariance of the features, a scalar (times the identity), a diagonal (d,) or dense (d, d).
        noise_var: variance of the label noise xi.
        feature_law: the law of the independent entries of z in x = feature_cov^(1/2) z, all of mean 0 and variance 1:
            "gaussian", "rademacher" (signs) or "student_t". The exact formulas are for Gaussian features only.
        dof: degrees of freedom of "student_t", above 4. The expected risk is finite above 8 for a new context at
            evaluation, above 12 for the same; its Monte Carlo standard error above twice that.
        evaluation: the context at inference, "fresh" for a new one or "same" for that of the step; or an `Inference`.

    Raises:
        ValueError: if a field is out of range; the message names it.

    Example:
        >>> Problem(n=20, k=40, task=[0.6, 0.8], noise_var=0.1).d
        2
        >>> Problem(n=0, k=40, task=[0.6, 0.8])
        Traceback (most recent call last):
        ValueError: n must be an integer >= 1, got 0

    Reference: Gozeten et al. (ICML 2025), sections 2 and 3.
    """

    n: int
    k: int
    task: Any
    feature_cov: Any = 1.0
    noise_var: float = 0.0
    feature_law: str = "gaussian"
    dof: float | None = None
    evaluation: str | Inference = "fresh"

    def __post_init__(self):
        choice("feature_law", self.feature_law, FEATURE_LAWS)
        if (self.feature_law == "student_t") != (self.dof is not None):
            raise ValueError(f"dof must be given for feature_law 'student_t' and no other, got {shown(self.dof)}")
        if self.dof is not None and finite_number("dof", self.dof) <= 4:
            raise ValueError(f"dof must be above 4, got {shown(self.dof)}")
        task, feature_cov = _task(self.task), finite_array("feature_cov", self.feature_cov)
        d = _features(task)
        _dimension(d, {"feature_cov": feature_cov})
        _set(
            self,
            n=positive_integer("n", self.n),
            k=positive_integer("k", self.k),
            task=task,
            feature_cov=covariance("feature_cov", feature_cov),
            noise_var=non_negative("noise_var", self.noise_var),
        )
        if isinstance(self.evaluation, Inference):
            laws = {
                f"evaluation.{name}": getattr(self.evaluation, name) for name in ("feature_cov", "query_feature_cov")
            }
            _dimension(d, {name: cov for name, cov in laws.items() if cov is not None})
        else:
            choice("evaluation", self.evaluation, EVALUATIONS)

    @property
    def d(self) -> int:
        """Number of features."""
        return _features(self.task)

    @cached_property
    def inference(self) -> Inference:
        """The law at inference with every field filled in.

        Example:
            >>> Problem(n=5, k=1, task=[1.0], evaluation=Inference(n=9)).inference.query_noise_var
            0.0
        """
        given = self.evaluation if isinstance(self.evaluation, Inference) else Inference(self.evaluation)
        feature_cov = self.feature_cov if given.feature_cov is None else given.feature_cov
        noise_var = self.noise_var if given.noise_var is None else given.noise_var
        filled = replace(
            given,
            query_feature_cov=feature_cov if given.query_feature_cov is None else given.query_feature_cov,
            query_noise_var=noise_var if given.query_noise_var is None else given.query_noise_var,
        )
        if given.context == "fresh":
            filled = replace(
                filled, n=self.n if given.n is None else given.n, feature_cov=feature_cov, noise_var=noise_var
            )
        return filled


def require_problem(problem: Any) -> None:
    """ValueError unless it is a `Problem`."""
    require_type("problem", problem, Problem)


def require_linear(problem: Any, formula: str) -> None:
    """NotApplicable, naming the formula, unless labels are y = x'b + xi."""
    require_problem(problem)
    if isinstance(problem.task, SingleIndex):
        raise NotApplicable(f"{formula} needs linear labels, got SingleIndex with the link {shown(problem.task.link)}")


def require_gaussian(problem: Any, formula: str) -> None:
    """NotApplicable, naming the formula, unless labels are linear and the features Gaussian."""
    require_linear(problem, formula)
    if problem.feature_law != "gaussian":
        raise NotApplicable(f"{formula} needs Gaussian features, got feature_law {problem.feature_law!r}")


def require_identity(problem: Any, formula: str) -> None:
    """NotApplicable, naming the formula, unless Sx = I."""
    sx = linalg.simplest(problem.feature_cov)
    off = np.abs(sx - (np.eye(problem.d) if sx.ndim == 2 else 1.0)).max()
    if off:
        raise NotApplicable(f"feature_cov must be the identity for {formula}, got entries off by {off:.3g}")


def require_training_law(problem: Any, formula: str) -> None:
    """NotApplicable, naming the formula, unless the law at inference is that of training."""
    require_problem(problem)
    given = vars(problem.evaluation) if isinstance(problem.evaluation, Inference) else {}
    own = [name for name, value in given.items() if name != "context" and value is not None and value is not False]
    if own:
        raise NotApplicable(f"{formula} needs the training law at inference, but evaluation gives {own[0]}")


def mean_square(problem: Problem) -> float:
    """E[b'b], the mean squared length of the task vector."""
    task = problem.task.task if isinstance(problem.task, SingleIndex) else problem.task
    if isinstance(task, SparseTasks):
        return task.nonzero * task.variance
    if isinstance(task, GaussianTasks):
        variances = np.diag(task.cov) if task.cov.ndim == 2 else np.broadcast_to(task.cov, (problem.d,))
        return float(task.mean @ task.mean + variances.sum())
    return float(task @ task)


def task_parts(task: Any) -> tuple[np.ndarray, np.ndarray | None, int | None]:
    """m, C and s of tasks b = m + C^(1/2) z of which s coordinates are kept; C None for one vector, s None for all."""
    if isinstance(task, SingleIndex):
        return task_parts(task.task)
    if isinstance(task, SparseTasks):
        return np.zeros(task.d), np.asarray(task.variance), task.nonzero
    return (task.mean, task.cov, None) if isinstance(task, GaussianTasks) else (task, None, None)


def second_moment(task: GaussianTasks | SparseTasks) -> tuple[np.ndarray, np.ndarray]:
    """m, (d,), and C, (), (d,) or (d, d), with E bb' = mm' + C."""
    if isinstance(task, SparseTasks):
        return np.zeros(task.d), np.asarray(task.variance * task.nonzero / task.d)
    return task.mean, task.cov


def task_name(task: Any) -> str:
    """The law of a task as an error message shows it."""
    return "one vector" if isinstance(task, np.ndarray) else type(task).__name__


def _task(task: Any) -> Any:
    """One of the laws of tasks; a vector as an array."""
    if isinstance(task, GaussianTasks | SparseTasks | SingleIndex):
        return task
    task = finite_array("task", task)
    if task.ndim != 1:
        raise ValueError(f"task must be a vector of shape (d,) or GaussianTasks, got shape {task.shape}")
    return task


def _features(task: Any) -> int:
    return len(task) if isinstance(task, np.ndarray) else task.d


def _dimension(d: int | None, arrays: dict[str, np.ndarray]) -> int:
    """The one number of features that every array agrees on."""
    sizes = {} if d is None else {"d": positive_integer("d", d)}
    sizes |= {field: len(array) for field, array in arrays.items() if array.ndim}
    if not sizes:
        raise ValueError(f"d must be given where {' and '.join(arrays)} are scalars, got None")
    (first, size), *others = sizes.items()
    for field, other in others:
        if other != size:
            raise ValueError(f"{field} must be for {size} features to agree with {first}, got {other}")
    return size


def _set(instance, **fields):
    for name, value in fields.items():
        object.__setattr__(instance, name, value)
