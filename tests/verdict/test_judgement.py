"""Approximate claims at d = infinity, and what is not judged."""

from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from tests.verdict.claims import PROBLEMS, isotropic, leading_order, of_theorem_4_5
from ttt_jax.problem import Problem
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation import estimate_risk
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.theory.risk import asymptotic_risk, exact_risk
from ttt_jax.verdict.claim import check
from ttt_jax.verdict.judgement import judge_rows
from ttt_jax.verdict.outcome import CheckRow


@pytest.mark.parametrize("noise_var", [0.0, 0.3])
@pytest.mark.parametrize(("a", "g"), [(0.5, 2.0), (2.0, 0.5), (1.0, 8.0)])
@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_a_leading_order_passes_and_a_wrong_constant_does_not(a, g, noise_var, evaluation):
    sizes = [
        Problem(round(a * d), round(g * d), np.ones(d) / np.sqrt(d), noise_var=noise_var, evaluation=evaluation)
        for d in (64, 128, 256)
    ]

    def verdict(factor):
        def claim(problem, weights):
            curve = asymptotic_risk(problem, weights)
            return factor * (curve.initial - curve.optimal)

        return check(claim, sizes, quantity="gain", approximate=True, rate=1, num_tasks=0)

    right = verdict(1.0)
    assert right
    assert abs(right.limit) < right.resolution < 0.025
    assert right.rate == pytest.approx(-1, abs=0.3)
    assert not verdict(1.05)
    assert not verdict(0.95)
    assert "DISAGREES" in str(verdict(0.95))


def test_many_rows_of_sampled_tasks_refuse_a_right_claim_as_rarely_as_one():
    """Twenty exact values with independent Gaussian errors, and no simulation."""
    rng, row = np.random.default_rng(0), partial(CheckRow, 4, 4, 4, 1.0, stderr_reliable=True, exact_rounding=0.0)

    def refused(off):
        errors = 0.1 * rng.standard_normal((400, 20)) + off
        families = [[row(1 + x, estimate=np.nan, stderr=np.nan, exact_stderr=0.1) for x in family] for family in errors]
        return sum(judge_rows(tuple(rows), confidence=0.95).verdict == "refuted" for rows in families)

    assert 8 <= refused(0.0) <= 34  # 20 expected
    assert refused(0.3) > 390


def test_sizes_too_small_for_a_verdict_are_no_verdict():
    def verdict(factor, *sizes):
        problems = [isotropic(d, a=1 / 8) for d in sizes]
        return check(leading_order(factor), problems, approximate=True, num_tasks=0)

    small = verdict(1.0, 64, 128, 256)
    assert abs(small.limit) > 0.2
    assert small.exact_ok is None
    assert not small
    assert "exact: not resolved" in str(small)
    assert "larger d" in str(small)
    assert verdict(1.0, 1024, 2048, 4096)
    assert verdict(1.05, 1024, 2048, 4096).exact_ok is False


def test_context_lengths_far_below_d_are_not_refused():
    """Theorem 4.5 with n = sqrt(d), k = 1000 d: the error falls like d^-1/2, and at d = 64 to 1024 like d^-0.37."""

    def verdict(factor, *sizes, rate=None):
        problems = [Problem(round(d**0.5), 1000 * d, np.eye(1, d)[0]) for d in sizes]
        return check(
            lambda n, d: factor * d / (n**2 + d), problems, start="zero", approximate=True, rate=rate, num_tasks=0
        )

    small = 64, 256, 1024
    assert verdict(1.0, *small).exact_ok is None
    assert verdict(1.0, *small, rate=0.5).exact_ok is None
    assert verdict(1.05, *small, rate=0.5).exact_ok is False
    assert verdict(1.0, 256, 1024, 4096).exact_ok is None
    assert verdict(1.05, 256, 1024, 4096).exact_ok is False
    assert verdict(1.0, 256, 1024, 4096, rate=0.5)
    assert verdict(1.0, 64, 128, 256).exact_ok is None  # n = 11 is not the root of 128
    assert verdict(1.1, 256, 512, 1024, rate=0.5).exact_ok is not True


@pytest.mark.parametrize(
    ("a", "g", "quantity"), [(1, 1, "gain"), (0.25, 0.125, "risk"), (0.25, 2, "risk"), (8, 2, "gain")]
)
def test_extrapolations_that_agree_by_accident_are_no_bound(a, g, quantity):
    """The intercepts of the line and of the parabola in 1/d may be equal and both be off."""

    def verdict(factor, rate):
        def claim(problem, weights):
            curve = asymptotic_risk(problem, weights)
            return factor * (curve.initial - curve.optimal if quantity == "gain" else curve.optimal)

        problems = [isotropic(d, a, g) for d in (64, 128, 256)]
        return check(claim, problems, quantity=quantity, approximate=True, rate=rate, num_tasks=0)

    for rate in (None, 1):
        assert verdict(1.0, rate).exact_ok is not False
        assert verdict(1.05, rate).exact_ok is not True
        assert verdict(0.95, rate).exact_ok is not True


def test_a_constant_factor_moves_the_limit_and_nothing_else():
    right, wrong = (
        check(leading_order(factor), [isotropic(d) for d in (64, 128, 256)], approximate=True, num_tasks=0)
        for factor in (1.0, 3.0)
    )
    assert 1 + wrong.limit == pytest.approx(3 * (1 + right.limit))
    assert wrong.resolution == pytest.approx(right.resolution, rel=1e-6)
    assert wrong.rate == pytest.approx(right.rate)


@pytest.mark.parametrize(("factor", "limit"), [(1.02, "+2% +- "), (-1.0, "-200% +- ")])
def test_an_error_that_does_not_fall_is_refused(factor, limit):
    sizes = [isotropic(d) for d in (64, 128, 256)]
    claim = lambda n, d: factor * (d + 1) / (n + d + 1)  # noqa: E731
    result = check(claim, sizes, quantity="initial", approximate=True, num_tasks=0)
    assert result.exact_ok is False
    assert limit in str(result)


def test_an_error_that_falls_like_a_root_is_judged_by_its_rate():
    def verdict(factor, *sizes):
        claim = lambda problem, weights, d: factor * (1 + d**-0.5) * asymptotic_risk(problem, weights).optimal  # noqa: E731
        return check(claim, [isotropic(d) for d in sizes], approximate=True, rate=0.5, num_tasks=0)

    assert verdict(1.0, 64, 256, 1024).exact_ok is not False
    assert verdict(1.0, 1024, 4096, 16384)
    assert verdict(1.05, 1024, 4096, 16384).exact_ok is False


def test_two_sizes_need_a_rate_and_resolve_less_than_three():
    def verdict(*sizes, rate=1, factor=1.0):
        claim = lambda n, d: factor * d / (n + d)  # noqa: E731
        problems = [isotropic(d) for d in sizes]
        return check(claim, problems, quantity="initial", approximate=True, rate=rate, num_tasks=0)

    two, three = verdict(64, 128), verdict(32, 64, 128)
    assert two
    assert three
    assert two.resolution > 3 * three.resolution
    assert verdict(64, 128, factor=1.05).exact_ok is False
    assert verdict(4, 8, rate=None).exact_ok is None
    assert "larger d, or a rate if none is given, would tell" in str(verdict(4, 8, rate=None))
    assert "nan" not in str(two).splitlines()[-1]


def test_an_approximate_claim_against_simulation():
    simulate = partial(estimate_risk, sampler="law")
    sizes = [isotropic(d) for d in (64, 128, 256)]
    for factor, verdict in ((1.0, True), (1.05, False)):
        result = check(leading_order(factor), sizes, approximate=True, rate=1, num_tasks=40_000, simulate=simulate)
        assert result.detectable < 0.06
        assert result.empirical_ok is verdict


def test_simulations_without_noise_are_judged_by_the_resolution_of_the_extrapolation():
    def noiseless(problem, weights, procedure, **options):
        return SimpleNamespace(mean=exact_risk(problem, weights).after(procedure), stderr=1e-12)

    sizes = [isotropic(d) for d in (64, 128, 256)]
    for exact in (exact_risk, None):
        for factor, verdict in ((1.0, True), (1.02, False)):
            result = check(
                leading_order(factor),
                sizes,
                procedure=lambda problem: (
                    exact_risk(problem, starting_weights("pretrained", problem, problem.n)).optimal_lr
                ),
                approximate=True,
                exact=exact,
                simulate=noiseless,
            )
            assert abs(result.limit_z) > result.critical
            assert result.empirical_ok is verdict


@pytest.mark.parametrize(
    ("z", "reliable", "verdict"), [(2.0, True, True), (6.0, True, False), (6.0, None, None), (20.0, None, False)]
)
def test_an_approximate_claim_is_not_refused_for_what_noise_or_unseen_tails_explain(z, reliable, verdict):
    """At the largest size alone the simulated risk is off by z standard errors; the extrapolation triples that."""

    def noisy(problem, weights, procedure, **options):
        mean = exact_risk(problem, weights).after(procedure) * (1 + 0.01 * z * (problem.d == 256))
        return SimpleNamespace(mean=mean, stderr=0.01 * mean, stderr_reliable=reliable)

    sizes = [isotropic(d) for d in (64, 128, 256)]
    result = check(leading_order(1.0), sizes, approximate=True, rate=1, simulate=noisy)
    assert result.empirical_ok is verdict


def test_a_heavy_tail_is_not_judged():
    problem = Problem(1, 2, [1.0])
    result = check(of_theorem_4_5("gain"), [problem], start="zero", quantity="gain", num_tasks=2000, seed=2400)
    assert abs(result.rows[0].z) > result.critical  # a right claim, rejected by a standard error that is too small
    assert not result.rows[0].stderr_reliable
    assert result.empirical_ok is None
    assert result
    assert "not judged" in str(result)


def rarely_large(problem, weights, procedure, *, seed, num_tasks):
    """Of mean 1; one task in 2 num_tasks is so large that nine tenths of the variance are those tasks'."""
    rng, share = np.random.default_rng(seed), 1 / (2 * num_tasks)
    size = 0.03 / share**0.5
    risks = 1 - share * size + 0.01 * rng.standard_normal(num_tasks) + size * (rng.random(num_tasks) < share)
    deviation = risks - risks.mean()
    return SimpleNamespace(
        mean=risks.mean(),
        stderr=risks.std() / num_tasks**0.5,
        stderr_reliable=None,
        kurtosis=np.mean(deviation**4) / risks.var() ** 2,
        num_tasks=num_tasks,
    )


def test_tails_that_nobody_assessed_refute_no_right_claim_and_hold_no_wrong_one():
    options = {"start": 0.0, "procedure": 0.0, "exact": None, "simulate": rarely_large, "num_tasks": 1000}

    def verdicts(claimed):
        found = [check(lambda: claimed, PROBLEMS[:1], seed=3 * seed, **options) for seed in range(200)]
        zs = [one.rows[0].z for one in found if one.rows[0].stderr_reliable is None]
        return Counter(one.verdict for one in found), np.nanmax([one.detectable for one in found]), zs

    right, detectable, _ = verdicts(1.0)
    assert right["refuted"] <= 1
    assert right["holds"] > 60
    wrong, _, zs = verdicts(1 - 2 * detectable)
    assert wrong["holds"] == 0
    assert wrong["refuted"] == len(zs) > 60  # in the others a task is so large that the sample shows it


@pytest.mark.parametrize(("z", "verdict"), [(2.0, "holds"), (4.0, "open"), (6.0, "refuted"), (-2.0, "holds")])
@pytest.mark.parametrize("relation", ["==", "<="])
def test_an_unassessed_row_far_from_the_claim_refutes_it_and_one_near_it_says_nothing(relation, z, verdict):
    result = check(
        lambda: 1.0,
        PROBLEMS[:1],
        relation=relation,
        start=0.0,
        procedure=0.0,
        exact=None,
        simulate=lambda *_, **options: SimpleNamespace(mean=1 + 0.01 * z, stderr=0.01, stderr_reliable=None),
    )
    assert result.verdict == verdict
    assert result.rows[0].stderr_reliable is (False if verdict == "open" else None)
    assert ("* not judged" in str(result)) is (verdict == "open")


def test_a_sign_is_not_seen_where_unseen_tails_may_turn_it():
    def seen(z, reliable):
        row = partial(CheckRow, 4, 4, 4, 0.0, np.nan, stderr_reliable=reliable, exact_stderr=0.0, exact_rounding=0.0)
        rows = row(estimate=-z, stderr=1.0, side=-1), row(estimate=99.0, stderr=1.0, side=1)
        return judge_rows(rows, relation="iff").verdict

    assert (seen(4.0, True), seen(4.0, None)) == ("holds", "open")
    assert (seen(6.0, None), seen(-6.0, None)) == ("holds", "refuted")


def test_a_simulation_without_a_standard_error_is_not_judged():
    for stderr in (np.inf, np.nan, 0.0):
        result = check(
            lambda: 2.0,
            PROBLEMS,
            start=0.0,
            procedure=0.0,
            exact=None,
            simulate=lambda *args, stderr=stderr, **options: SimpleNamespace(mean=0.0, stderr=stderr),
        )
        assert result.empirical_ok is None


def test_the_noise_of_sampled_exact_values_reaches_the_limit():
    def sampled(problem, weights, procedure):
        curve = exact_risk(problem, weights, procedure)
        noise = 1 + 0.001 * np.random.default_rng(problem.d).standard_normal()
        return RiskCurve(curve.c0 * noise, 0.0, 0.0, np.diag([(0.001 * curve.c0) ** 2, 0, 0]))

    sizes = [isotropic(d) for d in (64, 128, 256)]
    options = {
        "quantity": "initial",
        "approximate": True,
        "rate": 1,
        "num_tasks": 0,
        "exact": sampled,
        "procedure": 0.0,
    }
    result = check(lambda n, d: d / (n + d), sizes, **options)
    assert result
    assert result.resolution > 2.5 * 0.001 * (1 / 3 + 2 + 8 / 3)  # the weights of Richardson
    assert check(lambda n, d: 1.05 * d / (n + d), sizes, **options).exact_ok is False
    assert check(lambda n, d: d / (n + d), sizes, **{**options, "rate": None}).exact_ok is None


def test_what_is_detectable_is_refused_as_often_as_it_says():
    """An error of that size is refused in 95 of 100 simulations."""
    detectable = refused = 0.0
    for seed in range(200):
        noise = 0.02 * np.random.default_rng(seed).standard_normal()
        options = {
            "start": 0.0,
            "procedure": 0.0,
            "exact": None,
            "simulate": lambda *args, noise=noise, **options: SimpleNamespace(mean=1.0 + noise, stderr=0.02),
        }
        if not seed:
            detectable = check(lambda: 1.0, PROBLEMS[:1], **options).detectable
        refused += check(lambda factor=1 + detectable: factor, PROBLEMS[:1], **options).empirical_ok is False
    assert abs(refused - 190) < 4 * np.sqrt(200 * 0.95 * 0.05) + 2
