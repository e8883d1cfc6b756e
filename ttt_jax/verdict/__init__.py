"""Theory against simulation: comparisons, claims on trial, and the rule that decides."""

from ttt_jax.verdict.agreement import Verdict, agreement_table, family_verdict, judge
from ttt_jax.verdict.comparison import Comparison, compare

__all__ = ["Comparison", "Verdict", "agreement_table", "compare", "family_verdict", "judge"]
