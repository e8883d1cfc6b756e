"""Monte Carlo of test-time training: samplers of one experiment, and the one driver that runs them all."""

from ttt_jax.simulation import folds, gradient_step, gradient_steps, prompts  # noqa: F401 (they register samplers)
from ttt_jax.simulation.estimate import Estimate, JointEstimate, estimate_curve, estimate_risk

__all__ = ["Estimate", "JointEstimate", "estimate_curve", "estimate_risk"]
