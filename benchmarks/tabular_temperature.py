"""How a temperature should be fitted to few held-out rows, on the development tables.

    python -m benchmarks.tabular_members --rows 256 --seeds 0 --out FILE.npz
    python -m benchmarks.tabular_temperature FILE.npz --rows 13 25 50

Of each table's test rows some, chosen at random, are held out to fit the temperature of the four default members, and
the log-loss of the others is compared with that at the usual temperature: the mean over tables, and what 95% of the
choices stay below. Rules: the least log-loss, and log-normal priors about the usual temperature. A table takes part if
half of its test rows are left.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from benchmarks.tabular_members import ENSEMBLES
from ttt_jax.tabular.classify.ensemble import mean_probabilities
from ttt_jax.tabular.classify.scores import row_losses

_USUAL, _CHOICES = 0.9, 200
_TEMPERATURES = _USUAL * 2.0 ** np.linspace(-1.5, 1.5, 37)
_PRIORS = {"least log-loss": np.inf, "prior, sd 0.1": 0.1, "prior, sd 0.2": 0.2, "prior, sd 0.3": 0.3}


def losses_of(logits: Float[np.ndarray, "members M C"], answers: np.ndarray) -> Float[np.ndarray, "temperatures M"]:
    """Of each row at each temperature."""
    known = answers >= 0
    weights = np.ones(logits.shape[2])
    return np.array(
        [row_losses(mean_probabilities(logits[:, known], t), answers[known], weights) for t in _TEMPERATURES]
    )


def changes(losses: Float[np.ndarray, "temperatures M"], rows: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Of the other rows' log-loss, by rule, for each random choice of held-out rows."""
    found: dict[str, list[float]] = {rule: [] for rule in _PRIORS}
    usual = len(_TEMPERATURES) // 2
    for _ in range(_CHOICES):
        held_out, others = np.split(rng.permutation(losses.shape[1]), [rows])
        gains = losses[:, others].mean(1) - losses[usual, others].mean()
        for rule, deviation in _PRIORS.items():
            surprise = losses[:, held_out].sum(1) + 0.5 * (np.log(_TEMPERATURES / _USUAL) / deviation) ** 2
            found[rule].append(float(gains[surprise.argmin()]))
    return found


def main() -> None:
    """Print a line per rule and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="of benchmarks.tabular_members")
    parser.add_argument("--rows", type=int, nargs="+", default=[13, 25, 50])
    options = parser.parse_args()
    arrays, rng = dict(np.load(options.file)), np.random.default_rng(0)
    cells = sorted({key.rpartition("|")[0] for key in arrays})
    members = ENSEMBLES["plain, recoded, plain, components"]
    by_cell = [
        losses_of(np.stack([arrays[f"{cell}|{m}"] for m in members]), arrays[f"{cell}|answers"]) for cell in cells
    ]
    for rows in options.rows:
        tables = [changes(losses, rows, rng) for losses in by_cell if losses.shape[1] >= 2 * rows]
        for rule in _PRIORS:
            values = np.array([table[rule] for table in tables])
            mean, worst = values.mean(), np.quantile(values, 0.95)
            print(f"{rows:5} held-out rows, {len(tables):2} tables  {rule:16}{mean:+8.4f}{worst:+8.4f}")


if __name__ == "__main__":
    main()
