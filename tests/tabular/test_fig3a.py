"""The experiment on real tables: its tables, its arithmetic, and that it resumes."""

from pathlib import Path

import numpy as np
import pytest

from experiments import fig3a
from experiments.tables import NAMES, load

BLOBS = str(Path(__file__).parent / "fixtures" / "blobs.safetensors")
TINY = fig3a.Preset(("banana", "titanic"), (0,), (64, 1000), updates=1, batch_size=16, n_estimators=1)


pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("name", NAMES)
def test_tables_follow_the_papers_rules(name):
    table = load(name, seed=0)
    assert len(table.X) == 1000
    assert len(table.X_test) == 250
    assert table.X.shape[1] <= 100
    assert 2 <= len(set(table.y)) <= 10
    assert set(table.y_test) <= set(table.y)
    assert table.X.dtype == float
    again, other = load(name, seed=0), load(name, seed=1)
    np.testing.assert_array_equal(table.X, again.X)
    assert (table.y != other.y).any()


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="table: 'iris' must be one of banana, chess"):
        load("iris", seed=0)


def test_a_run_resumes_and_equals_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fig3a, "PRESETS", {"quick": TINY})
    options = ["--weights", BLOBS, "--out", str(tmp_path)]
    assert fig3a.main(options) == 0
    file = tmp_path / "fig3a.csv"
    lines = file.read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 5  # tables, lengths, methods
    file.write_text("\n".join(lines[:11]) + "\n")  # the first table only
    assert fig3a.main(options) == 0
    assert [row["accuracy"] for row in fig3a.read_rows(file)] == [float(line.split(",")[4]) for line in lines[1:]]
    rows = {(r["table"], r["n"], r["method"]): r["accuracy"] for r in fig3a.read_rows(file)}
    assert rows["banana", 1000, "TTT"] == rows["banana", 1000, "plain"]
    assert "context reduction" in capsys.readouterr().out
    assert (tmp_path / "fig3a.png").exists()


def test_the_factor_is_the_shift_of_a_shifted_curve():
    lengths = [1, 2, 4, 8, 16, 32, 64]
    accuracy = np.linspace(0.2, 0.8, 7)
    shifted = np.append(accuracy[2:], [0.8, 0.8])  # reaches everything with a quarter of the rows
    for level in (0.45, 0.6, 0.8):
        assert fig3a.context_reduction(lengths, accuracy, shifted, level) == pytest.approx(4)
    assert fig3a.context_reduction(lengths, accuracy, accuracy, 0.5) == pytest.approx(1)
    assert np.isnan(fig3a.context_reduction(lengths, accuracy, accuracy - 0.3, 0.8))


def test_the_interval_covers_a_common_factor():
    rng = np.random.default_rng(0)
    rows = []
    for table in range(12):
        base = rng.uniform(0.3, 0.5)
        for i in range(8):
            for method, shift in (("plain", 0), ("TTT", 2)):
                accuracy = base + 0.05 * min(i + shift, 7) + rng.normal(0, 0.003)
                rows.append({"table": f"t{table}", "n": 2**i, "method": method, "accuracy": accuracy})
    _, factor, low, high = fig3a.reduction_with_interval(rows, level=None)
    assert low <= 4 <= high
    assert low <= factor <= high


def test_the_paired_comparison_counts_tables_not_seeds():
    gains = {"a": (0.1, 0.3), "b": (0.0, 0.0), "c": (-0.1, -0.1)}
    rows = [
        {"table": table, "seed": seed, "n": n, "method": method, "accuracy": 0.5 + (method == "TTT" and n == 1) * gain}
        for table, both in gains.items()
        for seed, gain in enumerate(both)
        for n in (1, 1000)
        for method in ("plain", "TTT")
    ]
    (pair,) = fig3a.paired(rows)  # nothing differs at n = 1,000
    assert (pair.n, pair.better, pair.worse) == (1, 1, 1)
    assert pair.mean == pytest.approx(0.1 / 3)
    assert pair.stderr == pytest.approx(np.std([0.2, 0, -0.1], ddof=1) / 3**0.5)
    assert pair.p_value > 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--tables", "iris"], "'iris' must be one of"), (["--weights", "nowhere"], "nowhere")],
)
def test_bad_input_is_one_line(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as exit:
        fig3a.main([*options, "--out", str(tmp_path)])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
