import numpy as np
import optax
import pytest

from ttt_jax import Folds, GradientStep, GradientSteps, Optimizer, RiskCurve, RiskPath


def test_the_risk_after_a_procedure_is_at_its_step_size_or_at_the_optimum():
    curve = RiskCurve(1.0, 4.0, 8.0)
    for procedure in (0.5, GradientStep(0.5), Folds(2, 0.5)):
        assert curve.after(procedure) == curve.at(0.5) == 1.0
    for procedure in ("optimal", GradientStep(), Folds(2)):
        assert curve.after(procedure) == curve.optimal == 0.5
    for procedure in (GradientSteps([0.5, 0.5]), Optimizer(optax.sgd(0.5), 2)):
        with pytest.raises(ValueError, match="procedure must have one step size, got"):
            curve.after(procedure)
    np.testing.assert_array_equal(curve.at([0.0, 0.25]), [1.0, 0.5])


@pytest.mark.parametrize(("c1", "c2"), [(-1.0, 2.0), (0.0, 2.0), (0.0, 0.0)])
def test_where_no_step_helps_the_best_is_none(c1, c2):
    curve = RiskCurve(3.0, c1, c2)
    assert (curve.optimal_lr, curve.largest_improving_lr, curve.optimal) == (0.0, 0.0, 3.0)


def test_risks_that_overflow_are_not_finite():
    assert RiskCurve(1.0, 1.0, 1.0).at(1e200) == np.inf
    assert np.isnan(RiskCurve(np.nan, 1.0, 1.0).at(1.0))


def test_standard_error_of_a_step_size():
    draws = np.random.default_rng(0).normal(size=(50, 3))
    curve = RiskCurve(*draws.mean(axis=0), np.cov(draws, rowvar=False) / 50)
    risks = draws @ [1.0, -0.3, 0.09]
    assert curve.stderr(0.3) == pytest.approx(risks.std(ddof=1) / np.sqrt(50))
    assert RiskCurve(1.0, 1.0, 1.0).stderr(0.3) == 0.0


def test_a_path_is_read_at_its_ends():
    path = RiskPath(np.array([1.0, 0.5, 0.4]))
    assert (path.initial, path.final, path.after()) == (1.0, 0.4, 0.4)
