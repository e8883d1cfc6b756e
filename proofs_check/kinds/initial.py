"""Equalities for the risk of given weights before any step: of one task, or over w ~ N(0, I) without noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from proofs_check.claim import Coefficients, Statement, both
from proofs_check.evidence import oracle
from proofs_check.evidence.equality import identities, same_numbers
from proofs_check.evidence.simulation import initial_risks, judge_samples
from proofs_check.evidence.symbolic import initial_risk
from proofs_check.setting import Setting
from ttt_jax.problem import GaussianTasks


def initial_statement(
    number: str, text: str, coefficients: tuple, formula: Callable[[Coefficients, Setting], Any], symbols: Setting,
    settings: Sequence[Setting], simulated: Sequence[Setting], at_finite_size: str, *, random_tasks: bool = False,
) -> Statement:  # fmt: skip
    """A statement that the risk before any step is formula(coefficients, setting), exactly.

    Args:
        symbols: the setting in symbols, for the proof.
        settings: settings in numbers, for the oracle.
        simulated: the same for simulation.
        random_tasks: the risk is the mean over w ~ N(0, I), without noise; the tasks of the settings do not enter.
    """

    def average(risk: Callable[[Setting], Any], setting: Setting):
        """The risk is a sum of squares of the task: the mean over N(0, I) is the sum over the axes."""
        return over_axes(risk, setting) if random_tasks else risk(setting)

    def exact(c):
        proof = identities({"the risk": (formula(c, symbols), average(initial_risk, symbols))})
        by_pairings = (
            (formula(c, one), average(lambda setting: oracle.parabola(setting)[0], one), f"the risk at {one}")
            for one in settings
        )
        return both(proof, same_numbers(by_pairings))

    def simulate(c, effort):
        samples = []
        for i, setting in enumerate(simulated):
            problem = setting.problem()
            if random_tasks:
                problem = replace(problem, task=GaussianTasks(d=problem.d))
            samples.append(initial_risks(problem, setting.column("weight"), 2 * effort.num_small, effort.seed + i))
        return judge_samples(samples, [formula(c, setting) for setting in simulated])

    return Statement(number, text, coefficients, exact, simulate, at_finite_size)


def over_axes(risk: Callable[[Setting], Any], setting: Setting) -> Any:
    """The sum of the risks of unit tasks along every axis."""
    return sum(group.multiplicity * risk(_along(setting, i)) for i, group in enumerate(setting.groups))


def _along(setting: Setting, axis: int) -> Setting:
    return replace(setting, groups=tuple(g._replace(task=int(i == axis)) for i, g in enumerate(setting.groups)))
