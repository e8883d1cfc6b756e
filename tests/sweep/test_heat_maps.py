"""What the heat maps of a sweep show, and when there are none."""

import math

import numpy as np
import pytest

import ttt_jax.sweep.heat_maps as maps
from ttt_jax import risk_law
from ttt_jax.sweep.run import read_sweep, run_sweep
from ttt_jax.sweep.spec import make_spec

SPEC = """
[sweep]
num_tasks = 50
[grid]
d = 4
n = [3, 6, 9]
k_over_d = [8, 1, 2, 4]
init = ["zero", "pretrained"]
evaluation = "same"
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    directory = tmp_path_factory.mktemp("maps")
    (directory / "spec.toml").write_text(SPEC)
    run_sweep(directory / "spec.toml", directory / "out", progress=False)
    return read_sweep(directory / "out")


@pytest.fixture
def drawn(monkeypatch):
    calls = []
    monkeypatch.setattr(maps, "draw_heat_maps", lambda *args, title: calls.append((title, *args)))
    return calls


def test_every_cell_is_where_its_sizes_are(swept, drawn):
    spec, rows = swept
    assert [title for title, _ in maps.heat_maps(spec, rows)] == ["init = zero", "init = pretrained"]
    for (_, found, xs, ys, x_label, y_label), start in zip(drawn, ("zero", "pretrained"), strict=True):
        assert (xs, ys, x_label, y_label) == ([1, 2, 4, 8], [3, 6, 9], "k / d", "n, context pairs")
        gain, hurt = (next(one.values for one in found if text in one.label) for text in ("takes away", "hurts"))
        for row in rows:
            if row["init"] == start:
                at = ys.index(row["n"]), xs.index(row["k_over_d"])
                assert gain[at] == pytest.approx(1 - row["exact"] / row["initial"])
                problem, weights = spec.cells[row["cell"]].problem()
                assert hurt[at] == risk_law(problem, weights, row["lr"]).prob_hurt()
    best = [one for _, found, *_ in drawn for one in found if one.words]
    assert [one.words for one in best] == [("zero", "pretrained")]
    exact = {(row["init"], row["n"], row["k_over_d"]): row["exact"] for row in rows}
    for (i, n), (j, k) in ((a, b) for a in enumerate((3, 6, 9)) for b in enumerate((1, 2, 4, 8))):
        assert best[0].values[i, j] == (exact["pretrained", n, k] < exact["zero", n, k])


def test_unfinished_cells_and_scores_that_are_not_judged_are_left_white(swept, drawn):
    spec, rows = swept
    rows = [row | {"stderr_reliable": row["n"] > 3} for row in rows[:-1]]
    list(maps.heat_maps(spec, rows))
    last = {one.label: one.values for one in drawn[1][1]}
    z = next(values for label, values in last.items() if "|z|" in label)
    assert np.isnan(z[0]).all()
    assert np.isnan(z[1:]).sum() == 1
    assert math.isnan(last["share of the risk that the step takes away"][2, 2])


def test_two_axes_of_three_numbers_are_needed(drawn):
    spec = make_spec({"sweep": {"num_tasks": 0}, "grid": {"d": 4, "n": [3, 6], "k": [1, 2, 3], "noise_var": [0, 1]}})
    assert (
        list(
            maps.heat_maps(spec, [{"n": n, "k": k, "noise_var": s} for n in (3, 6) for k in (1, 2, 3) for s in (0, 1)])
        )
        == []
    )


def test_a_step_that_is_far_too_large_does_not_spoil_the_scale(swept, drawn):
    spec, rows = swept
    list(maps.heat_maps(spec, [row | {"exact": 1e9 if row["n"] == 9 else row["exact"]} for row in rows]))
    list(maps.heat_maps(spec, rows))
    assert [found[0].limits for _, found, *_ in drawn] == [(-1.0, None)] * 2 + [(None, None)] * 2
