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
TRAINING = "steps", "time_limit", "lr"  # options of the training
_USUAL = {"drop": [], "ttt": "few", "weights": "default", "seed": 0}  # of other options None
_TEXT_VALUES = 100  # a column of more different strings than this, and than half its rows, is text

DESCRIPTION = f"""Split a table into demonstrations and test rows, 80 to 20 and by class, and compare on the test rows:
the PFN that reads the demonstrations (or --context of them), the same after test-time training on all of them, and
logistic regression, a random forest, boosting and the most frequent class. Of a large table a random choice of
{MOST_DEMONSTRATIONS:,} demonstrations and {MOST_TEST_ROWS:,} test rows is used. Balanced accuracy is the mean over
classes; ROC AUC and PR AUC (average precision) are means over classes, each against the rest. Log-loss counts a
probability below 1e-7 as 1e-7."""

MODES_HELP = """none: the plain PFN only; one: one step of gradient descent; few: 30 updates of AdamW or more (default);
full: 50 for every context that the demonstrations fill"""

PREDICTIONS_HELP = """write the last PFN's predictions of the test rows, in random order: row (0 is the first
after the header; sort by it), label, prediction and for each class its probability p(CLASS)"""

EXAMPLES = """examples:
  ttt-jax tabular wine.csv --target quality
  ttt-jax tabular wine.csv --target quality --context 32 --ttt full --predictions out.csv
  ttt-jax tabular wine.csv --target quality --save wine.model
  ttt-jax tabular new.csv --model wine.model --predictions out.csv
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
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict: 2 to 10 classes")
    parser.add_argument("--drop", nargs="+", default=_USUAL["drop"], metavar="COLUMN", help="columns to leave out")
    parser.add_argument(
        "--context", type=int, metavar="N", help="rows in the context (default: all; at most 2,000 per member)"
    )
    parser.add_argument("--ttt", choices=("none", "one", "few", "full"), default=_USUAL["ttt"], help=MODES_HELP)
    parser.add_argument("--steps", type=int, help="number of updates instead of the mode's")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="limit on training, compilation included")
    parser.add_argument("--lr", type=float, help="learning rate instead of the default")
    parser.add_argument(
        "--weights",
        default=_USUAL["weights"],
        metavar="PATH",
        help="small, a TabPFN v2 checkpoint or a file of PFN.save (default: the better of the two bundled networks)",
    )
    parser.add_argument("--predictions", metavar="OUT.csv", help=PREDICTIONS_HELP)
    parser.add_argument("--save", metavar="MODEL", help="write the last PFN, fitted, to a file")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a file from --save: write its predictions for TABLE's rows (labels optional) to --predictions",
    )
    parser.add_argument(
        "--seed", type=int, default=_USUAL["seed"], help="seed of the split and the training (default: 0)"
    )
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
    if arguments.model:
        return _apply_saved(arguments)
    if arguments.target is None:
        raise ValueError("--target: name the column to predict, or give a saved --model")
    return _compare(arguments)


def _apply_saved(arguments: argparse.Namespace) -> int:
    """Predictions for the rows of a file, which needs no labels."""
    from ttt_jax.tabular import CheckpointError, PFNClassifier

    if not arguments.predictions:
        raise ValueError("--model: name a file for the predictions with --predictions")
    others = "target", "context", *TRAINING, "save", *_USUAL
    _require_absent(arguments, "--model: a saved model is not trained again", *others)
    _require_writable("--predictions", arguments.predictions, [arguments.table, arguments.model])
    try:
        model = PFNClassifier.load(arguments.model)
    except CheckpointError as error:
        raise ValueError(f"--model {error}") from None
    if not hasattr(model, "feature_names_in_"):
        raise ValueError(f"{arguments.model}: its columns have no names; fit it to a data frame")
    names = list(model.feature_names_in_)
    X = _float32_or_missing(read_file(arguments.table, names)[names])
    if not len(X):
        raise ValueError(f"{arguments.table}: 0 rows; at least 1 is needed")
    write_predictions(arguments.predictions, np.arange(len(X)), None, model.predict_proba(X), model.classes_)
    print(f"wrote {arguments.predictions}: {counted(len(X), 'row')}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from ttt_jax.tabular.classify.estimators import load_weights

    if not 0 <= arguments.seed < 2**32:
        raise ValueError(f"--seed must be an integer from 0 to 4294967295, got {arguments.seed}")
    if arguments.steps is not None:
        positive_integer("--steps", arguments.steps)
    for name, value in (("--lr", arguments.lr), ("--time-limit", arguments.time_limit)):
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"{name} must be a positive number, got {value}")
    if arguments.ttt == "none":
        _require_absent(arguments, "--ttt none trains nothing", *TRAINING)
    outputs = [(name, path) for name in ("predictions", "save") if (path := getattr(arguments, name))]
    for name, path in outputs:
        _require_writable(f"--{name}", path, [arguments.table, arguments.weights])
    if len(outputs) == 2 and len({Path(path).resolve() for _, path in outputs}) == 1:
        raise ValueError(f"--save must be another file than --predictions, got {arguments.save}")
    X, y = read_table(arguments.table, arguments.target, arguments.drop)
    train, test = split_table(y, arguments.seed)
    if arguments.context is not None and not 1 <= arguments.context <= len(train):
        raise ValueError(f"--context must be from 1 to the {len(train)} demonstrations, got {arguments.context}")
    arguments.weights = load_weights(arguments.weights)
    print(
        f"{len(y)} rows, {counted(X.shape[1], 'column')}, {len(np.unique(y))} classes; "
        f"{len(train)} demonstrations, {len(test)} test rows"
    )
    print(f"this takes about {seconds_needed(arguments, X, y, train, test):.0f} seconds", flush=True)
    print(f"{'':26}{'accuracy':>9}{'balanced':>9}{'log-loss':>10}{'ROC AUC':>9}{'PR AUC':>8}{'seconds':>9}")
    last = "PFN" if arguments.ttt == "none" else f"PFN + TTT ({arguments.ttt})"
    found = {}
    for name, model in methods(arguments):
        started = time.perf_counter()
        model.fit(X.iloc[train], y[train])
        probabilities = model.predict_proba(X.iloc[test])
        seconds = time.perf_counter() - started
        print(f"{name:26}{_scores(y[test], probabilities, model.classes_)}{seconds:9.1f}", flush=True)
        labels = np.searchsorted(model.classes_, y[test])
        found[name] = probabilities.argmax(1) == labels, _log_loss(probabilities, labels)
        if name.startswith("PFN + TTT"):
            print(f"  {_what_was_chosen(model)}")
        if name == last and arguments.predictions:
            write_predictions(arguments.predictions, test, y[test], probabilities, model.classes_)
        if name == last and arguments.save:
            model.save(arguments.save)
    if absent := sorted(set(y[train]) - set(y[test])):
        print(f"no ROC AUC: class {str(absent[0])!r} is too rare for a test row")
    print(conclusion(last, found))
    for path in filter(None, (arguments.predictions, arguments.save)):
        print(f"wrote {path}: {last}")
    return 0


def seconds_needed(arguments: argparse.Namespace, X: Any, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """An estimate for the PFNs, from two predictions of one member, the first of which compiles."""
    from ttt_jax.tabular import TTTClassifier

    model = TTTClassifier(arguments.weights, n_context=arguments.context, mode="none", n_estimators=1)
    model.fit(X.iloc[train], y[train])
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        model.predict_proba(X.iloc[test])
        seconds.append(time.perf_counter() - started)
    compilation, member = max(0.0, seconds[0] - seconds[1]), seconds[1]
    usual = TTTClassifier()
    plain = compilation + usual.n_estimators * member
    if arguments.ttt == "none":
        return plain
    context = arguments.context or min(256, len(train))
    rows = min(len(train), arguments.context or len(train)) + len(test)
    per_update = 3 * member * (context + usual.batch_size) / rows
    few, full = max(30, len(train) // usual.batch_size), 50 * max(1, len(train) // context)
    steps = arguments.steps or {"one": 1, "few": few, "full": full}[arguments.ttt]
    training = min(4 * compilation + steps * per_update + 10 * member, arguments.time_limit or np.inf)
    return 2 * plain + training


def conclusion(ours: str, found: dict[str, tuple[np.ndarray, float]]) -> str:
    """One sentence: whether the PFN or the best of the others is ahead, by more than chance or not.

    Args:
        ours: the PFN in question.
        found: for each method which test rows it has right, and its log-loss.
    """
    others = (name for name in found if not name.startswith("PFN"))
    theirs = max(others, key=lambda name: (found[name][0].mean(), -found[name][1]))
    difference = found[ours][0].astype(float) - found[theirs][0]
    gain, error = difference.mean(), difference.std() / len(difference) ** 0.5
    losses = f"log-loss {found[ours][1]:.3f} against {found[theirs][1]:.3f}"
    if abs(gain) <= 2 * error or gain == 0:
        return (
            f"On these test rows {ours} and the best other method, {theirs}, cannot be told apart by accuracy: "
            f"{gain:+.3f}, give or take {2 * error:.3f}; {losses}."
        )
    word = "more" if gain > 0 else "less"
    return (
        f"On these test rows {ours} is {word} accurate than the best other method, {theirs}: {gain:+.3f}, "
        f"give or take {2 * error:.3f}; {losses}."
    )


def _require_absent(arguments: argparse.Namespace, why: str, *names: str) -> None:
    for name in names:
        if getattr(arguments, name) != _USUAL.get(name):
            raise ValueError(f"{why}; leave out --{name.replace('_', '-')}")


def _require_writable(option: str, file: str, inputs: list[str]) -> None:
    path = Path(file)
    if not path.parent.is_dir():
        raise ValueError(f"{option}: no such directory: {path.parent}")
    for name in inputs:
        if path.exists() and Path(name).exists() and path.samefile(name):
            raise ValueError(f"{option} must be another file than the input {name}, got {path}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{option} must be a file that can be written, got {path}")


def read_table(path: str, target: str, drop: list[str]) -> tuple[Any, np.ndarray]:
    """Features and labels of a file; a ValueError says what cannot be used."""
    if target in drop:
        raise ValueError(f"--drop: {target!r} is the target; drop other columns")
    table = read_file(path, [target, *drop])
    X, y = table.drop(columns=[target, *drop]), table[target]
    if len(table) < 10 or not X.shape[1]:
        found = f"{counted(len(table), 'row')} and {counted(X.shape[1], 'feature column')}"
        raise ValueError(f"{path}: {found}; at least 10 and 1 are needed")
    _require_target(target, y)
    for name in X.columns:
        _require_usable(name, X[name])
    return _float32_or_missing(X), y.to_numpy() if y.dtype.kind in "iub" else y.astype(str).to_numpy()


def read_file(path: str, needed: list[str]) -> Any:
    """The data frame of a file that has these columns, each name once."""
    import pandas as pd

    if not Path(path).is_file():
        raise ValueError(f"{path}: {'not a file' if Path(path).exists() else 'no such file'}")
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
    for column in needed:
        if column not in table.columns:
            hint = " (one column only: is the separator a comma?)" if len(table.columns) == 1 else ""
            raise ValueError(
                f"{path}: no column {column!r}; there are {', '.join(map(repr, table.columns[:20]))}{hint}"
            )
    return table


def _float32_or_missing(X: Any) -> Any:
    numeric = X.select_dtypes("number")
    X[numeric.columns] = numeric.where(numeric.abs() <= np.finfo(np.float32).max)  # else missing, as to the PFN
    return X


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
    from sklearn.compose import make_column_selector
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    from ttt_jax.tabular import TTTClassifier
    from ttt_jax.tabular.classical import coded

    def pfn(mode: str) -> Any:
        return TTTClassifier(
            arguments.weights,
            n_context=arguments.context,
            mode=mode,
            steps=arguments.steps,
            learning_rate=arguments.lr,
            time_limit=arguments.time_limit,
            random_state=arguments.seed,
        )

    def encoded(model: Any) -> Any:
        return coded(model, make_column_selector(dtype_include="number"), make_column_selector(dtype_exclude="number"))

    rows = [("PFN", pfn("none"))]
    if arguments.ttt != "none":
        rows.append((f"PFN + TTT ({arguments.ttt})", pfn(arguments.ttt)))
    rows.append(("logistic regression", encoded(LogisticRegression(max_iter=1000))))
    rows.append(("random forest", encoded(RandomForestClassifier(200, random_state=arguments.seed))))
    rows.append(("gradient boosting", encoded(HistGradientBoostingClassifier(random_state=arguments.seed))))
    rows.append(("most frequent class", DummyClassifier()))
    return rows


def _scores(y: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> str:
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels = np.searchsorted(classes, y)
    hits = probabilities.argmax(1) == labels
    balanced = np.mean([hits[labels == c].mean() for c in np.unique(labels)])
    told = f"{hits.mean():9.4f}{balanced:9.4f}{_log_loss(probabilities, labels):10.4f}"
    if len(np.unique(y)) < len(classes):
        return f"{told}{'-':>9}{'-':>8}"  # both need a test row of every class
    pairs = [(labels == c, probabilities[:, c]) for c in range(len(classes))]
    roc, precision = (np.mean([score(*pair) for pair in pairs]) for score in (roc_auc_score, average_precision_score))
    return f"{told}{roc:9.4f}{precision:8.4f}"


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    from ttt_jax.tabular.classify.scores import log_loss

    return log_loss(probabilities, labels, np.ones(probabilities.shape[1]))


def _what_was_chosen(model: Any) -> str:
    if not model.scores_:
        return "too few rows are left outside the context to hold one out, so nothing was trained"
    first, chosen = model.scores_[0], model.chosen_
    if len(model.scores_) == 1:
        return f"the time limit left no time for an update: this is the plain network (log-loss {first.log_loss:.4f})"
    if not chosen.step:
        return (
            f"no update improved the held-out rows (log-loss {first.log_loss:.4f}): this is the plain network, "
            f"at temperature {model.temperature_:.2f}"
        )
    return f"update {chosen.step} chosen: held-out log-loss {first.log_loss:.4f} -> {chosen.log_loss:.4f}"


def write_predictions(
    path: str, rows: Any, y: np.ndarray | None, probabilities: np.ndarray, classes: np.ndarray
) -> None:
    """A CSV of row number (0 is the first after the header), label, prediction and the probability of each class."""
    import pandas as pd

    columns = {"row": rows} | ({} if y is None else {"label": y})
    columns["prediction"] = classes[probabilities.argmax(1)]
    columns |= {f"p({name})": p for name, p in zip(classes, probabilities.T.round(6), strict=True)}
    pd.DataFrame(columns).to_csv(path, index=False)
