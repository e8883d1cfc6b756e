"""After finite pretraining: the risk against the number of prompts, before and after a TTT step, and who wins.

Isotropic and noiseless, W by least squares (of least norm) on theta d^2 prompts of one query each. Top, n = k = d: the
risk peaks where there are as many prompts as entries of W, before and after the step. Below, left: the k/d up to which
a trained W beats W = 0 after the step with a new context; for |theta - 1| < d/n it does so nowhere. Right: how slowly
the leading order is reached. Dashed: the leading order. Markers: exact risks of weights that were really trained, on
average over these and over the direction of the task, bars: two standard errors over the weights. In the table, one W
for each theta, simulated against its own exact risk, with the leading order beside it. Risks are in units of |b|^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.figure import BLUES, Point, Result, run_cells
from ttt_jax import Pretraining, Problem, exact_risk, plotting, trained_weights
from ttt_jax._internal.progress import progress_bar
from ttt_jax.plotting import COLOURS, HOLLOW, MARKERS
from ttt_jax.theory.decisions import warm_or_cold
from ttt_jax.theory.finite_pretraining import finite_pretraining_risk, finite_pretraining_switch

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"d": 24, "sizes": (8, 12, 16, 24), "repeats": 16, "normals": 4e7},
    "paper": {"d": 48, "sizes": (8, 12, 16, 24, 32, 48), "repeats": 32, "normals": 1e9},
}
RATIOS = 0.25, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0, 6.0
CURVES = {
    "before TTT": ("fresh", "initial"),
    "after TTT, new context": ("fresh", "optimal"),
    "after TTT, same context": ("same", "optimal"),
}
SWITCHES = {1: (2.5, 3.0, 4.0, 6.0), 2: (0.25, 1.75, 2.0, 3.0, 4.0, 6.0)}
"""n/d, and the theta at which a trained W is compared with W = 0."""
RATES = 1.5, 2.0, 3.0, 6.0
"""The theta whose error is drawn against d."""
LOOKS = 0, 4, 7
"""Places of the colours: before TTT, new context, same context."""
LINE = np.concatenate([np.linspace(0.05, 0.96, 92), np.linspace(1.04, 6.5, 274)])


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    d, sizes, repeats = (PRESETS[preset][name] for name in ("d", "sizes", "repeats"))
    trained = train_all(d, sizes, repeats, seed)
    cells = [cell(name, theta, d, trained[1, theta, d][0]) for name in CURVES for theta in RATIOS]
    return run_cells(cells, normals=PRESETS[preset]["normals"], seed=seed, title="finite_pretraining")


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    d, sizes, repeats = (PRESETS[preset][name] for name in ("d", "sizes", "repeats"))
    figure, notes = draw_all(d, sizes, train_all(d, sizes, repeats, rows[0]["seed"]))
    return Result("finite_pretraining", rows, figure, notes)


@cache
def train_all(d: int, sizes: tuple[int, ...], repeats: int, seed: int) -> dict[tuple, list]:
    """The weights for every (n/d, theta, d) of the figure."""
    train = partial(train_weights, repeats=repeats, largest=max(sizes), seed=seed)
    jobs = {(1, theta, d) for theta in RATIOS} | {(a, theta, d) for a, at in SWITCHES.items() for theta in at}
    jobs |= {(1, theta, size) for theta in RATES for size in sizes}
    return {job: train(*job) for job in progress_bar(sorted(jobs), "finite_pretraining, trained weights")}


def draw_all(d: int, sizes: Sequence[int], trained: dict[tuple, list]) -> tuple[Any, list[str]]:
    """Three panels: the risk, the switch, the error of the leading order; and what to say of the last."""
    with plotting.in_style():
        figure = plotting.blank(plotting.WIDTH, 4.6)
        axes = figure.subplot_mosaic([["risk", "risk"], ["switch", "rate"]], height_ratios=[1.15, 1])
        draw_risk(axes["risk"], d, trained)
        draw_switch(axes["switch"], d, trained)
        notes = draw_rate(axes["rate"], sizes, trained)
        figure.suptitle("TTT after pretraining on θ d² prompts, isotropic, noiseless", fontsize=8)
        how = f"dashed: leading order; markers: trained W, exact,\nd = {d} unless on the axis; bars: 2 standard errors"
        figure.supxlabel(how, fontsize=7)
    return figure, notes


def problem(a: float, d: int, evaluation: str, k: int | None = None) -> Problem:
    """A task between the axes, n = a d, k = d."""
    return Problem(round(a * d), k or d, np.ones(d) / d**0.5, evaluation=evaluation)


def train_weights(
    a: float, theta: float, d: int, *, repeats: int, largest: int, seed: int
) -> list[Float[np.ndarray, "d d"]]:
    """Weights from prompts of their own each, more of them where d is small."""
    law = Pretraining(round(a * d), task_cov=1 / d, d=d)
    seeds = np.random.SeedSequence([seed, round(100 * a), round(100 * theta), d])
    states = seeds.generate_state(repeats * (largest // d) ** 2).tolist()
    return [trained_weights(law, round(theta * d**2), seed=state) for state in states]


def averaged(weights: Sequence[Float[np.ndarray, "d d"]]) -> Float[np.ndarray, " d"]:
    """A diagonal W whose risk on a task between the axes is the average over these W and tasks along the axes, d even.

    The coefficients of the risk are linear in b'Wb, |Wb|^2 and |W|_F^2 (claim `theorem_5_3`), and so are averages.
    """
    d = len(weights[0])
    mean, square = np.mean([(np.trace(w) / d, np.sum(w**2) / d) for w in weights], axis=0)
    return mean + np.sqrt(square - mean**2) * (-1) ** np.arange(d)


def cell(name: str, theta: float, d: int, weights: Float[np.ndarray, "d d"]) -> Point:
    """One trained W, simulated."""
    evaluation, key = CURVES[name]
    one = problem(1, d, evaluation)
    lr = exact_risk(one, weights).optimal_lr if key == "optimal" else 0.0
    return Point(name, theta, one, weights, lr, leading(1, theta, d, evaluation, key))


def leading(a: float, theta: float, d: int, evaluation: str, key: str) -> float:
    """The leading order, which n/d, k/d and theta decide."""
    return float(getattr(finite_pretraining_risk(problem(a, d, evaluation), round(theta * d**2)), key))


def of_trained(weights: Sequence[Float[np.ndarray, "d d"]], evaluation: str, key: str) -> tuple[float, float]:
    """The mean of the exact risks of these W and its standard error, n = k = d."""
    one = problem(1, len(weights[0]), evaluation)
    risks = [getattr(exact_risk(one, averaged([w])), key) for w in weights]
    return float(np.mean(risks)), float(np.std(risks) / np.sqrt(len(risks)))


def style(look: int) -> dict[str, Any]:
    """The markers of a series."""
    return {"color": COLOURS[look], "marker": MARKERS[look], **HOLLOW}


def draw_risk(axes: Any, d: int, trained: dict[tuple, list]) -> None:
    """The risk against theta."""
    for look, (name, which) in zip(LOOKS, CURVES.items(), strict=True):
        line = [leading(1, theta, 10_000, *which) for theta in LINE]
        axes.plot(LINE, np.where(LINE < 1, line, np.nan), color=COLOURS[look], lw=1.0, ls=plotting.DASHES)
        axes.plot(LINE, np.where(LINE > 1, line, np.nan), color=COLOURS[look], lw=1.0, ls=plotting.DASHES)
        means, stderrs = zip(*(of_trained(trained[1, theta, d], *which) for theta in RATIOS), strict=True)
        axes.errorbar(RATIOS, means, 2 * np.array(stderrs), label=name, **style(look))
    axes.axhline(1, color="black", lw=0.8, ls=":")
    axes.annotate("W = 0 before TTT", (6.5, 1), (0, 3), textcoords="offset points", ha="right", fontsize=7)
    axes.set(xlabel="pretraining prompts / d², θ", ylabel="risk / |b|²", ylim=(0, 4), xlim=(0, 6.6))
    axes.set_title("n = k = d")
    axes.legend()


def draw_switch(axes: Any, d: int, trained: dict[tuple, list]) -> None:
    """Below the lines a trained W wins, above them W = 0."""
    theta = np.linspace(0.02, 6.5, 400)
    for look, (a, at) in zip(LOOKS, SWITCHES.items(), strict=False):
        switch = [finite_pretraining_switch(a, t) for t in theta]
        axes.plot(theta, switch, color=COLOURS[look], lw=1.0, ls=plotting.DASHES)
        axes.fill_between(theta, switch, color=COLOURS[look], alpha=0.08, lw=0)
        found = [trained_switch(a, d, trained[a, t, d]) for t in at]
        axes.errorbar(at, found, label="n = d" if a == 1 else f"n = {a}d", **style(look))
    axes.set(xlabel="θ", ylabel="k / d", xlim=(0, 6.6), ylim=(0, 3.2))
    axes.set_title("W wins below the line")
    axes.legend(loc="upper left")


def trained_switch(a: float, d: int, weights: Sequence[Float[np.ndarray, "d d"]]) -> float:
    """The k/d from which W = 0 has the lower risk, by the exact risk averaged over these W."""
    answer = warm_or_cold(problem(a, d, "fresh", k=1), averaged(weights))
    return 0.0 if answer.better == "cold" or answer.switch is None else answer.switch / d


def draw_rate(axes: Any, sizes: Sequence[int], trained: dict[tuple, list]) -> list[str]:
    """The relative error of the leading order after the step with a new context against d, and what to say of it."""
    which = CURVES["after TTT, new context"]
    notes = []
    for look, theta in zip(BLUES, RATES, strict=True):
        means, stderrs = np.array([of_trained(trained[1, theta, size], *which) for size in sizes]).T
        errors = 1 - leading(1, theta, max(sizes), *which) / means
        axes.errorbar(sizes, errors, 2 * stderrs / means, label=f"θ = {theta:g}", **style(look))
        axes.plot(sizes, errors[0] * sizes[0] / np.array(sizes), color=COLOURS[look], lw=0.8, ls=":")
        shown = ", ".join(f"{100 * e:.0f}% ({e * size:.1f})" for e, size in zip(errors, sizes, strict=True))
        notes.append(f"after TTT, new context, theta = {theta:g}: the leading order is below by (times d) {shown}")
    axes.set(xscale="log", yscale="log", xlabel="d", ylabel="relative error", ylim=(0.02, 0.7))
    axes.set_xticks(sizes, [str(d) for d in sizes])
    axes.set_yticks([0.05, 0.1, 0.2, 0.5], ["5%", "10%", "20%", "50%"])
    axes.minorticks_off()
    axes.set_title("dotted: slope -1")
    axes.legend(ncols=2, loc="lower left", columnspacing=0.5, handletextpad=0.2)
    return [f"d = {list(sizes)}", *notes]
