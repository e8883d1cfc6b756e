"""What predictions of held-out rows are worth, and the temperature that makes them worth most."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score

from ttt_jax.tabular.classify.ensemble import mean_probabilities

METRICS = ("log_loss", "accuracy", "balanced_accuracy", "roc_auc")
_LEAST_PROBABILITY = 1e-7
_TEMPERATURES = 2.0 ** np.linspace(-1, 2, 25)
_PRIOR_OF_LOG_TEMPERATURE = 0.3  # standard deviation about the usual one; by the development tables


def log_loss(
    probabilities: Float[np.ndarray, "M C"], labels: Int[np.ndarray, " M"], class_weights: Float[np.ndarray, " C"]
) -> float:
    """Mean of -log p of the true class, rows weighted by it; probabilities below 1e-7 count as that."""
    return float(row_losses(probabilities, labels, class_weights).mean())


def row_losses(
    probabilities: Float[np.ndarray, "M C"], labels: Int[np.ndarray, " M"], class_weights: Float[np.ndarray, " C"]
) -> Float[np.ndarray, " M"]:
    """What the log-loss is the mean of."""
    of_label, weights = probabilities[np.arange(len(labels)), labels], class_weights[labels]
    return -np.log(np.maximum(of_label, _LEAST_PROBABILITY)) * weights / weights.mean()


def metric(name: str, probabilities: Float[np.ndarray, "M C"], labels: Int[np.ndarray, " M"]) -> float:
    """One of `METRICS` but the log-loss; the ROC AUC is the mean over the classes that occur."""
    if name == "roc_auc":
        classes = [c for c in range(probabilities.shape[1]) if 0 < (labels == c).sum() < len(labels)]
        return float(np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in classes] or [0.5]))
    predicted = probabilities.argmax(1)
    if name == "accuracy":
        return float((predicted == labels).mean())
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))


def fitted_temperature(
    logits: Float[np.ndarray, "members M C"],
    class_weights: Float[np.ndarray, " C"],
    labels: Int[np.ndarray, " M"],
    usual: float,
) -> float:
    """The most probable temperature: log-loss on held-out rows, and a log-normal prior about `usual` for few rows."""

    def surprise(temperature: float) -> float:
        losses = row_losses(mean_probabilities(logits, temperature, class_weights), labels, class_weights)
        return float(losses.sum()) + 0.5 * (np.log(temperature / usual) / _PRIOR_OF_LOG_TEMPERATURE) ** 2

    return float(min((usual, *_TEMPERATURES), key=surprise))
