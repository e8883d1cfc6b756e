"""The harness: right claims pass, wrong ones do not, and nonsense is refused by name."""

from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy as sp

from ttt_jax import Folds, GradientSteps, LinearAttention, Optimizer, functional
from ttt_jax.problem import GaussianTasks, Problem
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.simulation import estimate_risk
from ttt_jax.theory.paper import theorem_4_5
from ttt_jax.theory.pretrained import starting_weights
from ttt_jax.theory.risk import asymptotic_risk, exact_risk
from ttt_jax.verdict.claim import check

PROBLEMS = [Problem(40, 12, np.ones(6), noise_var=0.5), Problem(30, 20, np.ones(8), noise_var=0.1)]
N, K, D, LR, NORM2 = sp.symbols("n k d lr task_norm2")


def isotropic(d, a=0.5, g=2.0):
    return Problem(round(a * d), round(g * d), np.ones(d) / np.sqrt(d))


def leading_order(factor=1.0):
    return lambda problem, weights: factor * asymptotic_risk(problem, weights).optimal


def of_theorem_4_5(field, factor=1.0):
    def claim(n, k, d, task_norm2, noise_var):
        curve = theorem_4_5(n, k, d, task_norm2, noise_var)
        values = {"gain": curve.initial - curve.optimal, "optimal_lr": curve.optimal_lr, "initial": curve.initial}
        return factor * values[field]

    return claim


@pytest.mark.parametrize("quantity", ["gain", "optimal_lr", "initial"])
def test_an_exact_claim_passes_and_one_off_by_five_percent_does_not(quantity):
    right, wrong = (
        check(of_theorem_4_5(quantity, factor), PROBLEMS, start="zero", quantity=quantity, num_tasks=40_000)
        for factor in (1.0, 1.05)
    )
    assert right.exact_ok
    assert right.empirical_ok
    assert not wrong.exact_ok
    if right.detectable < 0.05:
        assert not wrong.empirical_ok


def test_sympy_claims():
    gain = 4 * LR * K * N**2 * NORM2**2 - 4 * LR**2 * K * (K + D + 1) * N**2 * (N**2 + 4 * N + 3 + D) * NORM2**3
    problems = [Problem(6, 9, np.ones(3)), Problem(2, 4, [2.0])]
    assert check(gain, problems, start="zero", quantity="gain", procedure=1e-4, num_tasks=0).exact_ok
    assert not check(1.001 * gain, problems, start="zero", quantity="gain", procedure=1e-4, num_tasks=0)


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


@pytest.mark.parametrize(("z", "verdict"), [(2.0, True), (6.0, False)])
def test_an_approximate_claim_is_not_refused_for_what_noise_explains(z, verdict):
    """At the largest size alone the simulated risk is off by z standard errors; the extrapolation triples that."""

    def noisy(problem, weights, procedure, **options):
        mean = exact_risk(problem, weights).after(procedure)
        return SimpleNamespace(mean=mean * (1 + 0.01 * z * (problem.d == 256)), stderr=0.01 * mean)

    sizes = [isotropic(d) for d in (64, 128, 256)]
    result = check(leading_order(1.0), sizes, approximate=True, rate=1, simulate=noisy)
    assert result.empirical_ok is verdict


def test_a_right_optimal_step_passes_at_a_step_that_hardly_shows_it():
    def optimal_lr(factor):
        return lambda n, k, d: factor * theorem_4_5(n, k, d).optimal_lr

    def simulated(problem, weights, procedure, *, seed, **options):
        curve = theorem_4_5(problem.n, problem.k, problem.d)
        noise = 0.01 * np.random.default_rng(seed).standard_normal()
        return SimpleNamespace(mean=curve.after(procedure) + noise, stderr=0.01)

    def refused(factor, lr):
        results = [
            check(optimal_lr(factor), problems, quantity="optimal_lr", procedure=lr, seed=3 * seed, **options)
            for seed in range(200)
        ]
        return sum(result.empirical_ok is False for result in results)

    problems, options = [Problem(8, 16, np.ones(4) / 2)], {"start": "zero", "simulate": simulated}
    optimum = theorem_4_5(8, 16, 4).optimal_lr
    for share in (1, 0.1, 0.01):
        assert refused(1.0, share * optimum) <= 7  # 2 expected of 200 at confidence 0.99
    assert refused(1.2, optimum) > 190


def test_a_heavy_tail_is_not_judged():
    problem = Problem(1, 2, [1.0])
    result = check(of_theorem_4_5("gain"), [problem], start="zero", quantity="gain", num_tasks=2000, seed=2400)
    assert abs(result.rows[0].z) > result.critical  # a right claim, rejected by a standard error that is too small
    assert not result.rows[0].stderr_reliable
    assert result.empirical_ok is None
    assert result
    assert "not judged" in str(result)


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


def test_two_symbols_of_one_name_are_one_number():
    claim = N / sp.Symbol("n", positive=True) * K / (K + D + 1) * N**2 / (N**2 + 4 * N + 3 + D)
    assert check(claim, [Problem(6, 9, np.ones(3) / 3**0.5)], start="zero", quantity="gain", num_tasks=0)


def test_nothing_compared_is_not_agreement():
    one_task = check(lambda: 1.0, PROBLEMS, start=0.0, procedure=0.0, num_tasks=1, exact=None)
    assert one_task.empirical_ok is None
    assert not one_task


def test_an_exact_value_that_is_itself_sampled_has_a_standard_error():
    d = 8
    problem = Problem(8, 16, GaussianTasks(d=d), feature_cov=1 + 1e-12 * np.arange(d))  # no longer a multiple of I

    def verdict(factor, **options):
        claim = lambda n, k, d: factor * k / (k + d + 1) * n**2 / (n**2 + 4 * n + 3 + d) * d * (d + 2) / (d + 4)  # noqa: E731
        return check(claim, [problem], start="zero", num_tasks=0, **options)

    right = verdict(1.0, quantity="gain")
    assert right.rows[0].exact_stderr > 0
    assert right.rows[0].relative_error > 1e-6
    assert right
    assert not verdict(1.2, quantity="gain")


def test_a_gain_of_zero_is_zero_to_the_rounding_of_the_risk():
    for n in range(1, 12):  # with one feature W* is the best weight that there is
        result = check(lambda n: 0.0, [Problem(n, 5, [0.7])], quantity="gain", num_tasks=0)
        assert result
        assert result.rows[0].relative_error == 0


def test_a_claim_in_float32_is_told_so():
    claim = lambda n, k, d: np.float32(theorem_4_5(n, k, d).optimal)  # noqa: E731
    result = check(claim, [Problem(6, 9, np.ones(3) / 3**0.5)], start="zero", num_tasks=0)
    assert not result
    assert "rounding of float32" in str(result)


def test_parameters_of_a_claim_may_have_defaults():
    def claim(n, k, d, factor=1.0, **other):
        return factor * theorem_4_5(n, k, d).optimal

    problems = [Problem(6, 9, np.ones(3) / 3**0.5)]
    assert check(claim, problems, start="zero", num_tasks=0)
    assert not check(partial(claim, factor=1.1), problems, start="zero", num_tasks=0)


def test_the_table_shows_every_row():
    result = check(lambda: 1.0, PROBLEMS, start=0.0, quantity="initial", num_tasks=1000)
    assert len(str(result).splitlines()) == 1 + len(PROBLEMS) + 2
    assert "DISAGREES" in str(result)


def test_columns_of_the_table_stay_apart():
    problems = [Problem(10**12, 321_024_000, [1e30]), Problem(5, 10**12, [1.0])]
    result = check(lambda task_norm2: 1.5 * task_norm2, problems, start=0.0, quantity="initial", num_tasks=0)
    lines = str(result).splitlines()[:3]
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[:3] == ["1000000000000", "321024000", "1"]
    assert [len(line.split()) for line in lines[1:]] == [8, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantity": "loss"}, "quantity must be one of"),
        ({"problems": []}, "problems must not be empty"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1 - 1e-9, got 1.0"),
        ({"confidence": 1 - 1e-16}, "confidence must be between 0 and 1 - 1e-9"),
        ({"approximate": True, "problems": PROBLEMS[:1]}, r"at least two sizes d, all different, .*got \[6\]"),
        ({"approximate": True, "problems": [isotropic(d) for d in (8, 8, 16)]}, r"got \[8, 8, 16\]"),
        ({"approximate": True, "claim": lambda: 0.0}, "its value is 0 at d = 6"),
        ({"problems": PROBLEMS[0]}, "got one Problem: put it in a list"),
        ({"problems": [(4, 8, 4)]}, r"must be of type Problem, got \(4, 8, 4\)"),
        ({"claim": 0.25}, "claim must be a function or a sympy expression, got 0.25"),
        ({"claim": 1 / (N - 40)}, "finite real number, got zoo at n = 40, k = 12, d = 6"),
        ({"claim": sp.sqrt(-N)}, r"finite real number, got .*I at n = 40"),
        ({"claim": lambda n: float("nan")}, "finite real number, got nan at n = 40"),
        ({"claim": lambda n: [1.0, 2.0]}, r"finite real number, got \[1.0, 2.0\]"),
        ({"claim": lambda n: np.complex128(1 + 2j)}, r"finite real number, got \(1\+2j\)"),
        ({"claim": lambda n: 10**400}, "finite real number, got 1000"),
        ({"claim": lambda n, d: n > d}, "finite real number, got True at n = 40"),
        ({"claim": lambda n: np.bool_(True)}, "finite real number, got True at"),
        ({"claim": lambda n: np.array([True, False])}, r"finite real number, got \[ True False\] at"),
        ({"claim": lambda n: np.array(True, dtype=object)}, "finite real number, got True at"),
        ({"claim": N > D}, "finite real number, got True at"),
        ({"claim": sp.true}, "finite real number, got True at"),
        ({"claim": lambda n: sp.Symbol("x") > 3}, "finite real number, got x > 3 at"),
        ({"claim": lambda n: "1.0"}, "finite real number, got 1.0 at"),
        ({"claim": lambda n: np.ma.masked}, "finite real number, got -- at"),
        ({"claim": lambda n: None}, "finite real number, got None at"),
        ({"claim": lambda n: np.zeros((40, 40))}, r"finite real number, got \[\[0. 0. .*\.\.\. at n = 40"),
        ({"approximate": True, "rate": 0}, "rate must be positive, got 0"),
        ({"approximate": True, "rate": "1"}, "rate must be a finite number, got '1'"),
        ({"rate": 1}, "rate must be None unless approximate, got 1"),
        ({"approximate": "no"}, "approximate must be True or False, got 'no'"),
        ({"confidence": "high"}, "confidence must be a finite number, got 'high'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"procedure": None}, "procedure must be a step size or a procedure such as .*, got None"),
        ({"quantity": "optimal_lr", "procedure": 0.0, "num_tasks": 2}, "lr must not be 0"),
        ({"exact": None, "procedure": 0.0}, "nothing to compare with"),
        ({"claim": lambda q: q}, "claim may use n, k, d, .*, got q"),
        ({"claim": sp.Symbol("eta")}, "claim may use n, k, d, .*, got eta"),
        ({"start": "random"}, "start must be one of"),
        ({"exact": None, "num_tasks": 2}, "lr must be a number"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    defaults = {"claim": lambda n: n, "problems": PROBLEMS, "num_tasks": 0}
    with pytest.raises(ValueError, match=message):
        check(**(defaults | arguments))


def test_a_flat_simulation_has_no_optimum():
    def flat(*_, **__):
        return SimpleNamespace(mean=1.0, stderr=0.1)

    with pytest.raises(ValueError, match=r"optimal_lr where the simulated risk is flat, got \[1.0, 1.0, 1.0\]"):
        check(lambda: 1.0, PROBLEMS, start=0.0, quantity="optimal_lr", procedure=0.1, simulate=flat)


def test_every_simulation_has_a_seed_of_its_own():
    seeds = []

    def recorded(problem, weights, procedure, *, seed, **options):
        seeds.append(seed)
        return SimpleNamespace(mean=1 + (procedure.lr - 0.1) ** 2, stderr=0.1)

    check(lambda: 0.0, PROBLEMS, start=0.0, quantity="optimal_lr", procedure=0.1, simulate=recorded)
    assert len(seeds) == len(set(seeds)) == 3 * len(PROBLEMS)


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


def test_a_gain_on_the_same_tasks_is_seen_three_times_as_sharply():
    """At half the optimal step most of the risk before and after is common to both."""
    problem = [Problem(40, 40, np.ones(8) / 8**0.5)]
    lr = exact_risk(problem[0], 0.01).optimal_lr / 2
    claim = lambda problem: exact_risk(problem, 0.01).initial - exact_risk(problem, 0.01).at(lr)  # noqa: E731
    options = {"start": 0.01, "procedure": lr, "quantity": "gain", "num_tasks": 4000, "exact": None}
    together = check(claim, problem, **options)
    apart = check(claim, problem, **options, simulate=partial(estimate_risk, block_size=512))
    assert together
    assert 3 * together.rows[0].stderr < apart.rows[0].stderr


@pytest.mark.parametrize("procedure", [Folds(2, 1e-4), GradientSteps([1e-4, 1e-4]), Optimizer(optax.sgd(1e-4), 2)])
def test_what_has_no_law_of_its_tails_is_judged_and_says_that_nobody_assessed_them(procedure):
    problem = Problem(10, 10, np.ones(4) / 2)
    gain = [
        float(np.atleast_1d(estimate_risk(problem, 0.05, one, num_tasks=20_000, seed=9).mean)[-1])
        for one in (Folds(2, 0.0) if isinstance(procedure, Folds) else 0.0, procedure)
    ]
    result = check(
        lambda: gain[0] - gain[1], [problem], start=0.05, procedure=procedure, quantity="gain", num_tasks=2000
    )
    assert result.rows[0].stderr_reliable is None
    assert result.empirical_ok
    assert "not assessed" in str(result)
    assert not check(lambda: 2 * gain[0], [problem], start=0.05, procedure=procedure, quantity="gain", num_tasks=2000)


def test_steps_with_an_exact_path_are_compared_with_it():
    problems, steps = [Problem(20, 20, np.ones(6))], GradientSteps([1e-6, 1e-6], new_context=True)
    path = exact_risk(problems[0], 0.02, steps)
    for quantity, value in (("initial", path.initial), ("risk", path.final), ("gain", path.initial - path.final)):
        assert check(lambda value=value: value, problems, start=0.02, procedure=steps, quantity=quantity, num_tasks=0)
    with pytest.raises(ValueError, match="quantity must not be optimal_lr for GradientSteps"):
        check(lambda: 1.0, problems, start=0.02, procedure=steps, quantity="optimal_lr", num_tasks=8)


def test_a_model_is_judged_by_simulation_alone():
    start = functional(LinearAttention(0.02 * jnp.eye(4)))
    problem = Problem(10, 10, np.ones(4) / 2)
    exact = exact_risk(problem, 0.02).at(1e-5)
    result = check(lambda: exact, [problem], start=start, procedure=1e-5, num_tasks=2000)
    assert result.exact_ok is None
    assert result.empirical_ok
