"""The learning rate of test-time training when the context is short, on five development tables.

    python -m benchmarks.tabular_short_contexts                     n = 1 and 8, 12 core-minutes

The accuracy of 100 updates of one member of the ensemble for multiples of the classifier's usual rate: what
`experiments.fig3a.rate_factor` was chosen by.
"""

from __future__ import annotations

import argparse

import jax
import numpy as np

from ttt_jax.tabular import TTTClassifier
from ttt_jax.tabular.classify.estimators import load_weights
from ttt_jax.tabular.classify.ttt_classifier import usual_rate
from ttt_jax.tabular.pretraining.development import cut

TABLES = ("german", "mammographic", "pima", "vehicle", "vowel")
FACTORS = (0.5, 1, 2, 4)


def main() -> None:
    """Print a line per table and n, the plain network first, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    usual = usual_rate(load_weights("default"))
    print(f"{'n':>4} {'table':14}{'plain':>8}" + "".join(f"{f'rate x {f:g}':>12}" for f in FACTORS))
    for n in options.contexts:
        accuracies = []
        for name in TABLES:
            table = cut(name, 1000, 0)
            shared = {"n_context": n, "n_estimators": 1, "categorical_features": table.categorical or None}
            models = [TTTClassifier(mode="none", **shared)]
            models += [TTTClassifier(steps=100, learning_rate=f * usual, batch_size=64, **shared) for f in FACTORS]
            accuracies.append([model.fit(table.X, table.y).score(table.X_test, table.y_test) for model in models])
            print(line(n, name, accuracies[-1]), flush=True)
            jax.clear_caches()  # compiled code of many shapes would exceed the number of memory maps of a process
        print(line(n, "mean", np.mean(accuracies, 0)), flush=True)


def line(n: int, name: str, accuracies) -> str:
    return f"{n:>4} {name:14}{accuracies[0]:>8.3f}" + "".join(f"{a:>12.3f}" for a in accuracies[1:])


if __name__ == "__main__":
    main()
