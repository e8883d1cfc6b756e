"""Can tables of the prior be learnt? `python -m experiments.prior_learnability --out DIR`.

For each kind of table: accuracy of logistic regression and of a random forest fitted on 64 rows (and of the forest on
384), beside that of the most frequent class, on 256 other rows; and how often either is ahead of the other.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ttt_jax._internal.command import OneLineParser
from ttt_jax.tabular.pretraining.prior import KINDS, PriorConfig, Tables, host_tables, sample_tables

CONTEXT, MOST_CONTEXT, QUERIES, FEATURES = 64, 384, 256, 16
_SEED = 2**31  # no run of pretraining has it


def accuracies(x: Float[np.ndarray, "R F"], y: Int[np.ndarray, " R"]) -> tuple[float, float, float, float]:
    """Of the most frequent class, logistic regression, and the forest, on 64 rows, and of the forest on 384."""
    x_query, y_query = x[-QUERIES:], y[-QUERIES:]
    majority = np.bincount(y[:CONTEXT]).argmax()
    scores = [float((y_query == majority).mean())]
    models = [(CONTEXT, LogisticRegression(max_iter=500))]
    models += [(rows, RandomForestClassifier(50, random_state=0)) for rows in (CONTEXT, MOST_CONTEXT)]
    for rows, model in models:
        if len(set(y[:rows])) == 1:
            scores.append(scores[0])
            continue
        pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), model)
        scores.append(float(pipeline.fit(x[:rows], y[:rows]).score(x_query, y_query)))
    return scores[0], scores[1], scores[2], scores[3]


def one_kind(kind: str, config: PriorConfig) -> PriorConfig:
    """The same prior with tables of one kind only."""
    return replace(config, **{name: float(name == kind) for name in KINDS})


def drawn(config: PriorConfig, tables: int, on_device: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tables without their padding."""
    rows = MOST_CONTEXT + QUERIES
    if on_device:
        key = jax.random.key(_SEED, impl="threefry2x32")
        batch: Tables = jax.device_get(sample_tables(key, config, tables, rows, FEATURES))
    else:
        batch = host_tables(config, _SEED, 0, tables, rows, FEATURES)
    for x, y, num_features in zip(*batch, strict=True):
        yield x[:, :num_features], y


def summary(kind: str, tables: int, on_device: bool) -> dict[str, str | int | float]:
    """One row of the result."""
    scores = np.array([accuracies(x, y) for x, y in drawn(one_kind(kind, PriorConfig()), tables, on_device)])
    names = ("majority", "logistic_64", "forest_64", "forest_384")
    means = {name: round(float(mean), 3) for name, mean in zip(names, scores.mean(0), strict=True)}
    ahead = {
        "forest_ahead": round(float((scores[:, 2] > scores[:, 1]).mean()), 3),
        "logistic_ahead": round(float((scores[:, 1] > scores[:, 2]).mean()), 3),
    }
    return {"kind": kind, "path": "device" if on_device else "host", "tables": tables, **means, **ahead}


def main(argv: list[str] | None = None) -> int:
    """Print the table; write prior_learnability.csv."""
    parser = OneLineParser(prog="python -m experiments.prior_learnability", description=__doc__)
    parser.add_argument("--tables", type=int, default=100, help="of each kind (default: 100)")
    parser.add_argument("--device", action="store_true", help="tables of the JAX path, with its stand-ins for fits")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="default: all")
    parser.add_argument("--out", type=Path, help="directory for prior_learnability.csv (default: none is written)")
    arguments = parser.parse_args(argv)
    if arguments.tables < 1:
        parser.error(f"--tables must be an integer >= 1, got {arguments.tables}")
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for kind in arguments.kinds:
            rows.append(summary(kind, arguments.tables, arguments.device))
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with (arguments.out / "prior_learnability.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
