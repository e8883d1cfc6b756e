"""One module per claim: its docstring states it, CLAIM checks it."""

NAMES = (
    "proposition_3_1",
    "pretrained_optimum",
    "lemma_b2",
    "proposition_4_1",
    "theorem_4_2",
    "theorem_4_2_unsimplified",
    "corollary_4_4",
    "theorem_4_5",
    "corollary_4_6",
    "proposition_5_2",
    "proposition_5_2_exact",
    "theorem_5_3",
    "theorem_c4",
    "corollary_5_4",
    "lemma_c1",
    "sample_complexity",
    "law_identity",
    "quadratic_moments",
    "exact_risk",
    "exact_risk_same",
    "random_tasks",
    "leading_order",
    "leading_order_same",
    "several_steps",
)
"""The modules, in the order of the report."""
