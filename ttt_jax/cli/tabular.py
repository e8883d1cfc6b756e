"""`ttt-jax tabular TABLE.csv --target COLUMN`: what a PFN, test-time training and a baseline make of a table."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ttt_jax._internal.plural import counted
from ttt_jax._internal.validate import positive_integer

MOST_DEMONSTRATIONS, MOST_TEST_ROWS = 10_000, 5_000
_TEXT_VALUES = 100  # a column of more different strings than this, and than half its rows, is text

DESCRIPTION = f"""Split a table into demonstrations and test rows, 80 to 20 and by class, and compare on the test rows:
the PFN that reads a context of n demonstrations, the same after test-time training on all of them, and logistic
regression and a random forest fitted to all of them. Of a large table a random choice of {MOST_DEMONSTRATIONS:,}
demonstrations and {MOST_TEST_ROWS:,} test rows is used. Log-loss counts a probability below 1e-7 as 1e-7."""

MODES_HELP = """none: the plain PFN only; one: one step of gradient descent; few: 30 updates of AdamW (default);
full: 50 for every context that the demonstrations fill"""

PREDICTIONS_HELP = """write the last PFN's predictions of the test rows, in random order: row (0 is the first
after the header; sort by it), label, prediction and for each class its probability p(CLASS)"""

EXAMPLES = """examples:
  ttt-jax tabular wine.csv --target quality
  ttt-jax tabular wine.csv --target quality --context 32 --ttt full --predictions out.csv
"""


def add_tabular_command(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser(
        "tabular",
        help="classify a table with a PFN, before and after test-time training",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", metavar="TABLE", help="a .csv file with a header; .parquet where pyarrow is installed")
    parser.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict: 2 to 10 classes")
    parser.add_argument("--drop", nargs="+", default=[], metavar="COLUMN", help="columns to leave out")
    parser.add_argument(
        "--context", type=int, metavar="N", help="rows n of the context (default: all; at most 2,000 per member)"
    )
    parser.add_argument("--ttt", choices=("none", "one", "few", "full"), default="few", help=MODES_HELP)
    parser.add_argument("--steps", type=int, help="updates in place of the mode's")
    parser.add_argument("--lr", type=float, help="learning rate in place of the usual")
    parser.add_argument(
        "--weights", default="default", metavar="PATH", help="a TabPFN v2 checkpoint or PFN.save's file"
    )
    parser.add_argument("--predictions", metavar="OUT.csv", help=PREDICTIONS_HELP)
    parser.add_argument("--seed", type=int, default=0, help="of the split and the training (default: 0)")
    parser.set_defaults(run=run_tabular)


def run_tabular(arguments: argparse.Namespace) -> int:
    """Run the command; bad input is a ValueError of one line."""
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader of the output, as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    try:
        import pandas as pd  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed; pip install '.[tabular]' in a checkout") from None
    from ttt_jax.tabular.classify.estimators import load_weights

    if not 0 <= arguments.seed < 2**32:
        raise ValueError(f"--seed must be an integer from 0 to 4294967295, got {arguments.seed}")
    if arguments.steps is not None:
        positive_integer("--steps", arguments.steps)
    if arguments.lr is not None and not 0 < arguments.lr < np.inf:
        raise ValueError(f"--lr must be a positive number, got {arguments.lr}")
    if arguments.predictions:
        _require_writable(Path(arguments.predictions), [arguments.table, arguments.weights])
    X, y = read_table(arguments.table, arguments.target, arguments.drop)
    train, test = split_table(y, arguments.seed)
    if arguments.context is not None and not 1 <= arguments.context <= len(train):
        raise ValueError(f"--context must be from 1 to the {len(train)} demonstrations, got {arguments.context}")
    arguments.weights = load_weights(arguments.weights)
    print(
        f"{len(y)} rows, {counted(X.shape[1], 'column')}, {len(np.unique(y))} classes; "
        f"{len(train)} demonstrations, {len(test)} test rows"
    )
    print(f"{'':26}{'accuracy':>9}{'log-loss':>10}{'ROC AUC':>9}{'seconds':>9}")
    last = "PFN" if arguments.ttt == "none" else f"PFN + TTT ({arguments.ttt})"
    for name, model in methods(arguments):
        started = time.perf_counter()
        model.fit(X.iloc[train], y[train])
        probabilities = model.predict_proba(X.iloc[test])
        seconds = time.perf_counter() - started
        print(f"{name:26}{_scores(y[test], probabilities, model.classes_)}{seconds:9.1f}", flush=True)
        if name.startswith("PFN + TTT"):
            print(f"  {_what_was_chosen(model)}")
        if name == last and arguments.predictions:
            write_predictions(arguments.predictions, test, y[test], probabilities, model.classes_)
    if absent := sorted(set(y[train]) - set(y[test])):
        print(f"no ROC AUC: class {str(absent[0])!r} is too rare for a test row")
    if arguments.predictions:
        print(f"wrote {arguments.predictions}: {last}")
    return 0


def _require_writable(path: Path, inputs: list[str]) -> None:
    if not path.parent.is_dir():
        raise ValueError(f"--predictions: no such directory: {path.parent}")
    for name in inputs:
        if path.exists() and Path(name).exists() and path.samefile(name):
            raise ValueError(f"--predictions must be another file than the input {name}, got {path}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"--predictions must be a file that can be written, got {path}")


def read_table(path: str, target: str, drop: list[str]) -> tuple[Any, np.ndarray]:
    """Features and labels of a file; a ValueError says what cannot be used."""
    import pandas as pd

    if not Path(path).is_file():
        raise ValueError(f"{path}: {'not a file' if Path(path).exists() else 'no such file'}")
    if target in drop:
        raise ValueError(f"--drop: {target!r} is the target; drop other columns")
    try:
        if path.endswith(".parquet"):
            table = pd.read_parquet(path)
            header = table.columns
        else:
            first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
            header = pd.Index(name for name in first if name)  # before pandas makes a.1 of a second a
            if len(first) == 1 and (separator := next((s for s in ";\t|" if s in first[0]), "")):
                raise ValueError(f"columns separated by {separator!r}; save it with commas, and points in numbers")
            table = pd.read_csv(path)
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs pyarrow; pip install '.[parquet]' in a checkout") from None
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path}: the file is empty; a header and rows are needed") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not readable as a table ({error}); save it as UTF-8") from None
    except Exception as error:  # whatever a parser makes of a file that is something else
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: not readable as a table ({reason})") from None
    if header.duplicated().any():
        raise ValueError(f"{path}: two columns are named {header[header.duplicated()][0]!r}; rename one")
    if len(table) and not isinstance(table.index, pd.RangeIndex) and not path.endswith(".parquet"):
        raise ValueError(f"{path}: its rows have more fields than its header; name every column")
    for column in (target, *drop):
        if column not in table.columns:
            hint = " (one column only: is the separator a comma?)" if len(table.columns) == 1 else ""
            raise ValueError(
                f"{path}: no column {column!r}; there are {', '.join(map(repr, table.columns[:20]))}{hint}"
            )
    X, y = table.drop(columns=[target, *drop]), table[target]
    if len(table) < 10 or not X.shape[1]:
        found = f"{counted(len(table), 'row')} and {counted(X.shape[1], 'feature column')}"
        raise ValueError(f"{path}: {found}; at least 10 and 1 are needed")
    _require_target(target, y)
    for name in X.columns:
        _require_usable(name, X[name])
    numeric = X.select_dtypes("number")
    X[numeric.columns] = numeric.where(numeric.abs() <= np.finfo(np.float32).max)  # else missing, as to the PFN
    return X, y.to_numpy() if y.dtype.kind in "iub" else y.astype(str).to_numpy()


def _require_target(name: str, y: Any) -> None:
    from ttt_jax.tabular.classify.table_input import require_type

    if missing := int(y.isna().sum()):
        texts = "" if y.dtype.kind == "f" else " (the texts NA, None and null count as missing)"
        raise ValueError(f"--target: column {name!r} lacks {missing} of {len(y)} values{texts}; remove these rows")
    require_type(name, y)
    counts = y.value_counts()
    counts = counts[counts > 0]  # a category may have no row
    if len(counts) < 2:
        raise ValueError(f"--target: column {name!r} has one value only, {str(counts.index[0])!r}; 2 to 10 are needed")
    if len(counts) > 10:
        kind = "a regression target" if y.dtype.kind == "f" else "merge the rare ones"
        raise ValueError(f"--target: column {name!r} has {len(counts)} classes; the network has 10 ({kind}?)")
    if counts.iloc[-1] < 2:
        raise ValueError(f"--target: class {str(counts.index[-1])!r} has one row; at least 2 are needed for a test")


def _require_usable(name: str, column: Any) -> None:
    from ttt_jax.tabular.classify.table_input import is_numeric, require_type

    if str(name).startswith("Unnamed: "):
        raise ValueError(f"column {name!r}: no name in the header, so perhaps row numbers; name it, or --drop it")
    require_type(name, column)
    if is_numeric(column):
        return
    distinct = column.astype(str).nunique()
    if distinct > _TEXT_VALUES and distinct > len(column) / 2:
        raise ValueError(f"column {name!r}: {distinct} texts in {len(column)} rows; text is not supported, --drop it")


def split_table(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the demonstrations and of the test rows: 80 to 20 and by class, then limited."""
    from sklearn.model_selection import train_test_split

    size = max(round(0.2 * len(y)), len(np.unique(y)))
    train, test = train_test_split(np.arange(len(y)), test_size=size, stratify=y, random_state=seed)
    if len(train) > MOST_DEMONSTRATIONS:
        _, first = np.unique(y[train], return_index=True)  # a row of every class stays
        train = np.concatenate([train[first], np.delete(train, first)])[:MOST_DEMONSTRATIONS]
    return train, test[:MOST_TEST_ROWS]


def methods(arguments: argparse.Namespace) -> list[tuple[str, Any]]:
    """Names and unfitted classifiers; the plain PFN reads the context that TTT predicts from."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from ttt_jax.tabular import TTTClassifier

    def pfn(mode: str) -> Any:
        return TTTClassifier(
            arguments.weights,
            n_context=arguments.context,
            mode=mode,
            steps=arguments.steps,
            learning_rate=arguments.lr,
            random_state=arguments.seed,
        )

    def encoded(model: Any) -> Any:
        numeric, other = make_column_selector(dtype_include="number"), make_column_selector(dtype_exclude="number")
        columns = make_column_transformer(
            (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numeric),
            (OneHotEncoder(handle_unknown="ignore", max_categories=50), other),
        )
        return make_pipeline(columns, model)

    rows = [("PFN", pfn("none"))]
    if arguments.ttt != "none":
        rows.append((f"PFN + TTT ({arguments.ttt})", pfn(arguments.ttt)))
    rows.append(("logistic regression", encoded(LogisticRegression(max_iter=1000))))
    rows.append(("random forest", encoded(RandomForestClassifier(200, random_state=arguments.seed))))
    return rows


def _scores(y: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> str:
    from sklearn.metrics import roc_auc_score

    accuracy = (classes[probabilities.argmax(1)] == y).mean()
    of_label = probabilities[np.arange(len(y)), np.searchsorted(classes, y)]
    loss = -np.log(np.maximum(of_label, 1e-7)).mean()
    if len(np.unique(y)) < len(classes):
        return f"{accuracy:9.4f}{loss:10.4f}{'-':>9}"  # ROC AUC needs a test row of every class
    one = {"y_score": probabilities[:, 1]} if len(classes) == 2 else {"y_score": probabilities, "multi_class": "ovr"}
    return f"{accuracy:9.4f}{loss:10.4f}{roc_auc_score(y, **one):9.4f}"


def _what_was_chosen(model: Any) -> str:
    if not model.scores_:
        return "too few rows are left outside the context to hold one out, so nothing was trained"
    first, chosen = model.scores_[0], model.chosen_
    if not chosen.step:
        return f"no update improved the held-out rows (log-loss {first.log_loss:.4f}): this is the plain PFN"
    return f"update {chosen.step} chosen: held-out log-loss {first.log_loss:.4f} -> {chosen.log_loss:.4f}"


def write_predictions(path: str, rows: Any, y: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> None:
    """A CSV of row number (0 is the first after the header), label, prediction and the probability of each class."""
    import pandas as pd

    columns = {"row": rows, "label": y, "prediction": classes[probabilities.argmax(1)]}
    columns |= {f"p({name})": p for name, p in zip(classes, probabilities.T.round(6), strict=True)}
    pd.DataFrame(columns).to_csv(path, index=False)
