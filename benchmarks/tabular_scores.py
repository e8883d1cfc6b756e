"""Test accuracy of the bundled PFN beside classical methods on real tables: the scores of docs/model_card.md.

python -m benchmarks.tabular_scores --rows 64 --tables banana magic
"""

from __future__ import annotations

import argparse

import numpy as np

from experiments.fig3a import classical
from experiments.tables import NAMES, load
from ttt_jax.tabular import PFNClassifier


def main() -> None:
    """Print a row per table and the mean; every method is given the same first rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--members", type=int, default=32, help="n_estimators of the PFN")
    parser.add_argument("--seed", type=int, default=0, help="of the cut of the tables and of every method")
    parser.add_argument("--tables", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    print(f"{'':14}{'PFN':>8}{'logistic':>10}{'forest':>8}{'boosting':>10}")
    scores = []
    for name in options.tables:
        table, n = load(name, options.seed), options.rows
        methods = [
            PFNClassifier(options.weights, n_estimators=options.members, random_state=options.seed),
            *classical(options.seed).values(),
        ]
        scores.append([m.fit(table.X[:n], table.y[:n]).score(table.X_test, table.y_test) for m in methods])
        print("{:14}{:8.3f}{:10.3f}{:8.3f}{:10.3f}".format(name, *scores[-1]), flush=True)
    print("{:14}{:8.3f}{:10.3f}{:8.3f}{:10.3f}".format("mean", *np.mean(scores, axis=0)))


if __name__ == "__main__":
    main()
