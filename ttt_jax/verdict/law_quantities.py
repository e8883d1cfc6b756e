"""What a claim may be about beyond the mean risk: the law of one prompt's risk, in closed form and from prompts."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from ttt_jax.theory.prompt_law import KnownLaw
from ttt_jax.verdict.quantities import ROUNDING

LAW_QUANTITIES = "variance", "prob_hurt", "quantile"

FEWEST = 10
"""Prompts expected on either side of a quantile, hurt or not, for their number to be judged as Gaussian."""

SHARE_ROUNDING, LEVEL_ROUNDING = 1e-7, 2e-4
"""Errors, generously, of a probability by quadrature, and of the level of a quantile of four chi-squares."""


def of_known_law(quantity: str, known: KnownLaw, level: float | None) -> tuple[float, float]:
    """The quantity in closed form and its rounding error; nan where it is not known."""
    if quantity == "quantile" and known.risks is not None:
        assert level is not None
        low, value, high = np.quantile(known.risks, np.clip(level + LEVEL_ROUNDING * np.array([-1, 0, 1]), 0, 1))
        return float(value), float(high - low) / 2 + ROUNDING * abs(float(value))
    if quantity == "variance" and known.var is not None:
        return known.var, ROUNDING * known.var
    if quantity == "prob_hurt" and known.prob_hurt is not None:
        return known.prob_hurt, SHARE_ROUNDING
    return math.nan, 0.0


def of_prompts(
    quantity: str, prompts: Float[np.ndarray, "T 2"], claimed: float, level: float | None
) -> tuple[float, float, bool | None]:
    """The quantity from risks before and after, its standard error, and whether that is reliable.

    A share has the standard error of a binomial count, the larger of that under the claim and that of the sample; a
    quantile half the distance of the order statistics one deviation of such a count around it, whatever the density is
    there; a variance that of the fourth moment, which nobody assesses.
    """
    before, after = prompts.T
    if quantity == "variance":
        return *variance_of_sample(after), None
    if quantity == "quantile":
        assert level is not None
        return *quantile_of_sample(after, level), len(after) * min(level, 1 - level) >= FEWEST
    share = float(np.mean(after > before))
    largest = max((p * (1 - p), min(p, 1 - p)) for p in (share, claimed))
    return share, math.sqrt(max(largest[0], 0.0) / len(after)), len(after) * largest[1] >= FEWEST


def variance_of_sample(risks: Float[np.ndarray, " T"]) -> tuple[float, float]:
    """The variance of independent risks and its standard error, from their fourth moment."""
    square = (risks - risks.mean()) ** 2
    return float(risks.var(ddof=1)), float(square.std() / math.sqrt(len(risks)))


def quantile_of_sample(risks: Float[np.ndarray, " T"], level: float) -> tuple[float, float]:
    """A quantile of independent risks and its standard error, from the order statistics one deviation around it."""
    off = math.sqrt(level * (1 - level) / len(risks))
    low, value, high = np.quantile(risks, np.clip([level - off, level, level + off], 0, 1))
    return float(value), float(high - low) / 2
