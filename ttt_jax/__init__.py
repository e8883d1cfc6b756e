"""Test-time training of linear transformers: expected risk exactly, asymptotically and by Monte Carlo, in JAX."""

from ttt_jax.problem import GaussianTasks, Pretraining, Problem
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.shifts import SHIFTS, make_shift
from ttt_jax.simulation.driver import Estimate, estimate_risk
from ttt_jax.simulation.folds import estimate_folds
from ttt_jax.simulation.trajectory import Trajectory, estimate_trajectory
from ttt_jax.theory.exact import exact_risk
from ttt_jax.theory.leading_order import asymptotic_risk
from ttt_jax.theory.pretrained import pretrained_weights
from ttt_jax.training.models import LinearAttention, Prompt, TokenLinearAttention, functional
from ttt_jax.training.pretraining import pretrain
from ttt_jax.training.prompts import fold_prompts
from ttt_jax.training.steps import ttt_loss, ttt_step, ttt_train
from ttt_jax.verdict.claim import check
from ttt_jax.verdict.comparison import Comparison, agreement_table, compare, family_verdict

__version__ = "0.1.0"

__all__ = [
    "SHIFTS",
    "Comparison",
    "Estimate",
    "GaussianTasks",
    "LinearAttention",
    "Pretraining",
    "Problem",
    "Prompt",
    "RiskCurve",
    "TokenLinearAttention",
    "Trajectory",
    "agreement_table",
    "asymptotic_risk",
    "check",
    "compare",
    "estimate_folds",
    "estimate_risk",
    "estimate_trajectory",
    "exact_risk",
    "family_verdict",
    "fold_prompts",
    "functional",
    "make_shift",
    "pretrain",
    "pretrained_weights",
    "ttt_loss",
    "ttt_step",
    "ttt_train",
]
