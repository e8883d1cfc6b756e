"""The bundled PFN, plain and after test-time training, beside classical methods, on real tables.

    python -m benchmarks.tabular_scores --out FILE.csv                                      19 tables of figure 3a
    python -m benchmarks.tabular_scores --out FILE.csv --tables development --ttt-rows 256  those for choices

Every method is given the same first rows of a table; the classical ones see a column per category. The file is given a
row for each table, seed, number of rows and method as it is computed, and a run that was interrupted goes on. Then
means and paired differences from the random forest, and of TTT from the plain network, are printed, with two standard
errors over tables (each table its mean over seeds); artificial tables, and one that another contains, are in no
difference.

The calibration error is the mean distance, over ten bins of the largest probability, between it and the accuracy there.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier

from experiments.classical import classical
from experiments.fig3a_report import left_out
from experiments.tables import NAMES, load
from ttt_jax.tabular import PFNClassifier, TTTClassifier
from ttt_jax.tabular.classical import coded
from ttt_jax.tabular.classify.scores import log_loss
from ttt_jax.tabular.pretraining.development import DEVELOPMENT_TABLES, Cut, cut

POOLS = {"figure-3a": NAMES, "development": DEVELOPMENT_TABLES}
SCORES = ("accuracy", "log_loss", "calibration_error")
REFERENCE = "random forest"


def cell(name: str, rows: int, seed: int) -> Cut:
    """At most that many rows of a table, and its test rows."""
    if name in DEVELOPMENT_TABLES:
        return cut(name, rows, seed)
    table = load(name, seed)
    return Cut(table.X[:rows], table.y[:rows], table.X_test, table.y_test, table.categorical)


def methods(weights: str, seed: int, ttt: bool, rates: list[float]) -> dict[str, Callable[[Cut], Any]]:
    """By name: what makes an unfitted classifier for a table."""

    def pfn(kind: type, table: Cut, **options: Any) -> Any:
        return kind(weights, random_state=seed, categorical_features=table.categorical or None, **options)

    def boosting(table: Cut) -> Any:
        small = HistGradientBoostingClassifier(min_samples_leaf=3, max_leaf_nodes=8, random_state=seed)
        return coded(small, [i for i in range(table.X.shape[1]) if i not in table.categorical], table.categorical)

    found: dict[str, Callable[[Cut], Any]] = {"plain": partial(pfn, PFNClassifier)}
    if ttt:
        found["TTT"] = partial(pfn, TTTClassifier)
    for rate in rates:
        found[f"TTT, rate {rate:g}"] = partial(pfn, TTTClassifier, learning_rate=rate)
    found["histogram boosting"] = boosting
    for name in classical(seed, columns=1, categorical=()):
        found[name] = lambda table, name=name: classical(seed, table.X.shape[1], table.categorical)[name]
    return found


def scores(model: Any, table: Cut) -> Float[np.ndarray, " 3"]:
    """`SCORES` on the test rows; the log-loss without classes that were not seen."""
    p = model.fit(table.X, table.y).predict_proba(table.X_test)
    known, surest = np.isin(table.y_test, model.classes_), p.max(1)
    hit = model.classes_[p.argmax(1)] == table.y_test
    loss = log_loss(p[known], np.searchsorted(model.classes_, table.y_test[known]), np.ones(p.shape[1]))
    bins = np.minimum((surest * 10).astype(int), 9)
    error = sum(abs((surest - hit)[bins == b].sum()) for b in range(10)) / len(hit)
    return np.array([hit.mean(), loss, error])


def read(file: Path) -> dict[tuple[str, int, int, str], Float[np.ndarray, " 3"]]:
    """Scores by table, seed, rows and method."""
    if not file.exists():
        return {}
    with file.open(newline="") as stream:
        return {
            (r["table"], int(r["seed"]), int(r["rows"]), r["method"]): np.array([float(r[s]) for s in SCORES])
            for r in csv.DictReader(stream)
        }


def compute(options: argparse.Namespace) -> None:
    """Append the cells that the file lacks."""
    done = read(options.out)
    with options.out.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if not stream.tell():
            writer.writerow(("table", "seed", "rows", "method", *SCORES, "cpu_seconds"))
        for seed in options.seeds:
            for name in options.names:
                for rows in options.rows:
                    wanted = methods(options.weights, seed, rows in options.ttt_rows, options.rates)
                    keys = {method: (name, seed, rows, method) for method in wanted}
                    if all(key in done for key in keys.values()):
                        continue
                    table = cell(name, rows, seed)
                    for method, make in wanted.items():
                        if (key := keys[method]) in done:
                            continue
                        started = time.process_time()
                        found = scores(make(table), table)
                        spent = time.process_time() - started
                        writer.writerow((*key, *(f"{score:.5f}" for score in found), f"{spent:.1f}"))
                        stream.flush()
                        print(f"{name:16}{seed}{rows:6} {method:22}" + "".join(f"{s:8.3f}" for s in found), flush=True)
                jax.clear_caches()  # compiled code of many shapes would exceed the number of memory maps of a process


def report(found: dict[tuple[str, int, int, str], Float[np.ndarray, " 3"]]) -> str:
    """Means over tables, and paired differences from the forest."""
    lines = []
    for rows in sorted({key[2] for key in found}):
        by_method: dict[str, dict[str, list[Any]]] = {}
        for (table, _, n, method), values in found.items():
            if n == rows:
                by_method.setdefault(method, {}).setdefault(table, []).append(values)
        shared = sorted(set.intersection(*(set(tables) for tables in by_method.values())))
        if REFERENCE not in by_method or not shared:
            continue
        artificial = left_out(set(shared))
        independent = np.array([table not in artificial for table in shared])
        means = {m: np.array([np.mean(tables[t], axis=0) for t in shared]) for m, tables in by_method.items()}
        lines += [
            "",
            f"At most {rows} rows: {len(shared)} tables, {independent.sum()} of them in the differences",
            f"{'':36}" + "".join(f"{score.replace('_', ' '):>20}" for score in SCORES),
        ]
        lines += [f"{m:36}" + "".join(f"{mean:20.4f}" for mean in values.mean(0)) for m, values in means.items()]
        pairs = [(method, REFERENCE) for method in means if method != REFERENCE]
        for method, other in [*pairs, *((method, "plain") for method in means if method.startswith("TTT"))]:
            less = (means[method] - means[other])[independent]
            halves = 2 * less.std(axis=0, ddof=1) / len(less) ** 0.5 if len(less) > 1 else np.full(3, np.nan)
            cells = (f"{mean:+.4f} ± {half:.4f}" for mean, half in zip(less.mean(0), halves, strict=True))
            lines.append(f"{f'{method} - {other}':36}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Compute, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="appended to")
    parser.add_argument("--tables", choices=POOLS, default="figure-3a")
    parser.add_argument("--names", nargs="+", metavar="TABLE", help="only these of them")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--ttt-rows", type=int, nargs="*", default=[1000], help="of these, with TTT (default: 1000)")
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="TTT with these learning rates, too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    pool = POOLS[options.tables]
    if unknown := [name for name in options.names or () if name not in pool]:
        parser.error(f"names: {unknown[0]!r} must be one of {', '.join(pool)}")
    options.names = options.names or pool
    compute(options)
    print(report(read(options.out)))


if __name__ == "__main__":
    main()
