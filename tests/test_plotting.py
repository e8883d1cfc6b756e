import numpy as np

from ttt_jax.plotting import Series, draw


def test_figure_shows_lines_markers_bars_and_both_legends(tmp_path):
    x = np.linspace(0.1, 2, 30)
    series = [
        Series(name, x, 1 / (s + x), 0.9 / (s + x), [0.5, 1.0], [1 / (s + 0.5), 1 / (s + 1)], [0.02, 0.01])
        for s, name in ((1, "warm"), (2, "cold"))
    ]
    figure = draw(series, x_label="k / d", y_label="risk", title="title", approximate_label="paper")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["warm", "cold"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "exact",
        "paper",
        "Monte Carlo, bars: 2 standard errors",
    ]
    assert len(axes.containers) == 2
    markers = {line.get_marker() for line in axes.lines} - {"None", None, "_", "|"}
    assert len(markers) >= 2  # distinguishable without colour
    figure.savefig(tmp_path / "figure.png")
