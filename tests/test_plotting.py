import numpy as np
import pytest

from ttt_jax import Problem, check
from ttt_jax.plotting import Series, draw, draw_check, draw_panels, draw_values


def test_figure_shows_lines_markers_bars_and_a_legend_of_what_and_how(tmp_path):
    x = np.linspace(0.1, 2, 30)
    series = [
        Series(name, x, 1 / (s + x), 0.9 / (s + x), [0.5, 1.0], [1 / (s + 0.5), 1 / (s + 1)], [0.02, 0.01])
        for s, name in ((1, "warm"), (2, "cold"))
    ]
    figure = draw(series, x_label="k / d", y_label="risk", title="title", approximate_label="paper")
    (axes,), (legend,) = figure.axes, figure.legends
    words = [text.get_text() for text in legend.get_texts() if text.get_text()]
    assert words == ["warm", "cold", "exact", "paper", "simulated, 2 standard errors"]
    assert len(axes.containers) == 2
    markers = {line.get_marker() for line in axes.lines} - {"None", None, "_", "|"}
    assert len(markers) >= 2  # distinguishable without colour
    figure.savefig(tmp_path / "figure.png")


def test_figure_of_a_check_falls_beside_the_slope_of_a_leading_order():
    problems = [Problem(d, d, np.ones(d) / d**0.5) for d in (8, 32)]
    result = check(lambda n, d: d / (n + d), problems, quantity="initial", approximate=True, num_tasks=500)
    (axes,) = draw_check(result).axes
    errors, slope = (line.get_ydata() for line in axes.lines[:2])
    np.testing.assert_allclose(errors, slope, rtol=0.2)
    assert len(axes.containers) == 1


def test_a_notebook_shows_the_figures():
    problems = [Problem(d, d, np.ones(d) / d**0.5) for d in (8, 32)]
    result = check(lambda n, d: d / (n + d), problems, quantity="initial", approximate=True, num_tasks=0)
    for figure in draw_check(result), draw([Series("one", [1, 2], [1, 2])], x_label="x", y_label="y"):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_values_of_a_check_are_drawn_row_by_row():
    problems = [Problem(d, d, np.ones(d) / d**0.5) for d in (8, 16)]
    bound = check(lambda: 1.0, problems, quantity="initial", relation="<=", num_tasks=500)
    sign = check(lambda: True, problems, relation="iff", procedure=0.0, against={"start": "zero"}, num_tasks=500)
    for result, word in ((bound, "claimed upper bound"), (sign, "claimed below 0")):
        (axes,) = draw_values(result).axes
        words = [text.get_text() for text in axes.get_legend().get_texts()]
        assert words[0] == word
        assert {"exact", "simulated, 2 standard errors"} <= {*words}
        assert [label.get_text().count("d ") for label in axes.get_xticklabels()] == [1, 1]


def test_figure_of_a_check_without_error_is_refused():
    result = check(lambda: 1.0, [Problem(1, 1, [1.0])], start="zero", quantity="initial", num_tasks=0)
    with pytest.raises(ValueError, match="no error to draw"):
        draw_check(result)


def test_panels_share_their_axis_and_one_legend():
    x = np.linspace(0.1, 2, 30)
    panels = {
        name: [Series("warm", x, scale * x), Series("cold", x, scale / x)] for name, scale in (("a", 1), ("b", 2))
    }
    figure = draw_panels(panels, x_label="x", y_label="y")
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[1] >= 20
    assert len({line.get_color() for axes in figure.axes for line in axes.lines}) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts() if text.get_text()] == ["warm", "cold", "exact"]
