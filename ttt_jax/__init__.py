"""Test-time training of linear transformers: expected risk exactly, asymptotically and by Monte Carlo, in JAX."""

import sys

try:
    from ttt_jax.asymptotic import asymptotic_risk
    from ttt_jax.check import check
    from ttt_jax.compare import Comparison, agreement_table, compare, family_verdict
    from ttt_jax.curve import RiskCurve
    from ttt_jax.estimate import Estimate, estimate_risk
    from ttt_jax.exact import exact_risk
    from ttt_jax.folds import estimate_folds
    from ttt_jax.models import LinearAttention, Prompt, TokenLinearAttention, functional
    from ttt_jax.pretrain import pretrain, pretrained_weights
    from ttt_jax.problem import GaussianTasks, Pretraining, Problem
    from ttt_jax.shifts import SHIFTS, make_shift
    from ttt_jax.trajectory import Trajectory, estimate_trajectory
    from ttt_jax.ttt import fold_prompts, ttt_loss, ttt_step, ttt_train
except KeyboardInterrupt:  # the imports are most of a command's first second
    if sys.argv[0] != "-m" and not sys.argv[0].endswith("/ttt-jax"):
        raise
    print("ttt-jax: interrupted", file=sys.stderr)
    sys.exit(130)

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
