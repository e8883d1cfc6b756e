"""Your own claim about the risk of TTT, against the exact risk and against simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ttt_jax.problem import Problem
from ttt_jax.procedures import Procedure
from ttt_jax.simulation import estimate_risk
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.outcome import Check
from ttt_jax.verdict.trial import make_trial

__all__ = ["check"]


def check(
    claim: Any,
    problems: Iterable[Problem] | Callable[..., Problem],
    *,
    relation: str = "==",
    start: Any = "pretrained",
    procedure: Procedure | float | str | Callable[..., Procedure | float] = "optimal",
    against: Mapping[str, Any] | None = None,
    quantity: str = "risk",
    level: float | None = None,
    along: str | None = None,
    parameters: Mapping[str, Iterable[Any]] | None = None,
    approximate: bool = False,
    rate: float | None = None,
    num_tasks: int = 20_000,
    seed: int = 0,
    confidence: float = 0.99,
    exact: Callable[..., Any] | None = exact_risk,
    simulate: Callable[..., Any] = estimate_risk,
) -> Check:
    """Judge a claim about the risk of TTT by the exact risk and by simulation, over a grid of problems.

        ==    |claimed / exact - 1| is rounding;   |estimate - claimed| <= critical stderr, every row
        <=    exact <= claimed to rounding;        estimate - claimed <= critical stderr, every row; >= likewise
        iff   the first arm has the smaller risk where the claim is True, and the larger one where it is False
        == , approximate:   claimed / exact tends to 1, and so does simulated / claimed

    Args:
        claim: a function whose arguments are any of n, k, d, lr, noise_var, task_norm2, problem, weights, procedure
            and the parameters, by these names; or a sympy expression in those that are numbers. Evaluate it in
            float64; other arguments keep their defaults. With two arms, lr, weights and procedure are the first's.
        problems: the problems to try, or a function of the parameters that returns one; for an approximate claim, a
            sequence of sizes of one kind of problem, of which the three largest d are judged; two, where the rate is
            given.
        relation: what the claim says of the quantity: that it is "==" the claimed value, "<=" or ">=" it. "iff" takes a
            claim that is True or False: the risk of the first arm is below that of the second if and only if it is
            True. Then both must occur among the problems. The quantity "switch" asks how far a threshold is off.
        start: where training starts: W as an array, a function of the problem, "zero", or "pretrained": W* for tasks
            b ~ N(0, I) under the n, feature_cov and noise_var of the problem. Its own task does not enter: with
            noise, W* for tasks of another length differs. Or (model, params), which has no exact risk. A
            function may take parameters too, by name.
        procedure: what is done at test time, or a function as for the start; a number is the step size of one gradient
            step, "optimal" the exact optimum.
        against: a second arm, {"start": ..., "procedure": ...}; what is left out is as in the first. The quantity is
            then that of the first minus that of the second, simulated on the same tasks.
        quantity: what the claim is about: "initial" risk, "risk" after the procedure, "gain" (their difference),
            "optimal_lr"; of the law of one prompt's risk after a gradient step (see `risk_law`), its "variance",
            a "quantile" of it, or the probability "prob_hurt" that the step makes it larger; or, of two arms, the
            "switch": the size at which the one with the smaller risk changes, nearest to the claimed one.
        level: of a quantile, between 0 and 1.
        along: of a switch, the size that varies: "n", "k" or "noise_var" of the problem.
        parameters: values of parameters of your own, by name; every combination is tried.
        approximate: whether the claim is the leading order of something, right as d grows. log(claimed / exact) of the
            three largest sizes shows an exponent alpha; lines and parabolas in d^-alpha, for all alpha from this
            exponent to `rate` and some more, give a range of limits. Its middle is the limit, its whole width the
            resolution: beyond it the claim is refused, within it the claim agrees if a constant wrong by 5%
            would be refused. Else, or where no exponent from 1/4 to 3/2 `rate` is seen, it is not resolved.
        rate: the exponent alpha of the error ~ d^-alpha of an approximate claim, where theory gives it: 1 if n/d and
            k/d are fixed, 1/2 if n = sqrt(d). None means 1 with a wider margin.
        num_tasks: simulated tasks per problem, the same for every step size and both arms; 0 leaves simulation out.
        seed: of the simulation; every problem gets a different one.
        confidence: probability that a correct claim passes all comparisons with simulation.
        exact: a function of (problem, start, procedure), `exact_risk`; None leaves it out (then a step size must be
            given), and so does a procedure without a known exact risk. It also switches the closed forms of `risk_law`.
        simulate: a replacement for `estimate_risk`, called with one procedure at a time. Its result needs mean and
            stderr, and may have stderr_reliable. Not for quantities of the law, nor for two arms.

    Returns:
        A `Check`, true if every row was compared with something and nothing speaks against the claim; print it for the
        table.

    Raises:
        ValueError: if an argument is invalid.

    Example:
        >>> import numpy as np
        >>> problems = [Problem(n, k, np.ones(4) / 2) for n, k in ((40, 8), (60, 4))]
        >>> theorem_4_5 = lambda n, k, d: k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d)
        >>> result = check(theorem_4_5, problems, start="zero", quantity="gain")
        >>> result.ok, result.detectable < 0.1
        (True, True)
        >>> bool(check(lambda n, k, d: k / (k + d), problems, start="zero", quantity="gain"))
        False
        >>> check(lambda n, k, d: k / (k + d), problems, relation="<=", start="zero", quantity="gain").verdict
        'holds'
    """
    trial = make_trial(**locals())
    return trial.judge(trial.row(case) for case in trial.cases)
