"""What a claim is, and the three ways to check one about the risk curve of a diagonal problem.

A claim is a formula with its coefficients taken out, so that a test can change them one at a time. Each verdict is a
function of the coefficients: symbolic (exact algebra), independent (Wick pairings in rational arithmetic), empirical
(simulated data and jax.grad steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import sympy as sp
from sympy import QQ

from proofs_check import oracle, symbolic
from proofs_check.oracle import Group
from ttt_jax.problem import GaussianTasks, Problem
from ttt_jax.procedures import GradientStep
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation.estimate import make_run
from ttt_jax.theory.risk import exact_risk
from ttt_jax.verdict.claim import Check, check

CONFIDENCE = 1 - 0.01 / 100
"""Of one comparison with simulation: a report has fewer than 100, so a correct one passes for 99 of 100 seeds."""

SIZES = 30, 60, 120
"""d in simulations of approximate claims; the 1/d^3 left by the extrapolation is below 0.5%, a third of its stderr."""

SIMULATED_SIZES = 4, *SIZES[1:]
"""Simulated problems of fewer features are filled up to the next of these."""

BLOCK_SIZE = 1024
"""Of every simulation, so that they share compilations."""

ORACLE_SIZES = 20_000, 40_000

FLOAT64 = 1e-11
"""Relative error allowed to a float64 evaluation of an exact number: a few hundred roundings."""

Coefficients = Sequence[Any]


class Verdict(NamedTuple):
    """ok is True if the claim holds, False if it fails, None if nothing was judged, for the reason in detail."""

    ok: bool | None
    detail: str


class Effort(NamedTuple):
    """How many tasks to simulate per problem and step size, of a few features and of `sizes`, and these sizes d."""

    num_small: int
    num_large: int
    seed: int = 0
    sizes: tuple[int, ...] = SIZES


QUICK, FULL = Effort(10_000, 1_000, sizes=SIZES[:2]), Effort(400_000, 20_000)


@dataclass(frozen=True)
class Claim:
    """One statement and its three verdicts, each a function of the coefficients, the last also of the effort."""

    name: str
    number: str
    coefficients: tuple
    symbolic: Callable[[Coefficients], Verdict]
    independent: Callable[[Coefficients], Verdict]
    empirical: Callable[[Coefficients, Effort], Verdict]


@dataclass(frozen=True)
class Setting:
    """A problem with diagonal Sx and W, in numbers or in symbols; see `oracle.Group`."""

    n: Any
    k: Any
    groups: tuple[Group, ...]
    noise_var: Any = 0
    evaluation: str = "fresh"

    def __str__(self) -> str:
        """What a reader of a failed verdict needs to try it again."""
        words = [f"n = {self.n}", f"k = {self.k}", f"d = {self.d}", f"B = {self.norm2}", f"s2 = {self.noise_var}"]
        for field, default in (("feature", 1), ("weight", 0)):
            values = [getattr(group, field) for group in self.groups]
            if any(value != default for value in values):
                words.append(f"{field} = {', '.join(map(str, values))}")
        return ", ".join([*words, f"{self.evaluation} context"])

    @property
    def d(self):
        return sp.sympify(sum(group.multiplicity for group in self.groups))

    @property
    def norm2(self):
        """B = |b|^2."""
        return sp.sympify(sum(group.task**2 for group in self.groups))

    def total(self, function: Callable[[Group], Any]):
        """The sum of a function of the group over all coordinates: a trace."""
        return sum(group.multiplicity * function(group) for group in self.groups)

    def problem(self) -> Problem:
        task = np.concatenate([[group.task] + [0] * (group.multiplicity - 1) for group in self.groups]).astype(float)
        return Problem(self.n, self.k, task, self.column("feature"), float(self.noise_var), evaluation=self.evaluation)

    def column(self, field: str) -> np.ndarray:
        return np.repeat([float(getattr(g, field)) for g in self.groups], [g.multiplicity for g in self.groups])


def isotropic(n, k, d, task=1, noise_var=0, weight=0, evaluation="fresh") -> Setting:
    """Sx = I, W = weight I and B = task^2."""
    return Setting(n, k, (Group(d, 1, weight, task),), noise_var, evaluation)


def small_settings(weight: Callable[..., Any] = lambda n, d, s2: 0, *, noise=True, evaluation="fresh") -> list[Setting]:
    """Isotropic problems that both the oracle and simulation can afford."""
    sizes = [(6, 9, 3, 1, 0), (2, 4, 3, sp.Rational(3, 2), 0), (9, 30, 3, 2, sp.Rational(1, 2)), (5, 2, 4, 1, 3)]
    return [
        isotropic(n, k, d, task, s2, sp.sympify(weight(n, d, s2)), evaluation)
        for n, k, d, task, s2 in sizes
        if noise or not s2
    ]


def identities(pairs: Mapping[str, tuple]) -> Verdict:
    """Each pair of expressions is the same rational function."""
    for name, (claimed, derived) in pairs.items():
        difference = sp.sympify(claimed) - derived
        if _differs_at_a_point(difference) or sp.cancel(difference) != 0:
            return Verdict(False, f"{name} differs")
    return Verdict(True, f"identity: {', '.join(pairs)}")


def _differs_at_a_point(difference: sp.Expr) -> bool:
    """Whether a difference is not 0 at one rational point: at once, where `cancel` may take half a minute."""
    symbols = sorted(difference.free_symbols, key=str)
    value = difference.subs({symbol: sp.Rational(7 + 2 * i, 5 + 3 * i) for i, symbol in enumerate(symbols)})
    return bool(value.is_finite and abs(sp.N(value, 30)) > 1e-20)


def same_numbers(pairs: Iterable[tuple], *, tolerance: float = 0) -> Verdict:
    """Each pair of numbers is equal, exactly or to a relative tolerance; a third entry says what the numbers are."""
    pairs = list(pairs)
    errors = [abs(sp.sympify(claimed) / exact - 1) if exact != 0 else abs(claimed) for claimed, exact, *_ in pairs]
    worst = max(errors)
    if worst > tolerance:
        claimed, exact, *where = pairs[errors.index(worst)]
        return Verdict(False, f"{float(claimed):.6g} for {float(exact):.6g}{''.join(f' ({what})' for what in where)}")
    how = "rational equality" if not tolerance else f"largest relative error {float(worst):.0e}"
    return Verdict(True, f"{how}, {len(errors)} numbers")


def both(*verdicts: Verdict) -> Verdict:
    """All of several verdicts: the first that fails, else the first that judged nothing."""
    for bad in (False, None):
        if found := [verdict for verdict in verdicts if verdict.ok is bad]:
            return found[0]
    return Verdict(True, "; ".join(verdict.detail for verdict in verdicts))


def falls_like_1_over_d(sizes: Sequence[int], errors: Sequence[float]) -> Verdict:
    """The error times d stays bounded: between the last two sizes the error falls faster than d^(-1/2)."""
    before, last = (abs(float(error)) for error in errors[-2:])
    if last < FLOAT64:
        return Verdict(True, "error 0")
    rate = math.log(last / before) / math.log(sizes[-1] / sizes[-2])
    scaled = ", ".join(f"{abs(float(e)) * d:.3g}" for e, d in zip(errors, sizes, strict=True))
    return Verdict(rate <= -0.5, f"error x d = {scaled} at d = {', '.join(map(str, sizes))}")


def of_check(results: Sequence[Check]) -> Verdict:
    """The simulation part of several checks in one line."""
    verdicts = [result.empirical_ok for result in results]
    judged = [[row for row in result.rows if row.stderr_reliable is not False] for result in results]
    simulated = sum(len(result.rows) for result in results)
    unreliable = simulated - sum(map(len, judged))
    rows = f"{unreliable} of {simulated} simulations too short for the tails"
    if False not in verdicts and None in verdicts:
        return Verdict(None, f"{verdicts.count(None)} of {len(verdicts)} quantities not judged: {rows}")
    z = [
        [result.limit_z] if math.isfinite(result.limit_z) else [row.z for row in own]
        for result, own in zip(results, judged, strict=True)
    ]
    worst, critical = max(abs(x) for values in z for x in values), results[0].critical
    detectable = max(result.detectable for result in results if result.empirical_ok is not None)
    detail = f"max |z| {worst:.2f} (critical {critical:.2f}), detects {detectable:.1%}"
    return Verdict(False not in verdicts, f"{detail}; {rows}" if unreliable else detail)


@lru_cache(None)
def coefficients_of_oracle(setting: Setting) -> tuple[sp.Rational, ...]:
    """(c0, c1, c2)."""
    c = oracle.grouped_coefficients(setting.groups, setting.noise_var, setting.n, setting.k, setting.evaluation)
    return tuple(QQ.to_sympy(value) for value in c)


def quantities_of_oracle(setting: Setting) -> dict[str, sp.Expr]:
    return quantities(*coefficients_of_oracle(setting))


def quantities(c0, c1, c2) -> dict[str, Any]:
    """What a claim may be about, from the parabola."""
    return {"initial": c0, "optimal_lr": c1 / (2 * c2), "gain": c1**2 / (4 * c2)}


@lru_cache(None)
def quantities_in_symbols(setting: Setting) -> dict[str, sp.Expr]:
    return quantities(
        *symbolic.risk_coefficients(setting.groups, setting.noise_var, setting.n, setting.k, setting.evaluation)
    )


@lru_cache(None)
def leading_quantities(setting: Setting) -> dict[str, sp.Expr]:
    """Their terms of highest order in d."""
    c = symbolic.risk_coefficients(setting.groups, setting.noise_var, setting.n, setting.k, setting.evaluation)
    return quantities(*(symbolic.leading_term(x, sp.Symbol("d")) for x in c))


Formula = Callable[[Coefficients, Setting], dict[str, Any]]
Package = Callable[[Problem, np.ndarray], dict[str, float]]


def exact_claim(
    name: str, number: str, coefficients: tuple, formula: Formula, symbols: Setting, settings: Sequence[Setting],
    package: Package | None = None,
) -> Claim:  # fmt: skip
    """A claim that some of initial, optimal_lr, gain equal formula(coefficients, setting), exactly.

    Args:
        symbols: the setting in symbols, for the proof.
        settings: settings in numbers, for the oracle and for simulation.
        package: the same quantities by the installed package.
    """

    def prove(c):
        derived = quantities_in_symbols(symbols)
        return identities({key: (value, derived[key]) for key, value in formula(c, symbols).items()})

    def independent(c):
        verdicts = [
            same_numbers(
                (value, quantities_of_oracle(setting)[key], f"{key} at {setting}")
                for setting in settings
                for key, value in formula(c, setting).items()
            )
        ]
        if package:
            verdicts.append(
                same_numbers(
                    (
                        (value, quantities_of_oracle(setting)[key], f"the package's {key} at {setting}")
                        for setting in settings
                        for key, value in package(setting.problem(), setting.column("weight")).items()
                    ),
                    tolerance=FLOAT64,
                )
            )
        return both(*verdicts)

    def empirical(c, effort):
        return of_check(simulate_claim(c, formula, settings, effort, approximate=False))

    return Claim(name, number, coefficients, prove, independent, empirical)


def leading_claim(
    name: str, number: str, coefficients: tuple, formula: Formula, families: Sequence[Callable[..., Setting]],
    symbols: Setting, package: Package | None = None,
) -> Claim:  # fmt: skip
    """A claim that formula(coefficients, setting) is the leading order of some of initial, optimal_lr, gain.

    Args:
        families: settings in numbers, each a function of the size d.
        symbols: the setting in symbols, one of them called d.
        package: the same quantities by the installed package.
    """
    d = sp.Symbol("d")

    def prove(c):
        derived = leading_quantities(symbols)
        return identities(
            {f"limit of {k}": (symbolic.leading_term(v, d) / derived[k], 1) for k, v in formula(c, symbols).items()}
        )

    def independent(c):
        return both(*(family_verdict(c, scaled) for scaled in families))

    def family_verdict(c, scaled):
        settings = [scaled(size) for size in ORACLE_SIZES]
        values = [formula(c, setting) for setting in settings]
        exact = [quantities_of_oracle(setting) for setting in settings]
        verdicts = [
            falls_like_1_over_d(ORACLE_SIZES, [v[key] / e[key] - 1 for v, e in zip(values, exact, strict=True)])
            for key in values[0]
        ]
        if package:
            computed = package(settings[0].problem(), settings[0].column("weight"))
            pairs = ((computed[key], value) for key, value in formula(coefficients, settings[0]).items())
            verdicts.append(same_numbers(pairs, tolerance=FLOAT64))
        return both(*verdicts)

    def empirical(c, effort):
        settings = ([scaled(size) for size in effort.sizes] for scaled in families)
        return of_check([x for s in settings for x in simulate_claim(c, formula, s, effort, approximate=True)])

    return Claim(name, number, coefficients, prove, independent, empirical)


def simulate_claim(
    c: Coefficients, formula: Formula, settings: Sequence[Setting], effort: Effort, *, approximate: bool
) -> list[Check]:
    """`ttt_jax.check` of every quantity that the formula is about."""
    by_problem = {setting_problem(setting): setting for setting in settings}

    def result(key: str) -> Check:
        return check(
            lambda problem: float(formula(c, by_problem[problem])[key]),
            by_problem,
            start=lambda problem: by_problem[problem].column("weight"),
            quantity=key,
            approximate=approximate,
            rate=1 if approximate else None,
            num_tasks=effort.num_large if approximate else effort.num_small,
            seed=effort.seed,
            confidence=CONFIDENCE,
            exact=exact_padded,
            simulate=simulate,
        )

    return [result(key) for key in formula(c, settings[0])]


setting_problem = lru_cache(None)(Setting.problem)
_SIMULATED: dict[tuple, Simulated] = {}


class Simulated(NamedTuple):
    """What `check` needs of a simulation."""

    mean: float
    stderr: float


def simulate(
    problem: Problem, weights: np.ndarray, procedure: GradientStep, *, num_tasks: int, seed: int, sampler: str = "data"
) -> Simulated:
    """The estimate of `estimate_risk` on sampled data, remembered: changing a coefficient changes no simulation."""
    key = (problem, weights.tobytes(), procedure.lr, num_tasks, seed, sampler)
    if key not in _SIMULATED:
        problem, weights = padded(problem, weights)
        run = make_run(
            problem, weights, (procedure,), num_tasks=num_tasks, seed=seed, sampler=sampler, block_size=BLOCK_SIZE
        )
        *_, tally = run.tallies()
        if tally.num_nonfinite:
            raise ValueError(f"the risk of {tally.num_nonfinite} simulated tasks is not finite")
        assert tally.moments is not None
        _SIMULATED[key] = Simulated(float(tally.moments.mean[0]), float(tally.moments.stderr[0]))
    return _SIMULATED[key]


def exact_padded(problem: Problem, weights: np.ndarray, procedure: GradientStep | str = "optimal") -> RiskCurve:
    """`exact_risk`, with fewer compilations."""
    return exact_risk(*padded(problem, weights), procedure)


def padded(problem: Problem, weights: np.ndarray) -> tuple[Problem, np.ndarray]:
    """With features that are always 0, which changes nothing, so that diagonal problems share compilations."""
    if isinstance(problem.task, GaussianTasks) or not problem.feature_cov.ndim == weights.ndim == 1:
        return problem, weights
    size = next((size for size in SIMULATED_SIZES if size >= problem.d), problem.d)

    def pad(values: np.ndarray) -> np.ndarray:
        return np.append(values, np.zeros(size - problem.d))

    return replace(problem, task=pad(problem.task), feature_cov=pad(problem.feature_cov)), pad(weights)
