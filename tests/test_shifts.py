"""The catalogue: what each entry says, against independent statements of it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax import Problem, asymptotic_risk, compare, estimate_risk, exact_risk, pretrained_weights
from ttt_jax._internal import linalg
from ttt_jax.shifts import SHIFTS, make_shift
from ttt_jax.simulation.scaled import safe_units, scale_problem
from ttt_jax.theory.paper import misalignment, proposition_4_1_risk

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZES = {"n": 6, "k": 9, "d": 8}


def initial(name, **parameters):
    pretraining, problem = make_shift(name, **SIZES, **parameters)
    return exact_risk(problem, pretrained_weights(pretraining)).initial


def optimal(name, **parameters):
    pretraining, problem = make_shift(name, **SIZES, **parameters)
    return exact_risk(problem, pretrained_weights(pretraining)).optimal


@pytest.mark.parametrize("name", SHIFTS)
def test_the_defaults_work_at_small_d(name):
    for d in (2, 3):
        try:
            make_shift(name, n=4, k=4, d=d)
        except ValueError as error:
            pytest.fail(f"the defaults of shift {name} must work at d = {d}: {error}")


@pytest.mark.parametrize("name", SHIFTS)
def test_every_entry_is_normalised_and_has_defaults_and_a_docstring(name):
    pretraining, problem = make_shift(name, **SIZES, noise_var=0.25)
    assert (pretraining.n, problem.n, problem.k, problem.d) == (6, 6, 9, 8)
    assert np.trace(linalg.dense(pretraining.task_cov, 8)) == pytest.approx(1)
    assert problem.task @ problem.task == pytest.approx(1)
    assert pretraining.noise_var == 0.25
    assert SHIFTS[name].__doc__
    assert np.isfinite(asymptotic_risk(problem, pretrained_weights(pretraining)).optimal)


def test_no_shift_is_proposition_4_1():
    """With tr Sb = 1, N = n + 1 + d (1 + s2): the noise of Proposition 4.1 in units of E|b|^2 = d."""
    assert initial("none") == pytest.approx(proposition_4_1_risk(6, 8))
    unit = proposition_4_1_risk(6, 8, task_norm2=8, noise_var=8 * 0.3) / 8
    assert initial("none", noise_var=0.3) == pytest.approx(unit)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("aligned", {"ratio": 1}),
        ("reversed", {"ratio": 1.0}),
        ("power_law", {"exponent": 0}),
        ("spiked", {"strength": 0}),
        ("rotated", {"ratio": 1}),
        ("features", {"ratio": 1}),
        ("scale", {"factor": 1}),
        ("noise", {"test_noise_var": 0}),
    ],
)
def test_the_neutral_value_of_a_parameter_is_no_shift(name, parameters):
    assert initial(name, **parameters) == pytest.approx(initial("none"))
    assert optimal(name, **parameters) == pytest.approx(optimal("none"))


def test_misalignment_grows_with_the_angle():
    risks = [initial("rotated", angle=angle) for angle in (0, 30, 60, 90)]
    assert (np.diff(risks) > 0).all()
    assert initial("rotated", angle=180) == pytest.approx(risks[0])
    at_zero, _ = make_shift("rotated", **SIZES, angle=0)
    np.testing.assert_allclose(np.diag(at_zero.task_cov), make_shift("aligned", **SIZES)[0].task_cov)


def test_alignment_orders_the_low_rank_cases():
    pairs = {name: make_shift(name, **SIZES) for name in ("low_rank", "none", "orthogonal")}
    values = [misalignment(q, pretrained_weights(p))[0] for p, q in pairs.values()]
    assert (np.diff(values) > 0).all()
    assert values[-1] == pytest.approx(1)  # W does not see the task at all
    assert initial("spiked", angle=0, strength=1e9) == pytest.approx(initial("low_rank"), rel=1e-6)
    assert initial("power_law", exponent=200.0, test_exponent=200.0) == pytest.approx(initial("low_rank"))


def test_scale_of_features_is_a_change_of_units_for_the_cold_start():
    """From W = 0 and without noise the best risk scales like the labels; the pretrained W does not fit any more."""
    one, two = (exact_risk(make_shift("scale", **SIZES, factor=f)[1], 0.0).optimal for f in (1, 2))
    assert two == pytest.approx(4 * one)
    assert initial("scale", factor=2) > 4 * initial("scale", factor=1)


def test_shifts_of_the_test_law_leave_pretraining_alone():
    reference = pretrained_weights(make_shift("none", **SIZES, noise_var=0.1)[0])
    for name in ("features", "scale", "noise"):
        pretraining, problem = make_shift(name, **SIZES, noise_var=0.1)
        np.testing.assert_array_equal(pretrained_weights(pretraining), reference)
        assert problem.noise_var == (1.0 if name == "noise" else 0.1)
    assert np.mean(problem.feature_cov) == 1


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("aligned ", {}, "shift must be one of none, aligned, .*, got 'aligned '"),
        ("none", {"ratio": 1}, "shift 'none' takes no parameters, got ratio"),
        ("spiked", {"ratio": 1}, "shift 'spiked' takes strength, angle, got ratio"),
        ("aligned", {"ratio": -1}, "ratio must be a finite number >= 0, got -1"),
        ("aligned", {"ratio": 1e308}, r"shift 'aligned' has no finite task of length 1 at d = .* and ratio = 1e\+308"),
        ("scale", {"factor": 1e200}, r"shift 'scale' has no finite task of length 1 at d = .* and factor = 1e\+200"),
        ("reversed", {"ratio": "half"}, "ratio must be a finite number >= 0, got 'half'"),
        ("low_rank", {"rank": 8}, "rank must be below d = 8, got 8"),
        ("orthogonal", {"rank": 1.5}, "rank must be an integer >= 1, got 1.5"),
        ("rotated", {"angle": np.inf}, "angle must be a finite number, got inf"),
        ("noise", {"test_noise_var": -0.1}, "test_noise_var must be a finite number >= 0, got -0.1"),
        ("scale", {"factor": 0}, "factor must be a number other than 0"),
        ("none", {"d": 0}, "d must be an integer >= 1, got 0"),
        ("spiked", {"d": 1}, "d must be at least 2 for the shift 'spiked', got 1"),
        ("none", {"noise_var": -1}, "noise_var must be a finite number >= 0, got -1"),
    ],
)
def test_bad_input_is_refused_in_one_line(name, parameters, message):
    with pytest.raises(ValueError, match=message) as error:
        make_shift(name, **(SIZES | parameters))
    assert "\n" not in str(error.value)


def test_sizes_of_one_and_odd_sizes():
    for name in SHIFTS:
        for d in (2, 3):
            make_shift(name, n=1, k=1, d=d)
    assert all(
        p.default is not p.empty
        for shift in SHIFTS.values()
        for p in inspect.signature(shift).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    )


def exact_by_enumeration(n, k, lr, weight, evaluation):
    """The risk for d = 1 and x = +-1, b = 1, noiseless: then u = n and S = k without any randomness."""
    return (1 - (weight + 2 * lr * k * (1 - weight * n) * n) * n) ** 2


@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_signs_in_one_dimension_have_no_randomness(evaluation):
    problem = Problem(3, 5, [1.0], feature_law="rademacher", evaluation=evaluation)
    found = estimate_risk(problem, 0.1, 1e-3, num_tasks=50, x64=True)
    assert found.mean == pytest.approx(exact_by_enumeration(3, 5, 1e-3, 0.1, evaluation), rel=1e-12)


@pytest.mark.parametrize(("name", "parameters"), [("rademacher", {}), ("student_t", {"dof": 40.0})])
def test_leading_order_holds_for_other_laws_of_the_features(name, parameters):
    """The error at d and 2 d, extrapolated to d = infinity, is 0; there is no exact risk to compare with."""
    errors, stderrs = [], []
    for seed, d in enumerate((40, 80)):
        pretraining, problem = make_shift(name, n=d, k=2 * d, d=d, **parameters)
        weights = pretrained_weights(pretraining)
        c = compare(problem, weights, num_tasks=800, seed=seed)
        assert c.exact is None
        assert c.z is None
        assert "needs Gaussian features" in c.reason
        errors.append(c.estimate.mean / c.asymptotic.at(c.lr) - 1)
        stderrs.append(c.estimate.stderr / c.asymptotic.at(c.lr))
        assert c.estimate.stderr_reliable
    assert abs(2 * errors[1] - errors[0]) < 4 * np.hypot(2 * stderrs[1], stderrs[0]) + 0.02


def test_heavy_tails_are_flagged_and_other_roads_are_refused():
    _, heavy = make_shift("student_t", **SIZES, dof=10.0)
    assert not estimate_risk(heavy, 0.1, 1e-3, num_tasks=100).stderr_reliable
    with pytest.raises(ValueError, match="sampler must be 'data' for the feature_law 'student_t', got 'law'"):
        estimate_risk(heavy, 0.1, 1e-3, num_tasks=10, sampler="law")
    with pytest.raises(ValueError, match="exact_risk needs Gaussian features, got feature_law 'student_t'"):
        exact_risk(heavy, 0.1)


def test_the_angle_to_the_spike_is_the_one_given():
    for angle in (0.0, 30.0, 90.0):
        _, problem = make_shift("spiked", **SIZES, angle=angle)
        assert problem.task[0] == pytest.approx(np.cos(np.deg2rad(angle)), abs=1e-12)


def test_reversed_is_what_aligned_is_not():
    pretraining, problem = make_shift("reversed", **SIZES, ratio=0.25)
    aligned, _ = make_shift("aligned", **SIZES, ratio=0.25)
    np.testing.assert_array_equal(pretraining.task_cov, aligned.task_cov[::-1])
    np.testing.assert_allclose(problem.task / problem.task[0], [1, 1, 1, 1, 0.25, 0.25, 0.25, 0.25])
    assert initial("reversed", ratio=0.25) > initial("aligned", ratio=0.25)


def test_spectra_fall_as_their_exponents_say_and_features_keep_their_mean_variance():
    pretraining, problem = make_shift("power_law", **SIZES, exponent=3.0, test_exponent=2.0)
    rank = np.arange(1, SIZES["d"] + 1)
    np.testing.assert_allclose(pretraining.task_cov / pretraining.task_cov[0], rank**-3.0)
    np.testing.assert_allclose(problem.task**2 / problem.task[0] ** 2, rank**-2.0)
    _, problem = make_shift("features", **SIZES, ratio=0.25)
    assert problem.feature_cov.mean() == pytest.approx(1)
    assert problem.feature_cov[-1] / problem.feature_cov[0] == pytest.approx(0.25)


def test_features_of_every_law_have_variance_1():
    """And their kurtosis: that of Student's t is 3 + 6/(dof - 4)."""
    number = 200_000
    for name, kurtosis in (("none", 3), ("rademacher", 1), ("student_t", 3 + 6 / 26)):
        _, problem = make_shift(name, **SIZES)
        scaled = jax.tree.map(jnp.asarray, scale_problem(problem, safe_units(problem), jnp.float32))
        entries = np.asarray(scaled.features(jax.random.key(0), (number,), jnp.float32), np.float64)
        for power, moment in ((1, 0), (2, 1), (4, kurtosis)):
            values = entries**power
            assert values.mean() == pytest.approx(moment, abs=4 * values.std() / number**0.5 + 1e-9)
