"""Sample complexity: the labelled pairs needed for a risk of .2 |b|^2 against d, with and without TTT.

Isotropic and noiseless. Without TTT the pretrained model needs a context n proportional to d. With one best TTT step
from W = 0 and enough training queries k, a new context at inference needs n of order sqrt(d) only, and the context of
TTT used again a number that does not grow. Counted as n + k, all are of order d. Lines and markers are exact; the table
simulates the risk at these n (without TTT; with k = 16 d for a new context, so that it is above .2) and at the smallest
n + k. Dotted: slopes 1 and 1/2.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from experiments.figure import Point, Result, run_cells
from ttt_jax import Problem, exact_risk, plotting
from ttt_jax.plotting import Series
from ttt_jax.theory.decisions import SampleComplexity, sample_complexity

TARGET = 0.2
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"sizes": (32, 64, 128, 256, 512), "simulated": (32, 64, 128), "normals": 2e8},
    "paper": {"sizes": (32, 64, 128, 256, 512, 1024, 2048), "simulated": (32, 64, 128, 256, 512), "normals": 3e9},
}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of the preset."""
    cells = [cell(name, d) for name in SIMULATED for d in PRESETS[preset]["simulated"]]
    return run_cells(cells, normals=PRESETS[preset]["normals"], seed=seed, title="sample_complexity")


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    sizes = PRESETS[preset]["sizes"]
    fresh, same = ([needed(d, evaluation) for d in sizes] for evaluation in ("fresh", "same"))
    counts: dict[str, list[Any]] = {
        "without TTT: n": [one.without_ttt for one in fresh],
        "TTT, new context: n + k": [pairs(one) for one in fresh],
        "TTT, same context: n + k": [pairs(one) for one in same],
        "TTT, new context: n, any k": [one.context for one in fresh],
        "TTT, same context: n, any k": [one.context for one in same],
    }
    lines = zip(counts.items(), (0, 1, 3, 4, 2), strict=True)
    series = [Series(name, sizes, values, points=sizes, means=values, look=look) for (name, values), look in lines]
    figure = plotting.draw(
        series,
        x_label="number of features d",
        y_label=f"pairs for a risk of {TARGET} |b|²",
        title="Sample complexity, isotropic, noiseless, TTT from W = 0",
    )
    axes = figure.axes[0]
    axes.set(xscale="log", yscale="log", ylim=(5, 1.5 * max(map(max, counts.values()))))
    for slope, start in ((1, sizes[0]), (0.5, sizes[0] ** 0.5)):
        guide = [start * (d / sizes[0]) ** slope for d in sizes]
        axes.plot(sizes, guide, color="black", ls=":", lw=0.7)
        axes.annotate(
            f"slope {slope:g}",
            (sizes[-1], guide[-1]),
            (-2, -7),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=7,
        )
    axes.set_xticks(sizes, [str(d) for d in sizes])
    axes.minorticks_off()
    notes = [f"d = {list(sizes)}"]
    for name, values in counts.items():
        slope = np.log(values[-1] / values[0]) / np.log(sizes[-1] / sizes[0])
        notes.append(f"{name}: {values}, grows like d^{slope:.2f}")
    more = [f"{pairs(one) / one.without_ttt:.2f}" for one in fresh if one.without_ttt]
    notes.append(f"n + k with a new context, over n without TTT: {', '.join(more)}")
    return Result("sample_complexity", rows, figure, notes)


SIMULATED = "without TTT: n", "TTT, new context: n, any k", "TTT, new context: n + k", "TTT, same context: n + k"


@cache
def needed(d: int, evaluation: str) -> SampleComplexity:
    """The pairs needed at size d."""
    problem = Problem(1, 1, np.ones(d) / np.sqrt(d), evaluation=evaluation)
    return sample_complexity(problem, TARGET, "zero", max_n=5 * d)


def pairs(answer: SampleComplexity) -> int:
    """Smallest n + k."""
    assert answer.n is not None
    assert answer.k is not None
    return answer.n + answer.k


def cell(name: str, d: int) -> Point:
    """The risk at the number of pairs that the curve shows."""
    task, evaluation = np.ones(d) / np.sqrt(d), "same" if "same" in name else "fresh"
    answer = needed(d, evaluation)
    if name == "without TTT: n":
        assert answer.without_ttt is not None
        return Point(name, d, Problem(answer.without_ttt, 1, task), 1 / (answer.without_ttt + d + 1), 0.0, TARGET)
    n, k = (answer.context, 16 * d) if name.endswith("any k") else (answer.n, answer.k)
    assert n is not None
    assert k is not None
    problem = Problem(n, k, task, evaluation=evaluation)
    approximate = None if name.endswith("any k") else TARGET
    return Point(name, d, problem, 0.0, exact_risk(problem, 0.0).optimal_lr, approximate)
