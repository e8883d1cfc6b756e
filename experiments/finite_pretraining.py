"""After finite pretraining: the risk against the number of prompts, before and after a TTT step, and who wins.

Isotropic and noiseless, n = k = d, least-norm least squares on theta d^2 prompts of one query each. Top: dashed the
leading order, markers the exact risk of weights that were really trained, on average over several of them, bars two
standard errors. The risk has a peak where the prompts are as many as the entries of W; TTT flattens it. Below, left:
the k/d up to which trained weights beat W = 0 after the step, for two context lengths; at d, from the average risks of
the trained weights. They beat it nowhere for |theta - 1| < d/n. Right: how slowly the leading order is reached. In the
table, one W for each theta: simulated against its own exact risk, beside the leading order. Risks are in units of |b|^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.figure import Point, Result, run_cells
from ttt_jax import Pretraining, Problem, exact_risk, trained_weights
from ttt_jax._internal.progress import progress_bar
from ttt_jax.plotting import COLOURS, MARKERS, blank_figure
from ttt_jax.theory.finite_pretraining import finite_pretraining_risk, finite_pretraining_switch

RATIOS = 0.25, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0, 6.0
SWITCH_RATIOS = {1: (2.5, 3.0, 4.0, 6.0), 2: (0.25, 2.0, 3.0, 4.0, 6.0)}
CURVES = {"before TTT": "fresh", "after TTT, new context": "fresh", "after TTT, same context": "same"}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 24, "repeats": 12, "sizes": (8, 12, 16, 24), "normals": 1e8},
    "paper": {"d": 48, "repeats": 24, "sizes": (8, 12, 16, 24, 32, 48), "normals": 1e9},
}
