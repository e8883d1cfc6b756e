"""Figures fit for print, one column wide: theory as lines, simulation as markers with bars; readable in grey."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttt_jax.verdict.outcome import Check, CheckRow

__all__ = ["HeatMap", "Series", "draw", "draw_check", "draw_heat_maps", "draw_panels", "draw_values"]

COLOURS = ("#0b2545", "#c4450c", "#6aa63c", "#5b2f91", "#d1a000", "#8c8c8c", "#2a5f9e", "#5b95cf", "#9cc3e6")
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "<", ">")
WIDTH = 3.3
"""Inches: one column of two."""
DASHES, DOTS = (0, (3.5, 1.5)), (0, (1, 1.2))
GREY = "#555555"
CROSS: dict[str, Any] = {"ls": "none", "marker": "x", "ms": 2.6, "mew": 0.6, "zorder": 2.5}
HOLLOW: dict[str, Any] = {"ls": "none", "mfc": "white", "elinewidth": 0.8, "zorder": 3}
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.8,
    "lines.markeredgewidth": 0.9,
    "errorbar.capsize": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "pdf.fonttype": 42,
}
"""What all figures have in common, as settings of matplotlib."""

References = Mapping[str, tuple[ArrayLike, ArrayLike]]


@contextmanager
def in_style() -> Iterator[None]:
    """The style, for figures that are made inside; also a decorator."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


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
        drawn: positions and values, as pairs, of a published figure: small crosses.
        look: its place among the colours and markers; None for its place in the figure.
    """

    label: str
    x: ArrayLike
    exact: ArrayLike | None
    approximate: ArrayLike | None = None
    points: ArrayLike = ()
    means: ArrayLike = ()
    stderrs: Sequence[float] = ()
    drawn: ArrayLike = ()
    look: int | None = None


@in_style()
def draw(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    approximate_label: str = "approximate",
    references: References | None = None,
    differences: bool = False,
) -> Figure:
    """A figure of several series on the same axes, with a legend below of what is drawn and how.

    Args:
        series: at most nine.
        x_label: of the axis.
        y_label: of the axis.
        title: of the figure.
        approximate_label: what the dashed lines are.
        references: further lines (x, y) by name, dotted; the axes end where the series do.
        differences: the same once more below, minus the exact lines.

    Example:
        >>> figure = draw([Series("warm start", [1, 2], [0.5, 0.4])], x_label="k / d", y_label="risk")
        >>> len(figure.axes)
        1
    """
    references = references or {}
    figure = blank(WIDTH, 2.1 + 0.8 * differences)
    heights = (5, 2) if differences else (1,)
    places = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _draw_series(places[0], series, references)
    places[0].set_ylabel(y_label)
    if differences:
        _draw_series(places[1], [_less_exact(one) for one in series], {})
        places[1].set_ylabel("minus exact")
    places[-1].set_xlabel(x_label)
    _finish(figure, series, title, approximate_label, references)
    return figure


@in_style()
def draw_panels(
    panels: Mapping[str, Sequence[Series]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    approximate_label: str = "approximate",
    references: References | None = None,
    share_y: bool = True,
) -> Figure:
    """`draw` with axes beside each other, by their titles; series of one label are one entry of the legend.

    Example:
        >>> panels = {name: [Series("warm", [1, 2], [0.5, 0.4])] for name in ("new context", "same context")}
        >>> [axes.get_title() for axes in draw_panels(panels, x_label="k / d", y_label="risk").axes]
        ['new context', 'same context']
    """
    references = references or {}
    figure = blank(WIDTH, 2.1)
    places = figure.subplots(1, len(panels), sharey=share_y, squeeze=False)[0]
    for axes, (name, series) in zip(places, panels.items(), strict=True):
        _draw_series(axes, series, references)
        axes.set(title=name, xlabel=x_label)
    everything = [one for series in panels.values() for one in series]
    if share_y:
        places[0].set_ylim(_limits(everything))
    places[0].set_ylabel(y_label)
    _finish(figure, everything, title, approximate_label, references)
    return figure


def look(one: Series, place: int) -> tuple[str, str]:
    """The colour and the marker of a series at this place of a figure."""
    i = place if one.look is None else one.look
    return COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]


def _draw_series(axes: Any, series: Sequence[Series], references: References) -> None:
    for i, one in enumerate(series):
        colour, marker = look(one, i)
        if one.exact is not None:
            axes.plot(one.x, one.exact, color=colour)
        if one.approximate is not None:
            axes.plot(one.x, one.approximate, color=colour, lw=1.0, ls=DASHES)
        if np.size(one.drawn):
            axes.plot(*_pairs(one.drawn).T, color=colour, **CROSS)
        bars = [2 * stderr for stderr in one.stderrs] or None
        axes.errorbar(one.points, one.means, bars, color=colour, marker=marker, **HOLLOW)
    low, high = _limits(series)
    for x, y in references.values():
        if np.sum((np.asarray(y) >= low) & (np.asarray(y) <= high)) > 1:
            axes.plot(x, y, color=GREY, lw=1.0, ls=DOTS, zorder=1.5)
    axes.set_ylim(low, high)


def _pairs(drawn: Any) -> Float[np.ndarray, "points 2"]:
    return np.asarray(drawn, float).reshape(-1, 2)


def _less_exact(one: Series) -> Series:
    """The series with its exact line as the zero."""
    x, exact = np.asarray(one.x, float), np.asarray(one.exact, float)
    order = np.argsort(x)

    def less(at: Any, values: Any) -> Float[np.ndarray, " points"]:
        return np.asarray(values, float) - np.interp(np.asarray(at, float), x[order], exact[order])

    drawn = _pairs(one.drawn)
    return replace(
        one,
        exact=0 * exact,
        approximate=None if one.approximate is None else less(x, one.approximate),
        means=less(one.points, one.means),
        drawn=np.column_stack([drawn[:, 0], less(*drawn.T)]),
    )


def _limits(series: Sequence[Series]) -> tuple[float, float]:
    """Where the values of these series lie, with a margin; from 0 on where that is near."""
    parts = []
    for one in series:
        parts += [line for line in (one.exact, one.approximate) if line is not None]
        bars = 2 * np.asarray(one.stderrs, float) if len(one.stderrs) else 0.0
        parts += [np.asarray(one.means, float) - bars, np.asarray(one.means, float) + bars, _pairs(one.drawn)[:, 1]]
    values = np.concatenate([np.asarray(part, float).ravel() for part in parts])
    if not np.isfinite(values).any():
        return 0.0, 1.0
    low, high = (float(end(values[np.isfinite(values)])) for end in (np.min, np.max))
    margin = 0.04 * (high - low or abs(high) or 1.0)
    return (0.0 if 0 <= low < 0.15 * high else low - margin), high + margin


def _finish(
    figure: Figure, series: Sequence[Series], title: str, approximate_label: str, references: References
) -> None:
    """The title, and the legend: what is drawn in its left column, how in the right one."""
    from matplotlib.lines import Line2D

    what: dict[str, Any] = {}
    for i, one in enumerate(series):
        colour, marker = look(one, i)
        with_points = marker if np.size(one.points) else None
        line = Line2D([], [], color=colour, marker=with_points, mfc="white", ls=DASHES if one.exact is None else "-")
        what.setdefault(one.label, line)
    how: dict[str, Any] = {}
    if any(one.exact is not None for one in series):
        how["exact"] = Line2D([], [], color="black")
    if any(one.approximate is not None for one in series):
        how[approximate_label] = Line2D([], [], color="black", lw=1.0, ls=DASHES)
    if any(len(one.stderrs) for one in series):
        how["simulated, 2 standard errors"] = Line2D([], [], color="black", ls="none", marker="o", mfc="white")
    if any(np.size(one.drawn) for one in series):
        how["drawn in the paper"] = Line2D([], [], color="black", **CROSS)
    if any(line.get_color() == GREY for axes in figure.axes for line in axes.lines):
        how |= {label: Line2D([], [], color=GREY, lw=1.0, ls=DOTS) for label in references}
    below(figure, what, how)
    figure.suptitle(textwrap.fill(title.replace(" = ", "\u00a0=\u00a0"), 56), fontsize=8)


def below(figure: Figure, *columns: Mapping[str, Any]) -> None:
    """A legend below the axes, outside of them, in columns of handles by label; the figure grows by its height."""
    from matplotlib.lines import Line2D

    lines = max(map(len, columns))
    empty = Line2D([], [], ls="none")
    filled = [[*column.items(), *[("", empty)] * lines][:lines] for column in columns]
    labels, handles = zip(*(entry for column in filled for entry in column), strict=True)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(columns), columnspacing=1.2, labelspacing=0.3)
    figure.set_figheight(figure.get_figheight() + 0.14 * lines)


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


@in_style()
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
    figure = blank(WIDTH * columns, 2.8 * lines)
    figure.suptitle(title, fontsize=8)
    for i, one in enumerate(maps, start=1):
        axes = figure.add_subplot(lines, columns, i)
        low, high = one.limits
        if one.words:
            colours = ListedColormap(("#d8c9a6", *COLOURS)[: len(one.words)])
            axes.imshow(one.values, origin="lower", aspect="auto", cmap=colours, vmin=-0.5, vmax=len(one.words) - 0.5)
            patches = [Patch(color=colours(j), label=word) for j, word in enumerate(one.words)]
            axes.legend(handles=patches, loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=2)
        else:
            image = axes.imshow(one.values, origin="lower", aspect="auto", cmap="cividis", vmin=low, vmax=high)
            figure.colorbar(image, ax=axes, extend="neither" if low is None or low <= np.nanmin(one.values) else "min")
        axes.set_title(one.label)
        axes.grid(visible=False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        for axis, values in ((axes.xaxis, x), (axes.yaxis, y)):
            places = range(0, len(values), -(-len(values) // 8))
            axis.set_ticks(list(places), [f"{values[j]:.4g}" for j in places])
    return figure


def blank(width: float, height: float) -> Figure:
    """An empty figure that a notebook shows; pyplot, which would do that, keeps every figure in memory."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            self.savefig(buffer := io.BytesIO(), format="png", dpi=200)
            return buffer.getvalue()

    return Shown(figsize=(width, height), layout="constrained", dpi=300)


@in_style()
def draw_check(check: Check, *, title: str = "") -> Figure:
    """The relative error of a claim, |claimed / exact - 1|, against d, beside the slope -1 of fixed n/d and k/d.

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

    figure = blank(WIDTH, 2.6)
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="d", ylabel="relative error of the claim", title=title)
    sizes = np.array([row.d for row in check.rows], dtype=float)
    exact = np.array([row.relative_error for row in check.rows])
    simulated = np.array([abs(row.claimed / row.estimate - 1) for row in check.rows])
    stderr = np.array([abs(row.stderr / row.estimate) for row in check.rows])
    if np.isfinite(exact).any():
        axes.plot(sizes, exact, color=COLOURS[0], marker="o", mfc="white", label="against exact")
    reference = np.where(np.isfinite(exact), exact, simulated)
    if not (reference > ROUNDING).any():
        raise ValueError("check has no error to draw: the claim is exact, or nothing was compared")
    first = np.flatnonzero(reference > 0)[0]
    axes.plot(sizes, reference[first] * sizes[first] / sizes, color="#888888", ls=":", lw=1.2, label="slope -1")
    if np.isfinite(simulated).any():
        shorter = np.minimum(2 * stderr, 0.999 * simulated)
        label, bars = "against simulation, 2 standard errors", (shorter, 2 * stderr)
        axes.errorbar(sizes, simulated, bars, color=COLOURS[1], marker="s", label=label, **HOLLOW)
    axes.set_ylim(bottom=reference[reference > ROUNDING].min() / 10)
    axes.set_xticks(sizes, [f"{d:g}" for d in sizes])
    axes.xaxis.minorticks_off()
    axes.legend()
    return figure


@in_style()
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
    figure = blank(max(WIDTH, min(0.6 * len(check.rows), 2 * WIDTH)), 2.6)
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
        label = "simulated, 2 standard errors"
        axes.errorbar(places + 0.08, simulated, 2 * stderr, color=COLOURS[1], marker="s", label=label, **HOLLOW)
    finite = np.concatenate([values[np.isfinite(values)] for values in (claimed, exact, simulated)])
    if finite.min() > 0 and finite.max() > 30 * finite.min():
        axes.set_yscale("log")
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_xticks(places, [_place(row, check.along) for row in rows], fontsize=max(4, 7 - len(rows) // 4))
    axes.legend()
    return figure


def _place(row: CheckRow, along: str | None) -> str:
    """The parameters and sizes of a row, on lines of their own, without a size that varies."""
    sizes = {"n": row.n, "k": row.k, "d": row.d} | dict(row.parameters)
    values = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in sizes.items()}
    text = "\n".join(f"{name} {value}" for name, value in values.items() if name != along)
    return text.replace("$", r"\$")  # not the beginning of a formula
