"""Figure 3a: accuracy on real tables against the context length n, for the plain PFN and after test-time training.

`python -m experiments.fig3a --preset quick|cpu|paper --out DIR [--weights PATH]`

Of each table 1,000 rows are demonstrations. The plain PFN reads n of them. Test-time training splits the rows into
1000 / n groups of n context rows; an update is one gradient step on a batch of queries from rows outside the context of
each group in it; a fifth of the rows outside the prediction's context is held out to choose the number of updates, 0
included. Both predict from the same n rows. At n = 1,000 no row is left to train on, so both are equal by definition.
The paper makes 50 updates per group; the preset caps them. Contexts hold the classes in proportion.

Results are appended to DIR/fig3a.csv row by row, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import wilcoxon

from experiments.tables import DEMONSTRATIONS, NAMES, RealTable, load
from ttt_jax._internal.progress import progress_bar
from ttt_jax.cli.main import OneLineParser
from ttt_jax.plotting import COLOURS

CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
STYLES: dict[str, dict[str, Any]] = {
    "plain": {"marker": "o"},
    "TTT": {"marker": "s"},
    "logistic regression": {"linestyle": "--", "linewidth": 1},
    "random forest": {"linestyle": "-.", "linewidth": 1},
    "gradient boosting": {"linestyle": ":", "linewidth": 1},
}
BASELINES = tuple(STYLES)[2:]
PAPER_UPDATES_PER_GROUP = 50
COLUMNS = ("table", "seed", "n", "method", "accuracy", "seconds", "chosen_update", "cap", "paper_updates")


@dataclass(frozen=True)
class Preset:
    """Which cells are computed, and at what effort.

    Attributes:
        tables, seeds, contexts: a cell for each combination.
        updates: cap on the updates per cell.
        batch_size: queries per update.
        n_estimators: members of the ensemble.
    """

    tables: tuple[str, ...]
    seeds: tuple[int, ...]
    contexts: tuple[int, ...]
    updates: int
    batch_size: int
    n_estimators: int


QUICK = Preset(
    tables=("banana", "magic", "penbased", "phoneme", "titanic"),
    seeds=(0,),
    contexts=(1, 4, 16, 64, 256, 1000),
    updates=100,
    batch_size=128,
    n_estimators=8,
)
PRESETS = {
    "quick": QUICK,
    "cpu": replace(QUICK, tables=NAMES, seeds=(0, 1, 2), contexts=CONTEXTS),
    "paper": Preset(NAMES, seeds=(0, 1, 2), contexts=CONTEXTS, updates=1000, batch_size=256, n_estimators=8),
}


def run(preset: Preset, weights: str, file: Path) -> list[dict[str, Any]]:
    """Compute the cells that the file lacks, append them, and return the preset's rows."""
    rows = read_rows(file) if file.exists() else []
    done = {(row["table"], row["seed"], row["n"]) for row in rows}
    cells = [(t, s, n) for s in preset.seeds for t in preset.tables for n in preset.contexts]
    for name, seed, n in progress_bar([cell for cell in cells if cell not in done], "fig3a"):
        jax.clear_caches()  # compiled code of many shapes would exceed the number of memory maps of a process
        new = run_cell(load(name, seed), seed, n, preset, weights)
        with file.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerows(new)
        rows += new
    wanted = set(cells)
    return [row for row in rows if (row["table"], row["seed"], row["n"]) in wanted]


def run_cell(table: RealTable, seed: int, n: int, preset: Preset, weights: str) -> list[dict[str, Any]]:
    """Plain, tuned and classical accuracy at one context length; the classical methods are fitted to the n rows."""
    from ttt_jax.tabular import TTTClassifier

    paper_updates = PAPER_UPDATES_PER_GROUP * (DEMONSTRATIONS // n) if n < DEMONSTRATIONS else 0
    cap = min(preset.updates, paper_updates)
    shared: dict[str, Any] = {"n_context": n, "n_estimators": preset.n_estimators, "random_state": seed}
    plain = TTTClassifier(weights, mode="none", **shared)
    methods: dict[str, Any] = {"plain": plain}
    if cap:
        methods["TTT"] = TTTClassifier(weights, mode="full", steps=cap, batch_size=preset.batch_size, **shared)
    rows = []
    for method, model in methods.items():
        started = time.perf_counter()
        model.fit(table.X, table.y)
        accuracy = model.score(table.X_test, table.y_test)
        chosen = model.chosen_.step if method == "TTT" else 0
        rows.append(_row(table, seed, n, method, accuracy, time.perf_counter() - started, chosen, cap, paper_updates))
    if not cap:
        rows.append({**rows[0], "method": "TTT"})
    context, labels = plain.contexts_[0]
    for method, model in classical(seed).items():
        started = time.perf_counter()
        if len(np.unique(labels)) == 1:
            predicted = np.repeat(labels[:1], len(table.y_test))
        else:
            predicted = model.fit(context, labels).predict(table.X_test[:, plain.columns_])
        accuracy = float((plain.classes_[predicted] == table.y_test).mean())
        rows.append(_row(table, seed, n, method, accuracy, time.perf_counter() - started, 0, 0, 0))
    return rows


def classical(seed: int) -> dict[str, Any]:
    """The methods to compare with, at scikit-learn's settings."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = (
        LogisticRegression(max_iter=1000),
        RandomForestClassifier(200, random_state=seed),
        HistGradientBoostingClassifier(random_state=seed),
    )
    prepare = SimpleImputer(keep_empty_features=True), StandardScaler()
    return {name: make_pipeline(*prepare, model) for name, model in zip(BASELINES, models, strict=True)}


def curve(rows: list[dict[str, Any]], method: str) -> tuple[list[int], np.ndarray]:
    """Context lengths, and the accuracy of each (table, mean over seeds) at each, as an array (tables, lengths)."""
    own = [row for row in rows if row["method"] == method]
    lengths = sorted({row["n"] for row in own})
    tables = sorted({row["table"] for row in own})
    cells = [[[r["accuracy"] for r in own if (r["table"], r["n"]) == (t, n)] for n in lengths] for t in tables]
    return lengths, np.array([[np.mean(cell) for cell in row] for row in cells])


def context_reduction(lengths: list[int], plain: np.ndarray, tuned: np.ndarray, level: float) -> float:
    """n_plain / n_TTT at equal accuracy: how much shorter the context may be after training.

    The lengths at which each curve first reaches the level, interpolated in log n. A curve that is there at its first
    length counts as reaching it there, so that the factor is then a lower bound.

    Example:
        >>> context_reduction([1, 10, 100], np.array([0.2, 0.4, 0.6]), np.array([0.4, 0.6, 0.6]), level=0.6)
        10.0
    """

    def reached(accuracy: np.ndarray) -> float:
        best = np.maximum.accumulate(accuracy)
        if best[-1] < level:
            return np.nan
        i = int((best >= level).argmax())
        if i == 0:
            return float(lengths[0])
        share = (level - best[i - 1]) / (best[i] - best[i - 1])
        return float(lengths[i - 1] * (lengths[i] / lengths[i - 1]) ** share)

    return reached(plain) / reached(tuned)


def reduction_with_interval(rows: list[dict[str, Any]], level: float | None) -> tuple[float, float, float, float]:
    """Level (None: plain at its longest context), factor, and its 95% interval by resampling tables."""
    lengths, plain = curve(rows, "plain")
    _, tuned = curve(rows, "TTT")

    def factor(tables: np.ndarray) -> float:
        mean = plain[tables].mean(0)
        return context_reduction(lengths, mean, tuned[tables].mean(0), mean[-1] if level is None else level)

    rng, everything = np.random.default_rng(0), np.arange(len(plain))
    factors = [factor(rng.choice(everything, len(plain))) for _ in range(2000)]
    low, high = np.nanpercentile(factors, [2.5, 97.5])
    return plain.mean(0)[-1] if level is None else level, factor(everything), low, high


class Paired(NamedTuple):
    """TTT less plain at one n: mean and standard error over tables, tables on either side, Wilcoxon's signed ranks."""

    n: int
    mean: float
    stderr: float
    better: int
    worse: int
    p_value: float


def paired(rows: list[dict[str, Any]]) -> list[Paired]:
    """The paired comparison at every n where some table differs; a table is one number, its mean over seeds."""
    lengths, plain = curve(rows, "plain")
    _, tuned = curve(rows, "TTT")
    pairs = []
    for n, gain in zip(lengths, (tuned - plain).T, strict=True):
        if gain.any():
            stderr = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.nan
            p_value = float(wilcoxon(gain).pvalue)
            pairs.append(Paired(n, gain.mean(), stderr, int((gain > 0).sum()), int((gain < 0).sum()), p_value))
    return pairs


def report(rows: list[dict[str, Any]]) -> str:
    """Mean accuracy by context length, TTT less plain, and the context-reduction factor.

    The unit is the table, its mean over seeds: every error is over tables.
    """
    curves = {method: curve(rows, method) for method in STYLES}
    lengths, plain = curves["plain"]
    lines = [f"{len(plain)} tables, {len({r['seed'] for r in rows})} seeds; mean accuracy (standard error over tables)"]
    lines.append(f"{'n':>6}" + "".join(f"{method:>22}" for method in STYLES) + f"{'updates / paper':>18}{'fit s':>8}")
    for i, n in enumerate(lengths):
        cells = ""
        for _, values in curves.values():
            error = values[:, i].std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            cells += f"{values[:, i].mean():>14.4f} ({error:.4f})"[-22:].rjust(22)
        tuned = [r for r in rows if r["n"] == n and r["method"] == "TTT"]
        cap, seconds = tuned[0], np.mean([r["seconds"] for r in tuned])
        lines.append(f"{n:>6}{cells}{cap['cap']:>9} /{cap['paper_updates']:>7}{seconds:>8.1f}")
    lines.append(f"{'n':>6}{'TTT - plain':>22}{'better':>8}{'worse':>8}{'Wilcoxon p':>12}")
    for pair in paired(rows):
        gain = f"{pair.mean:+.4f} ({pair.stderr:.4f})"
        lines.append(f"{pair.n:>6}{gain:>22}{pair.better:>8}{pair.worse:>8}{pair.p_value:>12.1e}")
    middle = (plain.mean(0)[-1] + plain.mean(0)[0]) / 2
    for name, level in (("plain at its longest context", None), ("midway along the plain curve", middle)):
        level, factor, low, high = reduction_with_interval(rows, level)
        lines.append(f"context reduction at accuracy {level:.3f} ({name}): {factor:.2f} (95% {low:.2f} to {high:.2f})")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Mean accuracy against n, and below it TTT less plain; 95% bands over tables, in the lower panel of pairs."""
    figure = Figure(figsize=(6.4, 5.4), layout="constrained", dpi=150)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
    for (method, style), color in zip(STYLES.items(), COLOURS, strict=False):
        lengths, values = curve(rows, method)
        above.plot(lengths, values.mean(0), label=method, color=color, **style)
        if "marker" in style:
            _band(above, lengths, values, color)
    gain = curve(rows, "TTT")[1] - curve(rows, "plain")[1]
    below.plot(lengths, gain.mean(0), color=COLOURS[0], marker="o")
    _band(below, lengths, gain, COLOURS[0])
    below.axhline(0, color="#888888", linewidth=0.8)
    above.set(xscale="log", ylabel="mean accuracy", title="Real tables, plain PFN and TTT")
    below.set(xlabel="context length n", ylabel="TTT - plain")
    below.set_xticks(lengths, [str(n) for n in lengths])
    below.xaxis.minorticks_off()
    above.legend(fontsize=9)
    return figure


def _band(axes: Axes, lengths: list[int], values: np.ndarray, color: str) -> None:
    if len(values) > 1:
        mean, half = values.mean(0), 1.96 * values.std(0, ddof=1) / len(values) ** 0.5
        axes.fill_between(lengths, mean - half, mean + half, alpha=0.15, color=color)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a finished or interrupted run."""
    numbers = {"accuracy": float, "seconds": float, "table": str, "method": str}
    with file.open(newline="") as stream:
        return [{name: numbers.get(name, int)(row[name]) for name in COLUMNS} for row in csv.DictReader(stream)]


def _row(table: RealTable, *values: Any) -> dict[str, Any]:
    return dict(zip(COLUMNS, (table.name, *values), strict=True))


def main(argv: list[str] | None = None) -> int:
    """Run, print the table, write fig3a.csv, fig3a.png and fig3a.svg; 2 with one line for bad input."""
    parser = OneLineParser(
        prog="python -m experiments.fig3a",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="default: quick")
    parser.add_argument("--out", type=Path, default=Path("out/fig3a"), help="directory; a run in it is continued")
    parser.add_argument("--weights", default="default", metavar="PATH", help="TabPFN v2 checkpoint or file of PFN.save")
    parser.add_argument("--tables", nargs="+", metavar="NAME", help=f"in place of the preset's; of {', '.join(NAMES)}")
    arguments = parser.parse_args(argv)
    preset = PRESETS[arguments.preset]
    if arguments.tables:
        preset = replace(preset, tables=tuple(arguments.tables))
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = run(preset, arguments.weights, arguments.out / "fig3a.csv")
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    print(report(rows))
    figure = draw(rows)
    for suffix in ("png", "svg"):
        figure.savefig(arguments.out / f"fig3a.{suffix}", metadata={"Date": None} if suffix == "svg" else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
