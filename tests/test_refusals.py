"""Wrong values given to the public functions are refused in one line that says what would be right."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ttt_jax as ttt
from ttt_jax.theory.prompt_law import four_chi_squares, prob_hurt, same_context_moments
from ttt_jax.theory.prompt_step import prompt_step_size
from ttt_jax.theory.schedules import wishart_moments
from ttt_jax.theory.several_steps import one_batch_risk

PROBLEM = ttt.Problem(4, 6, [0.6, 0.8], evaluation="same")
LAW = ttt.risk_law(PROBLEM, 0.01, 1e-3, num_tasks=10)
CURVE = ttt.RiskCurve(1.0, 4.0, 8.0)
MODEL, PARAMS = ttt.functional(ttt.LinearAttention(jnp.zeros((1, 1))))
PROMPT = ttt.Prompt(jnp.ones((2, 1)), jnp.ones(2), jnp.ones((1, 1)), jnp.ones(1))


def one_claim(**options):
    return ttt.check(lambda n: n, [PROBLEM], **({"start": "zero", "procedure": 1e-3, "num_tasks": 0} | options))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: ttt.Problem(4, 6, [1.0], feature_law=np.ones(2)),
            "feature_law must be one of .*, got array",
        ),
        (
            lambda: ttt.Problem(4, 6, [1.0], feature_cov=np.ones((0, 0))),
            "feature_cov must not be empty, got shape",
        ),
        (lambda: ttt.Inference(feature_cov=[]), r"feature_cov must not be empty, got shape \(0,\)"),
        (lambda: ttt.GradientStep(left=[]), r"left must not be empty, got shape \(0,\)"),
        (lambda: ttt.Optimizer(optax.sgd(0.1), 2, held_out=None), "held_out must be an integer >= 0, got None"),
        (lambda: ttt.Folds(np.ones((30, 30))), r"folds must be an integer >= 2, got array\(\[\[1., .*\.\.\.$"),
        (lambda: ttt.Problem(np.float64(2.5), 6, [1.0]), "n must be an integer >= 1, got 2.5$"),
        (lambda: CURVE.at("p"), "lr must be an array of real numbers, got values of type <U1"),
        (lambda: CURVE.at(None), "lr must be an array of real numbers, got values of type object"),
        (lambda: CURVE.stderr(None), "lr must be a finite number, got None"),
        (lambda: ttt.exact_risk(PROBLEM, 0.0, num_tasks="p"), "num_tasks must be an integer >= 1, got 'p'"),
        (lambda: ttt.asymptotic_risk(PROBLEM, 0.0, seed=-1), "seed must be an integer >= 0, got -1"),
        (
            lambda: ttt.exact_risk(PROBLEM, 1e300, ttt.GradientSteps([0.1])),
            "the risk overflows float64",
        ),
        (
            lambda: ttt.compare(PROBLEM, 0.0, 1e300),
            "the risk after GradientStep.* overflows float64: lower",
        ),
        (
            lambda: ttt.compare(PROBLEM, 0.0, ttt.GradientSteps([1e300])),
            "the risk after GradientSteps.* overflows",
        ),
        (lambda: ttt.compare(PROBLEM, 0.0, num_tasks=None), "num_tasks must be an integer >= 0, got None"),
        (lambda: ttt.compare(PROBLEM, 0.0, num_tasks=0, seed="p"), "seed must be an integer >= 0, got 'p'"),
        (lambda: ttt.risk_law(PROBLEM, 0.0, 1e300), r"the risk after GradientStep\(lr=1e\+300, .* overflows float64"),
        (lambda: LAW.cdf("p"), "x must be an array of real numbers, got values of type <U1"),
        (lambda: LAW.quantile({}), "q must be an array of real numbers, got values of type object"),
        (lambda: LAW.quantile(1.0), "q must be between 0 and 1, got 1.0"),
        (lambda: LAW.stderr("quantile", "p"), "at must be a finite number, got 'p'"),
        (lambda: LAW.stderr("cdf", np.nan), "at must be a finite number, got nan"),
        (lambda: ttt.yardsticks(PROBLEM, "p"), "pretraining must be a Pretraining, got 'p'"),
        (lambda: ttt.yardsticks(PROBLEM, num_draws=0, seed=-1), "seed must be an integer >= 0, got -1"),
        (lambda: ttt.pretrained_weights(PROBLEM), "pretraining must be a Pretraining, got Problem"),
        (lambda: ttt.trained_weights(None, 3), "pretraining must be a Pretraining, got None"),
        (lambda: ttt.pretrain(MODEL, PARAMS, "p"), "pretraining must be a Pretraining, got 'p'"),
        (
            lambda: ttt.exact_map(4, 6, d=2, weight=1e300),
            r"the risk overflows float64, with values up to 1e\+300",
        ),
        (lambda: ttt.exact_map([], 6, d=2), r"n must not be empty, got shape \(0,\)"),
        (lambda: ttt.make_shift(np.ones(2), n=4, k=4, d=2), "shift must be one of none, .*, got array"),
        (lambda: ttt.check(lambda n: n, None), "problems must be a sequence of Problem, got None"),
        (lambda: one_claim(num_tasks=None), "num_tasks must be an integer >= 0, got None"),
        (lambda: one_claim(procedure=1e300), r"the risk after GradientStep\(lr=1e\+300, .* overflows float64"),
        (lambda: ttt.ttt_loss(None, PARAMS, PROMPT), r"model must be a function of \(params, prompt\), got None"),
        (lambda: ttt.ttt_loss(MODEL, PARAMS, "p"), "prompt must be a Prompt, got 'p'"),
        (lambda: ttt.ttt_step(MODEL, PARAMS, PROMPT, "fast"), "lr must be a number, got 'fast'"),
        (lambda: ttt.ttt_step(MODEL, PARAMS, PROMPT, np.ones(2)), "lr must be a number, got array"),
        (lambda: ttt.family_verdict([1.0], level=2), "level must be between 0 and 1, got 2"),
        (lambda: ttt.family_verdict("p"), "zs must be an array of real numbers, got values of type <U1"),
        (lambda: ttt.family_verdict(1.0), "zs must be a sequence of numbers, got 1.0"),
        (lambda: ttt.judge("p"), "rows must be dictionaries with z, stderr_reliable, got 'p'"),
        (lambda: ttt.judge([{"z": 1.0}]), "rows must be dictionaries with z, stderr_reliable, got {'z': 1.0}"),
        (lambda: ttt.agreement_table([], "verdict"), "rows must not be empty"),
        (
            lambda: ttt.agreement_table([{"z": 1.0}, {"y": 1.0}], "verdict"),
            "rows must be dictionaries with z, got",
        ),
        (lambda: prob_hurt(12, 18, "p", 1e-4), "d must be a finite number, got 'p'"),
        (lambda: prob_hurt(12, 18, 0.5, 1e-4), "d must be a number >= 1, got 0.5"),
        (lambda: four_chi_squares(12, 18, 8, 0.04, None), "rate must be a finite number, got None"),
        (lambda: same_context_moments(0, 18, [1.0], 0.04, 1e-5), "n must be positive, got 0"),
        (lambda: wishart_moments(4, None, 3), "d must be an integer >= 1, got None"),
        (lambda: one_batch_risk(PROBLEM, 1e300, [0.1]), r"the risk overflows float64, with values up to 1e\+300"),
        (
            lambda: prompt_step_size(1e300, [[1.0]], [1.0], [[1.0]], [1.0]),
            r"the step size overflows float64, with \|u\|\^2 \|v\|\^2 = inf: scale the prompt down",
        ),
    ],
)
def test_one_line_says_what_would_be_right(ask, message):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        ask()
    assert "\n" not in str(error.value)
