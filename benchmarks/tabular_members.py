"""Which members an ensemble should have: accuracy and log-loss on the development tables, paired with one member's.

    python -m benchmarks.tabular_members --weights PATH --rows 64 --seeds 0 1 --out FILE.npz

A member is a coding of the columns (`ttt_jax.tabular.classify.codings`) and an order of the coded columns. The file
keeps the logits of single members for each table and seed, and an interrupted run continues; ensembles are put together
from them. Intervals are two standard errors over the tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.pipeline import make_union

from ttt_jax.tabular.classify.codings import components, plain, recoded
from ttt_jax.tabular.classify.ensemble import mean_probabilities
from ttt_jax.tabular.classify.estimators import PFNClassifier, load_weights
from ttt_jax.tabular.classify.scores import log_loss
from ttt_jax.tabular.network.pfn import PFN
from ttt_jax.tabular.network.v2 import Table
from ttt_jax.tabular.pretraining.development import DEVELOPMENT_TABLES, cut

_QUERIES, _TEMPERATURE = 200, 0.9
_ORDERS = {
    "plain": ("own", "reversed", "local 1", "local 2", "random 1", "random 2", "random 3", "random 4"),
    "recoded": ("own", "random 1", "random 2", "random 3"),
    "components": ("own", "random 1"),
    "both": ("own", "random 1"),  # plain columns, then components
}
_PLAIN, _RECODED = ([f"{key}, {order}" for order in _ORDERS[key]] for key in ("plain", "recoded"))
ENSEMBLES = {
    "plain, own order": _PLAIN[:1],
    "plain, reversed": _PLAIN[1:2],
    "plain, neighbours mixed": _PLAIN[2:3],
    "plain, random order": _PLAIN[4:5],
    "recoded": _RECODED[:1],
    "components": ["components, own"],
    "plain and components in one": ["both, own"],
    "2 plain": [_PLAIN[0], _PLAIN[4]],
    "5 plain": [_PLAIN[0], *_PLAIN[4:]],
    "8 plain": _PLAIN,
    "4 plain, 4 recoded": [_PLAIN[0], *_PLAIN[4:7], *_RECODED],
    "plain, recoded, plain, components": [_PLAIN[0], _RECODED[1], _PLAIN[4], "components, own"],
    "4 plain, 3 recoded, components": [_PLAIN[0], *_PLAIN[4:7], *_RECODED[1:], "components, random 1"],
    "3 plain, 3 recoded, 2 components": [
        _PLAIN[0],
        *_PLAIN[4:6],
        *_RECODED[1:],
        "components, own",
        "components, random 1",
    ],
}
Cell = dict[str, np.ndarray]


def order_of(name: str, width: int, rng: np.random.Generator) -> Int[np.ndarray, " P"]:
    """Of the columns; `local` moves them by at most two places."""
    own = np.arange(width)
    kind = name.split()[0]
    by_kind = {"own": own, "reversed": own[::-1], "local": np.argsort(own + rng.uniform(0, 3, width))}
    return by_kind[kind] if kind in by_kind else rng.permutation(width)


def logits_of(weights: PFN, name: str, rows: int, seed: int) -> Cell:
    """Of every coding's members; and the answers, -1 for classes that the rows do not have."""
    table = cut(name, rows, seed)
    model = PFNClassifier(weights, n_estimators=1, categorical_features=table.categorical or None).fit(table.X, table.y)
    pfn, X, labels = model.pfn_, model.ensemble_.X, model.ensemble_.labels
    queries = model._features(table.X_test)
    rng, found = np.random.default_rng(seed), {}
    codings = {"plain": plain(), "recoded": recoded(X, model._is_categorical()), "components": components(*X.shape)}
    codings["both"] = make_union(plain(), components(*X.shape))
    for key, coding in codings.items():
        context, asked = coding.fit(X, labels).transform(X), coding.transform(queries)
        for how in _ORDERS[key]:
            order, ranks = order_of(how, context.shape[1], rng), rng.permutation(len(model.classes_))
            padded = _padded(pfn.pad(context[:, order], ranks[labels], asked[:, order]), rows)
            found[f"{key}, {how}"] = np.asarray(pfn.apply_table(padded))[: len(queries), ranks]
    known = np.isin(table.y_test, model.classes_)
    found["answers"] = np.where(known, np.searchsorted(model.classes_, table.y_test), -1)
    return found


def _padded(table: Table, rows: int) -> Table:
    """To one number of rows for all tables, so that they share compilations."""
    more, queries = (max(0, most - len(x)) for most, x in ((rows, table.x_context), (_QUERIES, table.x_query)))
    return table._replace(
        x_context=np.pad(table.x_context, ((0, more), (0, 0))),
        y_context=np.pad(table.y_context, (0, more)),
        is_context=np.pad(table.is_context, (0, more)),
        x_query=np.pad(table.x_query, ((0, queries), (0, 0))),
        is_query=np.pad(table.is_query, (0, queries)),
    )


def scores(cells: dict[str, Cell], ensemble: list[str]) -> Float[np.ndarray, "tables 2"]:
    """Accuracy and log-loss on each table, the mean over its seeds; the log-loss without classes that were not seen."""
    by_table: dict[str, list[tuple[float, float]]] = {}
    for key, cell in cells.items():
        p, answers = mean_probabilities(np.stack([cell[m] for m in ensemble]), _TEMPERATURE), cell["answers"]
        known = answers >= 0
        loss = log_loss(p[known], answers[known], np.ones(p.shape[1]))
        by_table.setdefault(key.split("|")[0], []).append((float((p.argmax(1) == answers).mean()), loss))
    return np.array([np.mean(of_seeds, axis=0) for of_seeds in by_table.values()])


def main() -> None:
    """Compute the cells that the file lacks, and print a line per ensemble."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    pfn = load_weights(options.weights)
    arrays = dict(np.load(options.out)) if options.out.exists() else {}
    names = [f"{name}|{seed}" for seed in options.seeds for name in DEVELOPMENT_TABLES]
    for name in names:
        if f"{name}|answers" not in arrays:
            table, seed = name.split("|")
            arrays |= {f"{name}|{key}": v for key, v in logits_of(pfn, table, options.rows, int(seed)).items()}
            np.savez(options.out, **arrays)
    cells: dict[str, Cell] = {}
    for key, array in arrays.items():
        name, member = key.rsplit("|", 1)
        if name in names:
            cells.setdefault(name, {})[member] = array
    one = scores(cells, ENSEMBLES["plain, own order"])
    for label, ensemble in ENSEMBLES.items():
        found = scores(cells, ensemble)
        error = 2 * (found - one).std(0, ddof=1) / len(found) ** 0.5
        text = (
            f"{m:.4f} ({d:+.4f} ± {e:.4f})" for m, d, e in zip(found.mean(0), (found - one).mean(0), error, strict=True)
        )
        print(f"{label:36}accuracy {next(text)}  log-loss {next(text)}")


if __name__ == "__main__":
    main()
