"""Bounds, differences, signs and switches: right claims hold, wrong ones are refuted, too little is neither."""

import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import (
    Folds,
    GaussianTasks,
    GradientStep,
    GradientSteps,
    LinearAttention,
    Problem,
    check,
    estimate_risk,
    exact_risk,
    functional,
)
from ttt_jax.theory.decisions import warm_or_cold
from ttt_jax.theory.paper import theorem_4_5
from ttt_jax.verdict.crossing import nearest_crossing

COLD = {"start": "zero", "quantity": "gain"}


def unit(n, k, d=4):
    return Problem(n, k, np.ones(d) / d**0.5)


PROBLEMS = [unit(60, 8), unit(90, 4)]


def gain(factor):
    def claim(n, k, d):
        curve = theorem_4_5(n, k, d)
        return factor * (curve.initial - curve.optimal)

    return claim


@pytest.mark.parametrize(("relation", "loose", "broken"), [("<=", 1.2, 0.8), (">=", 0.8, 1.2)])
def test_a_bound_holds_on_its_side_and_at_equality(relation, loose, broken):
    options = COLD | {"relation": relation, "num_tasks": 8000}
    result = check(gain(loose), PROBLEMS, **options)
    assert result.exact_ok
    assert result.empirical_ok
    assert result.margins == pytest.approx((0.2, 0.2))
    assert "holds by 20% of the value" in str(result)
    equal = check(gain(1.0), PROBLEMS, **options)
    assert equal.verdict == "holds"
    assert equal.margins == pytest.approx((0.0, 0.0), abs=1e-12)
    refuted = check(gain(broken), PROBLEMS, **options)
    assert refuted.exact_ok is False
    assert refuted.empirical_ok is False
    assert "is broken by up to 20%" in str(refuted)
    assert check(gain(1 + (broken - 1) * 1e-4), PROBLEMS, **options | {"num_tasks": 0}).verdict == "refuted"


@pytest.mark.parametrize("quantity", ["initial", "risk", "gain", "optimal_lr", "variance", "prob_hurt", "quantile"])
def test_every_quantity_may_have_a_bound(quantity):
    problem = Problem(60, 60, np.ones(4) / 2, evaluation="same")
    options = {"quantity": quantity, "start": 0.008, "num_tasks": 0} | (
        {"level": 0.8} if quantity == "quantile" else {}
    )
    value = check(lambda: 0.0, [problem], **options).rows[0].exact
    assert value > 0
    for relation, factor, verdict in (("<=", 1.0, "holds"), ("<=", 0.97, "refuted"), (">=", 1.03, "refuted")):
        assert check(lambda f=factor: f * value, [problem], relation=relation, **options).verdict == verdict


def test_a_bound_is_refused_by_simulation_alone_as_rarely_as_its_confidence_says():
    def simulated(problem, start, procedure, *, seed, **options):
        noise = np.random.default_rng(seed).standard_normal()
        return type("Found", (), {"mean": 1.0 + 0.01 * noise, "stderr": 0.01})

    def refused(value):
        options = {"relation": "<=", "procedure": 0.0, "exact": None, "simulate": simulated, "confidence": 0.95}
        return sum(
            check(lambda: value, PROBLEMS[:1], seed=3 * seed, **options).verdict == "refuted" for seed in range(400)
        )

    assert 8 <= refused(1.0) <= 34  # 20 expected
    one_sided = check(lambda: 1.0, PROBLEMS[:1], relation="<=", procedure=0.0, simulate=simulated, confidence=0.95)
    assert one_sided.critical == pytest.approx(1.645, abs=1e-3)
    assert refused(1.1) == 0
    assert refused(0.95) > 390


def test_a_difference_is_that_of_the_arms_on_the_same_tasks():
    problem = unit(40, 40, 8)
    lr, other = exact_risk(problem, 0.01).optimal_lr, exact_risk(problem, 0.012).optimal_lr
    exact = exact_risk(problem, 0.01).at(lr) - exact_risk(problem, 0.012).at(other)
    options = {"start": 0.01, "procedure": lr, "against": {"start": 0.012, "procedure": other}, "num_tasks": 4000}
    right, wrong = (check(lambda f=f: f * exact, [problem], **options) for f in (1.0, 1.03))
    assert right.exact_ok
    assert right.empirical_ok
    assert wrong.exact_ok is False
    alone = check(lambda: exact_risk(problem, 0.01).at(lr), [problem], start=0.01, procedure=lr, num_tasks=4000)
    assert right.rows[0].stderr < alone.rows[0].stderr / 3


def test_procedures_are_compared_with_one_another_and_with_none():
    problem = unit(60, 8)
    options = {"start": 0.01, "num_tasks": 2000}
    curves = [exact_risk(problem, 0.01, Folds(4)), exact_risk(problem, 0.01)]
    exact = curves[0].optimal - curves[1].optimal
    folds = check(lambda: exact, [problem], procedure=Folds(4), against={"procedure": "optimal"}, **options)
    assert folds.exact_ok
    assert folds.empirical_ok
    helps = check(lambda: 0.0, [problem], relation="<=", against={"procedure": 0.0}, **options)
    assert helps.verdict == "holds"


def test_a_model_and_weights_have_the_same_tasks():
    problem, options = unit(20, 20), {"procedure": 1e-5, "num_tasks": 500}
    start = functional(LinearAttention(0.02 * jnp.eye(4)))
    same = check(lambda: 0.0, [problem], start=start, against={"start": 0.02}, **options)
    wrong = check(lambda: 0.1, [problem], start=start, against={"start": 0.02}, **options)
    assert same.exact_ok is None
    assert same
    assert not wrong
    assert same.rows[0].stderr < 0.02


def warm_before(threshold):
    return lambda k, d: k / d < threshold


def test_who_wins_is_judged_on_both_sides():
    """At d = 16, n = 8 the cold start wins from k / d of about 2 on."""
    switch = warm_or_cold(unit(8, 1, 16)).switch
    problems = [unit(8, k, 16) for k in (switch // 4, switch - 1, switch, 4 * switch)]
    options = {"relation": "iff", "against": {"start": "zero"}}
    right = check(warm_before((switch - 0.5) / 16), problems, **options, num_tasks=0)
    assert right.verdict == "holds"
    assert right.on_the_right_side(simulated=False) == (2, 2)
    wrong = check(warm_before((switch + 0.5) / 16), problems, **options, num_tasks=0)
    assert wrong.verdict == "refuted"
    one_side = check(warm_before(1e9), problems[:2], **options, num_tasks=0)
    assert one_side.verdict == "open"
    assert not one_side
    assert "one side was not tried" in str(one_side)


def test_signs_that_simulation_cannot_tell_are_counted_and_not_judged():
    """tau / (n + d + 1) I has a smaller risk than 0 if and only if tau < 2."""

    def verdict(threshold, *values):
        return check(
            lambda tau: tau < threshold,
            [unit(40, 1)],
            relation="iff",
            start=lambda problem, tau: tau / (problem.n + problem.d + 1),
            procedure=0.0,
            against={"start": "zero"},
            parameters={"tau": values},
            exact=None,
            num_tasks=500,
        )

    right = verdict(2, 0.5, 1.999, 3.0)
    assert right.verdict == "holds"
    assert right.on_the_right_side(simulated=True) == (1, 1)
    assert verdict(4, 0.5, 1.999, 3.0).verdict == "refuted"
    assert "a side is not resolved" in str(open_ := verdict(2, 0.5, 2.001))
    assert open_.verdict == "open"
    assert "one side was not tried" in str(verdict(2, 0.5, 1.0))


@pytest.mark.parametrize("along", ["k", "noise_var"])
def test_a_switch_is_found_and_one_off_by_five_percent_is_refuted(along):
    if along == "k":
        exact, options = warm_or_cold(unit(20, 1, 12)).switch - 0.5, {"against": {"start": "zero"}}
    else:  # initial risks B (1 - 2nw + n(n+1+d)w^2) + s2 (1 + ndw^2) from w = 1 / (n+d+1) I and from half of it
        exact, options = (4 / 3 - 1) * 33 / 12, {"start": 1 / 33, "procedure": 0.0, "against": {"start": 0.5 / 33}}
    problem, options = unit(20, 1, 12), options | {"quantity": "switch", "along": along}
    right, low, high = (check(lambda f=f: f * exact, [problem], **options, num_tasks=0) for f in (1, 0.95, 1.05))
    assert right.verdict == "holds"
    assert low.verdict == high.verdict == "refuted"


def test_a_switch_holds_between_the_two_whole_sizes_and_nowhere_else():
    """At n = 10, d = 30 the warm start is the better one until k = 67."""
    problem, options = unit(10, 1, 30), {"against": {"start": "zero"}, "quantity": "switch", "along": "k"}
    right, wrong = (67.01, 67.99), (66.6, 68.4)
    for sizes, verdict in ((right, "holds"), (wrong, "refuted")):
        for size in sizes:
            assert check(lambda size=size: size, [problem], **options, num_tasks=0).verdict == verdict


def test_a_switch_between_two_whole_sizes_is_interpolated():
    for root in (3.25, 17.5, 60.0, 101.75):
        found, width = nearest_crossing(lambda k, root=root: 1 - k / root, 20.0, whole=True)
        assert found == pytest.approx(root)
        assert width == 1
    found, width = nearest_crossing(lambda x: x**2 - 2, 1.0, whole=False)
    assert abs(found - 2**0.5) < width < 1e-5


@pytest.mark.parametrize("options", [{}, {"relation": ">="}, {"approximate": True, "rate": 1}])
def test_a_switch_that_does_not_exist_is_refuted(options):
    """The best step is better than none for every k."""
    arms = {"start": 0.01, "procedure": 0.0, "against": {"procedure": lambda p: exact_risk(p, 0.01).optimal_lr}}
    problems = [unit(20, 10, d) for d in (4, 8)]
    result = check(lambda: 10.0, problems, quantity="switch", along="k", num_tasks=0, **arms, **options)
    assert result.verdict == "refuted"
    assert "the risks do not cross near the claimed k, in 2 of 2 rows" in str(result)


def test_of_several_switches_that_nearest_to_the_claim_is_found():
    """At k = 10 d the warm start wins with the shortest contexts and with long ones, the cold start in between."""

    def warm_is_better(n):
        return exact_risk(unit(n, 120, 12), 1 / (n + 13)).optimal < exact_risk(unit(n, 120, 12), 0.0).optimal

    winners = [warm_is_better(n) for n in range(1, 400)]
    switches = [n + 1.5 for n in range(398) if winners[n] != winners[n + 1]]
    assert len(switches) == 2
    for switch in switches:
        options = {"quantity": "switch", "along": "n", "against": {"start": "zero"}, "num_tasks": 0}
        right, wrong = (check(lambda value=f * switch: value, [unit(5, 120, 12)], **options) for f in (1, 1.4))
        assert right.verdict == "holds"
        assert wrong.verdict == "refuted"


def test_a_switch_of_sampled_tasks_has_their_standard_error():
    tasks = GaussianTasks(cov=1 / 12, d=12)
    isotropic, sampled = (Problem(20, 1, tasks, cov) for cov in (1.0, 1 + 1e-12 * np.arange(12)))
    options = {"quantity": "switch", "along": "k", "against": {"start": "zero"}, "num_tasks": 0, "start": 1 / 33}
    exact = check(lambda: 50.0, [isotropic], **options).rows[0].exact
    right, wrong = (check(lambda f=f: f * exact, [sampled], **options) for f in (1, 2))
    assert right.rows[0].exact_stderr > 0
    assert right.verdict == "holds"
    assert wrong.verdict == "refuted"


def test_a_switch_is_simulated_on_the_same_tasks():
    problem = unit(40, 1, 8)
    exact = warm_or_cold(problem).switch - 0.5
    options = {"quantity": "switch", "along": "k", "against": {"start": "zero"}, "num_tasks": 8000}
    right = check(lambda: exact, [problem], **options)
    wrong = check(lambda: 1.25 * exact, [problem], **options)
    assert right.empirical_ok
    assert right.detectable < 0.5
    assert wrong.empirical_ok is False
    assert abs(wrong.rows[0].estimate / exact - 1) < 0.2  # it points to where the switch is


def test_the_leading_order_of_a_switch():
    """Corollary 4.6 at n = d / 2: k / d tends to 0.9."""
    problems = [unit(d // 2, 1, d) for d in (128, 256, 512)]
    options = {"quantity": "switch", "along": "k", "against": {"start": "zero"}, "approximate": True, "rate": 1}
    right, low, high = (check(lambda d, f=f: 0.9 * f * d, problems, **options, num_tasks=0) for f in (1, 0.95, 1.05))
    assert right.verdict == "holds"
    assert low.verdict == high.verdict == "refuted"


def test_parameters_of_ones_own():
    def problem(d, kappa):
        return unit(10 * d, round(kappa * d), d)

    def claim(n, k, d, kappa, factor=1.0):
        return factor * theorem_4_5(n, k, d).optimal + 0 * kappa

    parameters = {"d": [4, 8], "kappa": [1.0, 2.0, 3.0]}
    result = check(claim, problem, start="zero", parameters=parameters, num_tasks=0)
    assert result
    assert len(result.rows) == 6
    assert result.rows[-1].parameters == {"d": 8, "kappa": 3.0}
    assert str(result).splitlines()[0].split()[:4] == ["kappa", "n", "k", "d"]
    scaled = check(
        lambda problem, tau: exact_risk(problem, tau / 50).initial,
        PROBLEMS,
        start=lambda problem, tau: tau / 50,
        quantity="initial",
        parameters={"tau": [0.5, 1.0]},
        num_tasks=0,
    )
    assert scaled
    assert len(scaled.rows) == 4


def test_parameters_may_come_from_an_iterator_that_ends():
    result = check(
        lambda a: a, PROBLEMS, quantity="initial", start=0.0, parameters={"a": iter([1.0, 1.1])}, num_tasks=0
    )
    assert len(result.rows) == 4
    assert result.verdict == "refuted"


def test_a_bound_on_a_value_of_zero_has_a_margin_with_a_sign():
    zero = [Problem(5, 5, np.zeros(3))]
    margins = [check(lambda v=v: v, zero, relation="<=", num_tasks=0).margins for v in (0.0, 1.0, -1.0)]
    assert margins == [(0.0, 0.0), (np.inf, np.inf), (-np.inf, -np.inf)]


def test_a_procedure_may_depend_on_parameters_and_a_claim_on_the_procedure():
    def steps(problem, T):
        return GradientSteps([1e-4] * T, new_context=True)

    def claim(problem, procedure, T):
        assert procedure.num_steps == T
        return exact_risk(problem, 0.01, procedure).final

    assert check(claim, PROBLEMS, start=0.01, procedure=steps, parameters={"T": [1, 2]}, num_tasks=0)


@pytest.mark.parametrize("name", ["folds", "steps"])
def test_a_gain_of_other_procedures_is_seen_three_times_as_sharply(name):
    """As that of one plain step in `test_claim`: at half the optimal step most of the risk is common to both."""
    problem = unit(40, 40, 8)
    half = exact_risk(problem, 0.01, Folds(4) if name == "folds" else "optimal").optimal_lr / 2
    procedure = Folds(4, half) if name == "folds" else GradientSteps([half / 2, half / 2])
    options = {"start": 0.01, "procedure": procedure, "exact": None, "num_tasks": 2000}
    gain = check(lambda: 0.0, [problem], quantity="gain", **options).rows[0]
    before = Folds(4, 0.0) if name == "folds" else GradientStep(0.0)
    one, other = estimate_risk(problem, 0.01, (before, procedure), num_tasks=2000).estimates
    assert 3 * gain.stderr < np.hypot(one.stderr, np.atleast_1d(other.stderr)[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"relation": "<"}, "relation must be one of ==, <=, >=, iff, got '<'"),
        ({"relation": "<=", "approximate": True}, "relation must be == if approximate, got '<='"),
        ({"relation": "iff"}, "against must give the other start or procedure for the relation 'iff', got None"),
        ({"against": {"start": "zero"}, "relation": "iff", "quantity": "gain"}, "quantity must be risk if relation is"),
        ({"against": {"start": "zero"}, "relation": "iff"}, "claim must give True or False .*, got 60 at n = 60"),
        ({"against": "zero"}, "against must be a dictionary of start, procedure or both, got 'zero'"),
        ({"against": {"weights": 0.0}}, "against must be a dictionary of start, procedure or both"),
        (
            {"against": {"start": "zero"}, "quantity": "optimal_lr"},
            "quantity must be one of initial, risk, gain, switch",
        ),
        ({"quantity": "switch", "against": {"start": "zero"}}, "along must be given for the quantity 'switch'"),
        ({"along": "k"}, "along must be given for the quantity 'switch' and no other, got 'k'"),
        ({"quantity": "switch", "along": "d", "against": {"start": 0.0}}, "along must be one of n, k, noise_var"),
        ({"quantity": "switch", "along": "k"}, "against must give .* for the quantity 'switch', got None"),
        (
            {"quantity": "switch", "along": "k", "against": {"start": 0.0}, "claim": lambda n: -n},
            "claim must give a positive number for a switch, got -60",
        ),
        ({"parameters": [1]}, r"parameters must be a dictionary of names and values, got \[1\]"),
        ({"parameters": {"lr": [1]}}, "parameters must have names of their own, not lr, .*, got 'lr'"),
        ({"parameters": {"a": []}}, r"parameters must give a sequence of values of a, got \[\]"),
        (
            {"parameters": {"n": [np.ones(2)]}},
            r"parameters must agree with the problem, n = 60, got array\(\[1., 1.\]\)",
        ),
        (
            {"quantity": "switch", "along": "k", "procedure": Folds(4), "against": {"procedure": 0.0}},
            "folds must divide n . k =",
        ),
        ({"parameters": {"a": 1.0}}, "parameters must give a sequence of values of a, got 1.0"),
        ({"parameters": {"n": [7]}}, "parameters must agree with the problem, n = 60, got 7"),
        ({"problems": lambda kappa: unit(4, 4)}, "parameters must be given where problems is a function"),
        ({"problems": lambda a: a, "parameters": {"a": [1]}}, "problems must be of type Problem, got 1"),
        ({"problems": lambda: 1, "parameters": {"a": [1]}}, "problems must be of type Problem, got 1"),
        ({"problems": lambda b: 1, "parameters": {"a": [1]}}, "problems may use a, got b"),
        ({"claim": lambda n: 1 / 0}, "claim must not raise, got ZeroDivisionError: division by zero"),
        ({"start": lambda problem, tau: tau}, "start may use problem, got tau"),
        ({"procedure": lambda p: p.missing}, "procedure must not raise, got AttributeError"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        check(**({"claim": lambda n: n, "problems": PROBLEMS, "num_tasks": 0} | arguments))
