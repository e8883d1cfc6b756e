"""Figures: theory as lines, Monte Carlo as markers with error bars. Readable in grey and in print."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttt_jax.verdict.outcome import Check, CheckRow

__all__ = ["HeatMap", "Series", "draw", "draw_check", "draw_heat_maps", "draw_values"]

COLOURS = ("#0b2545", "#b23a0e", "#5f9e35", "#8f63c0", "#c99a00", "#8c8c8c")
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True, eq=False)
class Series:
    """One quantity of a figure.

    Args:
        label: its name in the legend.
        x: positions of the theory lines.
        exact: exact values at x, a solid line; None for none.
        approximate: approximate values at x, a dashed line; None for none.
        points: positions of the Monte Carlo markers.
        means: Monte Carlo means at these positions.
        stderrs: their standard errors; the bars show two of them.
        drawn: positions and values, as pairs, that are read off a published figure; crosses.
    """

    label: str
    x: ArrayLike
    exact: ArrayLike | None
    approximate: ArrayLike | None = None
    points: ArrayLike = ()
    means: ArrayLike = ()
    stderrs: Sequence[float] = ()
    drawn: Sequence[tuple[float, float]] = ()


def draw(
    series: Sequence[Series], *, x_label: str, y_label: str, title: str = "", approximate_label: str = "approximate"
) -> Figure:
    """A figure of several series on the same axes, with one legend for what is drawn and one for how.

    Example:
        >>> figure = draw([Series("warm start", [1, 2], [0.5, 0.4])], x_label="k / d", y_label="risk")
        >>> len(figure.axes)
        1
    """
    from matplotlib.lines import Line2D

    figure = _blank(6.4, 4.4)
    axes = figure.add_subplot()
    for i, one in enumerate(series):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        if one.exact is not None:
            axes.plot(one.x, one.exact, color=colour, lw=1.6)
        if one.approximate is not None:
            axes.plot(one.x, one.approximate, color=colour, lw=1.1, ls=(0, (4, 2)))
        bars = [2 * stderr for stderr in one.stderrs] or None
        style: dict[str, Any] = {"marker": marker, "ms": 5, "mfc": "white", "mec": colour, "mew": 1.2}
        axes.errorbar(one.points, one.means, bars, color=colour, ls="none", capsize=2.5, lw=1.0, **style)
        for point in one.drawn:
            axes.plot(*point, color=colour, ls="none", marker="x", ms=8, mew=1.8, zorder=3)
        line: dict[str, Any] = {
            "color": colour,
            "lw": 1.6,
            "ls": "--" if one.exact is None else "-",
            "label": one.label,
        }
        axes.plot([], [], **line, **(style if len(np.atleast_1d(one.points)) else {}))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_ylim(bottom=0)
    how = []
    if any(one.exact is not None for one in series):
        how.append(Line2D([], [], color="black", lw=1.6, label="exact"))
    if any(one.approximate is not None for one in series):
        how.append(Line2D([], [], color="black", lw=1.1, ls=(0, (4, 2)), label=approximate_label))
    if any(len(one.stderrs) for one in series):
        label = "Monte Carlo, bars: 2 standard errors"
        how.append(Line2D([], [], color="black", ls="none", marker="o", ms=5, mfc="white", label=label))
    if any(len(one.drawn) for one in series):
        how.append(Line2D([], [], color="black", ls="none", marker="x", ms=8, mew=1.8, label="drawn in the paper"))
    axes.legend(loc="best", fontsize=8)
    figure.legend(handles=how, loc="outside lower center", ncols=2 if len(how) > 3 else 3, fontsize=8, frameon=False)
    return figure


@dataclass(frozen=True, eq=False)
class HeatMap:
    """One quantity over a grid of two others.

    Args:
        label: its name, above the map.
        values: (Y, X), a row per y from the smallest; nan where there is none, left white.
        limits: the ends of the scale; None for the smallest and the largest of the values.
        words: what the values 0, 1, ... mean, where they are not a quantity.
    """

    label: str
    values: Float[np.ndarray, "Y X"]
    limits: tuple[float | None, float | None] = (None, None)
    words: tuple[str, ...] = ()


def draw_heat_maps(
    maps: Sequence[HeatMap], x: Sequence[float], y: Sequence[float], x_label: str, y_label: str, *, title: str = ""
) -> Figure:
    """Maps over the same grid side by side, with cells of equal size whatever the steps of x and y.

    Example:
        >>> figure = draw_heat_maps([HeatMap("gain", np.eye(2))], [1, 2], [3, 4], "k / d", "n / d")
        >>> len(figure.axes)  # the map and its scale
        2
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    columns = min(len(maps), 2)
    lines = -(-len(maps) // columns)
    figure = _blank(4.6 * columns, 3.9 * lines)
    figure.suptitle(title, fontsize=10)
    for i, one in enumerate(maps, start=1):
        axes = figure.add_subplot(lines, columns, i)
        low, high = one.limits
        if one.words:
            colours = ListedColormap(("#d8c9a6", *COLOURS)[: len(one.words)])
            axes.imshow(one.values, origin="lower", aspect="auto", cmap=colours, vmin=-0.5, vmax=len(one.words) - 0.5)
            patches = [Patch(color=colours(j), label=word) for j, word in enumerate(one.words)]
            axes.legend(handles=patches, loc="upper right", fontsize=8)
        else:
            image = axes.imshow(one.values, origin="lower", aspect="auto", cmap="cividis", vmin=low, vmax=high)
            figure.colorbar(image, ax=axes, extend="neither" if low is None or low <= np.nanmin(one.values) else "min")
        axes.set_title(one.label, fontsize=9)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        for axis, values in ((axes.xaxis, x), (axes.yaxis, y)):
            places = range(0, len(values), -(-len(values) // 8))
            axis.set_ticks(list(places), [f"{values[j]:.3g}" for j in places], fontsize=8)
    return figure


def _blank(width: float, height: float) -> Figure:
    """An empty figure that a notebook shows; pyplot, which would do that, keeps every figure in memory."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            self.savefig(buffer := io.BytesIO(), format="png")
            return buffer.getvalue()

    return Shown(figsize=(width, height), layout="constrained", dpi=150)


def draw_check(check: Check, *, title: str = "") -> Figure:
    """The relative error of a claim, |claimed / exact - 1|, against d, with the slope -1 where n/d and k/d are fixed.

    Bars are two standard errors of the simulated value about its own error, on the same scale; what is not positive
    lies below the axis. Without exact values the simulated ones take their place.

    Args:
        check: a result of `ttt_jax.check`.
        title: of the figure.

    Raises:
        ValueError: the check has neither exact nor simulated values that differ from the claim.

    Example:
        >>> from ttt_jax import Problem, check
        >>> problems = [Problem(d, d, np.ones(d) / d**0.5) for d in (8, 16)]
        >>> wrong = check(lambda n, d: d / (n + d), problems, quantity="initial", approximate=True, num_tasks=0)
        >>> [line.get_label() for line in draw_check(wrong).axes[0].lines]
        ['against exact', 'slope -1']
    """
    from ttt_jax.verdict.quantities import ROUNDING

    figure = _blank(5.4, 4.0)
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="d", ylabel="relative error of the claim", title=title)
    sizes = np.array([row.d for row in check.rows], dtype=float)
    exact = np.array([row.relative_error for row in check.rows])
    simulated = np.array([abs(row.claimed / row.estimate - 1) for row in check.rows])
    stderr = np.array([abs(row.stderr / row.estimate) for row in check.rows])
    if np.isfinite(exact).any():
        axes.plot(sizes, exact, color=COLOURS[0], marker="o", mfc="white", lw=1.6, label="against exact")
    reference = np.where(np.isfinite(exact), exact, simulated)
    if not (reference > ROUNDING).any():
        raise ValueError("check has no error to draw: the claim is exact, or nothing was compared")
    first = np.flatnonzero(reference > 0)[0]
    axes.plot(sizes, reference[first] * sizes[first] / sizes, color="#888888", ls=":", lw=1.2, label="slope -1")
    if np.isfinite(simulated).any():
        below = np.minimum(2 * stderr, 0.999 * simulated)
        axes.errorbar(
            sizes, simulated, (below, 2 * stderr), color=COLOURS[1], marker="s", mfc="white", ls="none", capsize=2.5,
            label="against simulation, 2 standard errors",
        )  # fmt: skip
    axes.set_ylim(bottom=reference[reference > ROUNDING].min() / 10)
    axes.set_xticks(sizes, [f"{d:g}" for d in sizes])
    axes.xaxis.minorticks_off()
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25, lw=0.6, which="both")
    return figure


def draw_values(check: Check, *, title: str = "") -> Figure:
    """The claimed values of a check against the exact and the simulated ones, row by row.

    Of a claim about signs the difference of the two risks, which is to be below 0 where the first is said to be better.

    Args:
        check: a result of `ttt_jax.check`.
        title: of the figure.

    Example:
        >>> from ttt_jax import Problem, check
        >>> right = check(lambda n, d: (d + 1) / (n + d + 1), [Problem(4, 4, [1.0])], quantity="initial", num_tasks=0)
        >>> [text.get_text() for text in draw_values(right).axes[0].get_legend().get_texts()]
        ['claimed', 'exact']
    """
    figure = _blank(6.4, 4.4)
    axes = figure.add_subplot(ylabel=check.quantity, title=title)
    rows, places = check.rows, np.arange(len(check.rows))
    claimed, exact, simulated, stderr = np.array([(r.claimed, r.exact, r.estimate, r.stderr) for r in rows], float).T
    says = {"==": "claimed", "<=": "claimed upper bound", ">=": "claimed lower bound"}
    if check.relation == "iff":
        axes.set_ylabel(f"{check.quantity}, first minus second")
        for side, marker in ((-1, "v"), (1, "^")):
            own = [place for place, row in zip(places, rows, strict=True) if row.side == side]
            label = f"claimed {'below' if side < 0 else 'above'} 0"
            axes.plot(own, np.zeros(len(own)), color="#888888", marker=marker, ms=9, ls="none", label=label)
        axes.axhline(0, color="#888888", lw=1.0)
    else:
        axes.plot(places, claimed, color="black", marker="_", ms=18, mew=1.8, ls="none", label=says[check.relation])
    if np.isfinite(exact).any():
        axes.plot(places, exact, color=COLOURS[0], marker="x", ms=7, mew=1.8, ls="none", label="exact")
    if np.isfinite(simulated).any():
        style: dict[str, Any] = {"color": COLOURS[1], "marker": "s", "mfc": "white", "ls": "none", "capsize": 2.5}
        axes.errorbar(places + 0.08, simulated, 2 * stderr, label="simulated, 2 standard errors", **style)
    finite = np.concatenate([values[np.isfinite(values)] for values in (claimed, exact, simulated)])
    if finite.min() > 0 and finite.max() > 30 * finite.min():
        axes.set_yscale("log")
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_xticks(places, [_place(row, check.along) for row in rows], fontsize=max(4, 9 - len(rows) // 2))
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(fontsize=8)
    return figure


def _place(row: CheckRow, along: str | None) -> str:
    """The parameters and sizes of a row, on lines of their own, without a size that varies."""
    sizes = {"n": row.n, "k": row.k, "d": row.d} | dict(row.parameters)
    values = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in sizes.items()}
    text = "\n".join(f"{name} {value}" for name, value in values.items() if name != along)
    return text.replace("$", r"\$")  # not the beginning of a formula
