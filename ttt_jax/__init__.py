"""Test-time training of linear transformers: expected risk exactly, asymptotically and by Monte Carlo, in JAX."""

from ttt_jax._internal.imports import one_line_interrupt

with one_line_interrupt():
    from ttt_jax.problem import (
        LINKS,
        GaussianTasks,
        Inference,
        NotApplicable,
        Pretraining,
        Problem,
        SingleIndex,
        SparseTasks,
    )
    from ttt_jax.procedures import Folds, GradientStep, GradientSteps, Optimizer
    from ttt_jax.risk_curve import RiskCurve, RiskPath
    from ttt_jax.shifts import SHIFTS, make_shift
    from ttt_jax.simulation import Estimate, JointEstimate, estimate_curve, estimate_risk
    from ttt_jax.theory import asymptotic_risk, exact_map, exact_risk, pretrained_weights
    from ttt_jax.training.catalogue import MODELS, make_model
    from ttt_jax.training.lora import lora
    from ttt_jax.training.models import LinearAttention, Prompt, TokenLinearAttention, functional
    from ttt_jax.training.pretraining import pretrain
    from ttt_jax.training.prompts import fold_prompts
    from ttt_jax.training.regression import trained_weights
    from ttt_jax.training.steps import ttt_loss, ttt_step, ttt_train
    from ttt_jax.verdict import Comparison, Verdict, agreement_table, compare, family_verdict, judge
    from ttt_jax.verdict.claim import check
    from ttt_jax.verdict.outcome import Check, CheckRow
    from ttt_jax.verdict.risk_law import RiskLaw, risk_law
    from ttt_jax.verdict.stated import Claim
    from ttt_jax.verdict.yardsticks import Yardstick, yardsticks

__version__ = "0.2.0"

__all__ = [
    "LINKS",
    "MODELS",
    "SHIFTS",
    "Check",
    "CheckRow",
    "Claim",
    "Comparison",
    "Estimate",
    "Folds",
    "GaussianTasks",
    "GradientStep",
    "GradientSteps",
    "Inference",
    "JointEstimate",
    "LinearAttention",
    "NotApplicable",
    "Optimizer",
    "Pretraining",
    "Problem",
    "Prompt",
    "RiskCurve",
    "RiskLaw",
    "RiskPath",
    "SingleIndex",
    "SparseTasks",
    "TokenLinearAttention",
    "Verdict",
    "Yardstick",
    "agreement_table",
    "asymptotic_risk",
    "check",
    "compare",
    "estimate_curve",
    "estimate_risk",
    "exact_map",
    "exact_risk",
    "family_verdict",
    "fold_prompts",
    "functional",
    "judge",
    "lora",
    "make_model",
    "make_shift",
    "pretrain",
    "pretrained_weights",
    "risk_law",
    "trained_weights",
    "ttt_loss",
    "ttt_step",
    "ttt_train",
    "yardsticks",
]
