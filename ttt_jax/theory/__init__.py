"""Closed forms: the exact and the leading-order risk, the paper's results by number, decisions drawn from them."""

from ttt_jax.theory import exact, folds, leading_order, schedules  # noqa: F401 (they register their formulas)
from ttt_jax.theory.maps import exact_map
from ttt_jax.theory.pretrained import pretrained_weights
from ttt_jax.theory.risk import asymptotic_risk, exact_risk

__all__ = ["asymptotic_risk", "exact_map", "exact_risk", "pretrained_weights"]
