"""What the results of figure 3a say: TTT less plain in pairs, the context reduction as a curve, the figure.

`python -m experiments.fig3a_report [CSV] [--more CSV] [--figure PNG]` reads a fig3a.csv, by default the committed
record; `--more` takes one of the preset `more-updates` and says what its updates add.

Means and intervals are over real tables that do not contain one another; artificial tables and digits, which is
contained in optdigits, are named and left out, as are tables that an interrupted run has not finished. A table is one
number, its mean over seeds.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from scipy.stats import t as student
from scipy.stats import wilcoxon

from ttt_jax import plotting
from ttt_jax._internal.command import OneLineParser, emit
from ttt_jax._internal.plural import counted
from ttt_jax.plotting import COLOURS

RECORD = Path(__file__).parent / "results" / "fig3a" / "fig3a.csv"
STYLES: dict[str, dict[str, Any]] = {
    "plain": {"color": COLOURS[7], "marker": "s", "mfc": "white"},
    "TTT": {"color": COLOURS[0], "marker": "o", "mfc": "white"},
    "logistic regression": {"color": COLOURS[5], "linestyle": "--", "linewidth": 1},
    "random forest": {"color": COLOURS[2], "linestyle": "-.", "linewidth": 1},
    "gradient boosting": {"color": COLOURS[4], "linestyle": ":", "linewidth": 1},
}
COLUMNS = ("table", "seed", "n", "method", "accuracy", "seconds", "chosen_update", "cap", "paper_updates")
ARTIFICIAL = ("banana", "ring", "twonorm")
NOMINAL = ("chess", "mushroom", "splice", "titanic")  # tables whose columns are mostly categories
PAPER = {  # its curves, read off the plot to about .01
    "n": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000),
    "plain": (0.210, 0.240, 0.290, 0.340, 0.425, 0.452, 0.507, 0.562, 0.616, 0.658, 0.678),
    "TTT": (0.440, 0.452, 0.512, 0.550, 0.570, 0.603, 0.631, 0.665, 0.668, 0.678, 0.678),
}
_RESAMPLES = 2000


def left_out(tables: set[str]) -> dict[str, str]:
    """Which of the tables are no independent real ones, and why; none if nothing else is left.

    Example:
        >>> left_out({"banana", "digits", "magic", "optdigits"})
        {'banana': 'artificial', 'digits': 'contained in optdigits'}
        >>> left_out({"banana"})
        {}
    """
    reasons = {name: "artificial" for name in ARTIFICIAL if name in tables}
    if {"digits", "optdigits"} <= tables:
        reasons["digits"] = "contained in optdigits"
    return reasons if len(reasons) < len(tables) else {}


def unfinished(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Tables without cells that others have, as an interrupted run leaves them."""
    cells = Counter(table for table, *_ in {(row["table"], row["seed"], row["n"], row["method"]) for row in rows})
    return {name: "unfinished" for name, count in cells.items() if count < max(cells.values())}


def without(rows: list[dict[str, Any]], tables) -> list[dict[str, Any]]:
    return [row for row in rows if row["table"] not in tables]


def curve(rows: list[dict[str, Any]], method: str) -> tuple[list[int], np.ndarray]:
    """Context lengths, and the accuracy of each (table, mean over seeds) at each, as an array (tables, lengths)."""
    cells: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        if row["method"] == method:
            cells[row["table"], row["n"]].append(row["accuracy"])
    tables, lengths = sorted({table for table, _ in cells}), sorted({n for _, n in cells})
    return lengths, np.array([[np.mean(cells[table, n]) for n in lengths] for table in tables])


def rows_needed(
    lengths: Sequence[float], accuracy: Float[np.ndarray, "*curves L"], level: Float[np.ndarray, "*curves"] | float
) -> Float[np.ndarray, "*curves"]:
    """The length at which a curve first reaches the level, interpolated in log n; nan if it never does.

    A curve that is there at its first length counts as reaching it there.

    Example:
        >>> rows_needed([1, 10, 100], np.array([[0.2, 0.4, 0.6], [0.3, 0.4, 0.5]]), level=0.4)
        array([10., 10.])
    """
    best, log = np.maximum.accumulate(accuracy, axis=-1), np.log(lengths)
    level = np.broadcast_to(level, best.shape[:-1])[..., None]
    after = np.minimum((best < level).sum(-1, keepdims=True), best.shape[-1] - 1)
    before = np.maximum(after - 1, 0)
    low, high = (np.take_along_axis(best, i, axis=-1) for i in (before, after))
    rise = np.where(high > low, high - low, 1)
    share = (np.minimum(level, high) - low) / rise
    found = np.exp(log[before] + share * (log[after] - log[before]))
    return np.where(level <= best[..., -1:], found, np.nan)[..., 0]


def context_reduction(
    lengths: Sequence[float],
    plain: Float[np.ndarray, "*curves L"],
    other: Float[np.ndarray, "*curves L"],
    level: Float[np.ndarray, "*curves"] | float,
) -> Float[np.ndarray, "*curves"]:
    """n_plain / n_other at equal accuracy: how much shorter the context may be, a lower bound where n_other = 1.

    Example:
        >>> f"{context_reduction([1, 10, 100], np.array([0.2, 0.4, 0.6]), np.array([0.4, 0.6, 0.6]), level=0.6):.2f}"
        '10.00'
    """
    return rows_needed(lengths, plain, level) / rows_needed(lengths, other, level)


class Reduction(NamedTuple):
    """n_plain / n_other at an accuracy, and its 95% interval by resampling tables; a bound where n_other = 1."""

    level: float
    factor: float
    low: float
    high: float
    is_bound: bool


def reduction(rows: list[dict[str, Any]], n: int | None = None, below: float = 0.0, method: str = "TTT") -> Reduction:
    """The context reduction at plain's accuracy with n rows (None: the most), less `below`.

    A resample of tables has its own accuracy with n rows: tables differ in level far more than in factor.
    """
    lengths, plain = curve(rows, "plain")
    _, other = curve(rows, method)
    at = -1 if n is None else lengths.index(n)

    def factor(tables: Int[np.ndarray, "*resamples tables"]) -> Float[np.ndarray, "*resamples"]:
        mean = plain[tables].mean(-2)
        return context_reduction(lengths, mean, other[tables].mean(-2), mean[..., at] - below)

    everything = np.arange(len(plain))
    factors = factor(np.random.default_rng(0).choice(everything, (_RESAMPLES, len(plain))))
    level = plain.mean(0)[at] - below
    low, high = np.nanpercentile(factors, [2.5, 97.5]) if np.isfinite(factors).any() else (np.nan, np.nan)
    return Reduction(level, float(factor(everything)), low, high, bool(other.mean(0)[0] >= level))


class Paired(NamedTuple):
    """TTT less another method at one n, for each table."""

    n: int
    gains: Float[np.ndarray, " tables"]

    @property
    def mean(self) -> float:
        return float(self.gains.mean())

    @property
    def half(self) -> float:
        """Half the 95% interval of the mean over tables."""
        return float(half_interval(self.gains))

    @property
    def better(self) -> int:
        return int((self.gains > 0).sum())

    @property
    def worse(self) -> int:
        return int((self.gains < 0).sum())

    @property
    def p_value(self) -> float:
        """Wilcoxon's."""
        return float(wilcoxon(self.gains[self.gains != 0]).pvalue)


def paired(rows: list[dict[str, Any]], other: str = "plain") -> list[Paired]:
    """The paired comparison at every n where some table differs."""
    lengths, baseline = curve(rows, other)
    _, tuned = curve(rows, "TTT")
    return [Paired(n, gains) for n, gains in zip(lengths, (tuned - baseline).T, strict=True) if gains.any()]


def half_interval(values: np.ndarray) -> np.ndarray:
    """Half the 95% interval of the mean over the first axis, by Student's t; nan for one value."""
    count = len(values)
    if count < 2:
        return np.full(np.shape(values)[1:], np.nan)
    return student.ppf(0.975, count - 1) * values.std(0, ddof=1) / count**0.5


def report(rows: list[dict[str, Any]]) -> str:
    """Mean accuracy by n, TTT less plain and less the forest, and the context reduction by accuracy."""
    part = unfinished(rows)
    rows = without(rows, part)
    excluded = left_out({row["table"] for row in rows})
    real = without(rows, excluded)
    tables = sorted({row["table"] for row in real})
    lines = [f"{counted(len(tables), 'table')}, {counted(len({r['seed'] for r in rows}), 'seed')}: {', '.join(tables)}"]
    if excluded | part:
        lines.append("left out: " + ", ".join(f"{name} ({reason})" for name, reason in (excluded | part).items()))
    lines += ["", *_accuracies(real), "", *_gains(rows, real), "", *_reductions(real)]
    return "\n".join(lines)


def _accuracies(rows: list[dict[str, Any]]) -> list[str]:
    curves = {method: curve(rows, method) for method in STYLES}
    lines = ["mean accuracy"]
    lines.append(f"{'n':>6}" + "".join(f"{method:>21}" for method in STYLES) + f"{'updates / paper':>22}{'fit s':>8}")
    for i, n in enumerate(curves["plain"][0]):
        cells = "".join(f"{values[:, i].mean():>21.3f}" for _, values in curves.values())
        tuned = [r for r in rows if r["n"] == n and r["method"] == "TTT"]
        seconds = np.mean([r["seconds"] for r in tuned])
        updates = _range(r["cap"] for r in tuned)
        lines.append(f"{n:>6}{cells}{updates:>14} /{tuned[0]['paper_updates']:>6}{seconds:>8.1f}")
    return lines


def _gains(rows: list[dict[str, Any]], real: list[dict[str, Any]]) -> list[str]:
    lines = ["difference in accuracy, 95% interval over tables"]
    lines.append(
        f"{'n':>6}{'TTT - plain':>19}{'better':>8}{'worse':>7}{'Wilcoxon p':>12}{'all tables':>12}{'no nominal':>12}"
        f"{'TTT - forest':>19}"
    )
    everything = {pair.n: pair.mean for pair in paired(rows)}
    numeric = {pair.n: pair.mean for pair in paired(without(real, NOMINAL))}
    forest = {pair.n: pair for pair in paired(real, "random forest")}
    for pair in paired(real):
        beside = forest.get(pair.n)
        lines.append(
            f"{pair.n:>6}{pair.mean:>+11.3f} +- {pair.half:.3f}{pair.better:>8}{pair.worse:>7}{pair.p_value:>12.1e}"
            f"{everything.get(pair.n, np.nan):>+12.3f}{numeric.get(pair.n, np.nan):>+12.3f}"
            + (f"{beside.mean:>+11.3f} +- {beside.half:.3f}" if beside else "")
        )
    return lines


def _reductions(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "context reduction: rows that plain needs for an accuracy / rows of context that TTT needs (it has trained on "
        "all rows); forest: / rows that a forest needs in all; paper: its own curves at the same n"
    ]
    lines.append(f"{'plain at':>15}{'accuracy':>10}{'factor':>9}{'95% interval':>16}{'forest':>9}{'paper':>9}")
    lengths, plain = curve(rows, "plain")
    best = np.maximum.accumulate(plain.mean(0))
    risen = [lengths[i] for i in range(1, len(lengths) - 1) if best[i] > best[i - 1]]
    for n, below in [*((n, 0.0) for n in risen), (lengths[-1], 0.01), (lengths[-1], 0.0)]:
        tuned, forest = reduction(rows, n, below), reduction(rows, n, below, "random forest")
        name = f"{n}{f', less {below}' if below else ''}"
        interval = f"{tuned.low:.1f} to {tuned.high:.1f}"
        paper = paper_reduction(n, below) if n in PAPER["n"] else np.nan
        lines.append(
            f"{name:>15}{tuned.level:>10.3f}{'>=' if tuned.is_bound else '':>4}{tuned.factor:>5.1f}{interval:>16}"
            f"{forest.factor:>9.1f}{'>=' if _paper_is_bound(n, below) else '':>4}{paper:>5.1f}"
        )
    return lines


def more_updates(rows: list[dict[str, Any]], more: list[dict[str, Any]]) -> str:
    """TTT with more updates, less the same with fewer, on the cells that both have; artificial tables included."""
    finished = rows, without(more, unfinished(more))
    few, many = ({(r["table"], r["seed"], r["n"]): r for r in own if r["method"] == "TTT"} for own in finished)
    common = few.keys() & many.keys()
    if not common:
        raise ValueError("no table, seed and n is in both files")
    tables = sorted({table for table, _, _ in common})
    lines = [f"TTT with more updates, {counted(len(tables), 'table')}: {', '.join(tables)}"]
    lines.append(f"{'n':>6}{'updates':>14}{'accuracy':>10}{'updates':>14}{'accuracy':>10}{'difference':>19}")
    fewer, all_of = ([own[cell] for cell in common] for own in (few, many))
    lengths, before = curve(fewer, "TTT")
    for n, old, new in zip(lengths, before.T, curve(all_of, "TTT")[1].T, strict=True):
        updates = [_range(row["cap"] for row in own if row["n"] == n) for own in (fewer, all_of)]
        lines.append(
            f"{n:>6}{updates[0]:>14}{old.mean():>10.3f}{updates[1]:>14}{new.mean():>10.3f}"
            f"{(new - old).mean():>+11.3f} +- {half_interval(new - old):.3f}"
        )
    return "\n".join(lines)


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"


def paper_reduction(n: int, below: float = 0.0) -> float:
    """The same factor of the paper's drawn curves.

    Example:
        >>> f"{paper_reduction(1000):.2f} {paper_reduction(64):.1f}"
        '1.95 17.0'
    """
    lengths, plain, tuned = [int(n) for n in PAPER["n"]], np.array(PAPER["plain"]), np.array(PAPER["TTT"])
    return float(context_reduction(lengths, plain, tuned, plain[lengths.index(n)] - below))


def _paper_is_bound(n: int, below: float) -> bool:
    return n in PAPER["n"] and PAPER["TTT"][0] >= PAPER["plain"][PAPER["n"].index(n)] - below


@plotting.in_style()
def draw(rows: list[dict[str, Any]]) -> Figure:
    """Mean accuracy against n, with the forest and boosting of all rows; below, TTT less plain and its 95% band."""
    seeds = len({row["seed"] for row in rows})
    rows = without(rows, unfinished(rows))
    rows = without(rows, left_out({row["table"] for row in rows}))
    figure = plotting.blank(plotting.WIDTH, 3.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
    handles = {}
    for method, style in STYLES.items():
        lengths, values = curve(rows, method)
        (handles[method],) = above.plot(lengths, values.mean(0), **style)
    every = {}
    for method in ("random forest", "gradient boosting"):
        lengths, values = curve(rows, method)
        style = {name: STYLES[method][name] for name in ("color", "linestyle")}
        every[f"{method}, all {lengths[-1]:,} rows"] = above.axhline(values.mean(0)[-1], linewidth=0.6, **style)
    gain = curve(rows, "TTT")[1] - curve(rows, "plain")[1]
    below.plot(lengths, gain.mean(0), **STYLES["TTT"])
    if len(gain) > 1:
        mean, half = gain.mean(0), half_interval(gain)
        below.fill_between(lengths, mean - half, mean + half, alpha=0.2, color=STYLES["TTT"]["color"], linewidth=0)
    below.axhline(0, color=plotting.GREY, linewidth=0.6)
    above.set(xscale="log", ylabel="mean accuracy")
    figure.suptitle(f"{counted(len(gain), 'real table')}, {counted(seeds, 'seed')}; band: 95% over tables", fontsize=8)
    below.set(xlabel="context length n", ylabel="TTT - plain")
    shown = lengths[::2]
    below.set_xticks(shown, [str(n) for n in shown])
    below.xaxis.minorticks_off()
    plotting.below(figure, handles, every)
    return figure


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a finished or interrupted run."""
    numbers = {"accuracy": float, "seconds": float, "table": str, "method": str}
    with file.open(newline="") as stream:
        return [{name: numbers.get(name, int)(row[name]) for name in COLUMNS} for row in csv.DictReader(stream)]


def main(argv: list[str] | None = None) -> int:
    """Print the report of a file and draw its figure; 2 with one line for bad input."""
    parser = OneLineParser(
        prog="python -m experiments.fig3a_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", type=Path, default=RECORD, metavar="CSV", help="default: the record")
    parser.add_argument("--more", type=Path, metavar="CSV", help="another run of some of its cells, to compare TTT")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the figure too")
    arguments = parser.parse_args(argv)

    def read(file: Path) -> list[dict[str, Any]]:
        try:
            rows = read_rows(file)
        except OSError as error:
            parser.error(str(error))
        except (KeyError, ValueError, TypeError):
            rows = []
        if not rows:
            parser.error(f"{file}: no results of python -m experiments fig3a")
        return rows

    rows, more = read(arguments.file), ""
    if arguments.more:
        try:
            more = f"\n\n{more_updates(rows, read(arguments.more))}"
        except ValueError as error:
            parser.error(f"--more {arguments.more}: {error}")
    emit(report(rows) + more)
    if arguments.figure:
        draw(rows).savefig(arguments.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
