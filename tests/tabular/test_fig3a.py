"""The experiment on real tables: its tables, its arithmetic, and that it resumes."""

import csv
from dataclasses import replace
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import fig3a, fig3a_report
from experiments.__main__ import main
from experiments.classical import classical
from experiments.tables import NAMES, load

BLOBS = str(Path(__file__).parent / "fixtures" / "blobs.safetensors")
TINY = fig3a.Preset(("titanic",), (0,), (64, 1000), rows_read=80, batch_size=16, n_estimators=1)


@pytest.fixture
def no_p_values(monkeypatch):
    """For reports that are compared with one another: with ties they take all of the time."""
    monkeypatch.setattr(fig3a_report.Paired, "p_value", 0.5)


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
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    options = ["--weights", BLOBS, "--out", str(tmp_path)]
    assert main(["fig3a", *options]) == 0
    file = tmp_path / "fig3a.csv"
    lines = file.read_text().splitlines()
    assert len(lines) == 1 + 2 * 5  # lengths, methods
    file.write_text("\n".join(lines[:6]) + "\n")  # the first length only
    assert main(["fig3a", *options]) == 0
    assert [row["accuracy"] for row in fig3a_report.read_rows(file)] == [
        float(line.split(",")[4]) for line in lines[1:]
    ]
    rows = {(r["table"], r["n"], r["method"]): r["accuracy"] for r in fig3a_report.read_rows(file)}
    assert rows["titanic", 1000, "TTT"] == rows["titanic", 1000, "plain"]
    assert "context reduction" in capsys.readouterr().out
    assert (tmp_path / "fig3a.png").exists()
    monkeypatch.setattr(fig3a, "PRESETS", {"quick": replace(TINY, rows_read=160)})
    assert main(["fig3a", *options]) == 2
    assert "fig3a.csv: 1 updates at n = 64 are another preset's; choose another --out" in capsys.readouterr().err


def test_the_factor_is_the_shift_of_a_shifted_curve():
    lengths = [1, 2, 4, 8, 16, 32, 64]
    accuracy = np.linspace(0.2, 0.8, 7)
    shifted = np.append(accuracy[2:], [0.8, 0.8])  # reaches everything with a quarter of the rows
    for level in (0.45, 0.6, 0.8):
        assert fig3a_report.context_reduction(lengths, accuracy, shifted, level) == pytest.approx(4)
    assert fig3a_report.context_reduction(lengths, accuracy, accuracy, 0.5) == pytest.approx(1)
    assert np.isnan(fig3a_report.context_reduction(lengths, accuracy, accuracy - 0.3, 0.8))


def test_the_interval_covers_a_common_factor():
    rng = np.random.default_rng(0)
    rows = []
    for table in range(12):
        base = rng.uniform(0.3, 0.5)
        for i in range(8):
            for method, shift in (("plain", 0), ("TTT", 2)):
                accuracy = base + 0.05 * min(i + shift, 7) + rng.normal(0, 0.003)
                rows.append({"table": f"t{table}", "n": 2**i, "method": method, "accuracy": accuracy})
    for n in (8, 32, 128):
        found = fig3a_report.reduction(rows, n)
        assert found.low <= 4 <= found.high
        assert found.low <= found.factor <= found.high
        assert not found.is_bound
    assert fig3a_report.reduction(rows, 1).is_bound  # TTT is there at its first length
    assert fig3a_report.reduction(rows, below=0.05).factor == pytest.approx(4, rel=0.05)


@pytest.mark.usefixtures("no_p_values")
def test_tables_that_an_interrupted_run_has_not_finished_are_left_out(tmp_path):
    rows = fig3a_report.read_rows(fig3a_report.RECORD)
    begun = [row for row in rows if row["table"] != "texture" or row["n"] <= 64]
    without = [row for row in rows if row["table"] != "texture"]
    printed, expected = (fig3a_report.report(own) for own in (begun, without))
    tables, left_out, *numbers = printed.splitlines()
    assert left_out == "left out: texture (unfinished)"
    assert [tables, *numbers] == expected.splitlines()


def test_the_paired_comparison_counts_tables_not_seeds():
    gains = {"a": (0.1, 0.3), "b": (0.0, 0.0), "c": (-0.1, -0.1)}
    rows = [
        {"table": table, "seed": seed, "n": n, "method": method, "accuracy": 0.5 + (method == "TTT" and n == 1) * gain}
        for table, both in gains.items()
        for seed, gain in enumerate(both)
        for n in (1, 1000)
        for method in ("plain", "TTT")
    ]
    (pair,) = fig3a_report.paired(rows)  # nothing differs at n = 1,000
    assert (pair.n, pair.better, pair.worse) == (1, 1, 1)
    assert pair.mean == pytest.approx(0.1 / 3)
    assert pair.half == pytest.approx(4.302653 * np.std([0.2, 0, -0.1], ddof=1) / 3**0.5)  # t(.975, 2)
    assert pair.p_value > 0.2


@pytest.mark.usefixtures("no_p_values")
def test_artificial_and_contained_tables_are_in_no_mean():
    real = fig3a_report.read_rows(fig3a_report.RECORD)
    copies = (("magic", "banana"), ("letter", "digits"))  # optdigits is among the real ones
    more = real + [{**row, "table": copy} for name, copy in copies for row in real if row["table"] == name]
    expected, printed = (fig3a_report.report(rows).splitlines() for rows in (real, more))
    assert printed[0] == expected[0]
    assert printed[1] == "left out: banana (artificial), digits (contained in optdigits)"
    gains = {rows[0]: rows for rows in (line.split() for line in printed if "+-" in line)}
    for line in (line.split() for line in expected if "+-" in line):
        n = line[0]
        assert gains[n][:7] == line[:7]  # without them
        pairs = {pair.n: pair for pair in fig3a_report.paired(more)}
        assert float(gains[n][7]) == pytest.approx(pairs[int(n)].mean, abs=6e-4)  # the column with all


def test_the_record_is_reported_from_its_file(tmp_path, capsys):
    assert fig3a_report.main(["--figure", str(tmp_path / "figure.png")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("15 tables, 1 seed: chess")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    rows = fig3a_report.read_rows(fig3a_report.RECORD)
    gains = []
    for name in fig3a.PRESETS["cpu"].tables:  # the gain at n = 256, once more
        cells = {r["method"]: r["accuracy"] for r in rows if (r["table"], r["n"]) == (name, 256)}
        gains.append(cells["TTT"] - cells["plain"])
    line = next(line for line in printed.splitlines() if line.startswith("   256") and "+-" in line).split()
    assert float(line[1]) == pytest.approx(np.mean(gains), abs=6e-4)


@pytest.mark.parametrize(("file", "preset"), [("fig3a.csv", "cpu"), ("more-updates.csv", "more-updates")])
def test_the_records_have_every_cell_of_their_presets_once(file, preset):
    wanted = fig3a.PRESETS[preset]
    rows = fig3a_report.read_rows(fig3a_report.RECORD.with_name(file))
    cells = {(r["table"], r["seed"], r["n"], r["method"]) for r in rows}
    assert len(cells) == len(rows)
    assert cells == set(product(wanted.tables, wanted.seeds, wanted.contexts, fig3a_report.STYLES))
    columns = {name: load(name, seed=0).X.shape[1] for name in wanted.tables}
    for row in rows:
        if row["method"] == "TTT":
            assert row["cap"] == wanted.updates(row["n"], columns[row["table"]])


@pytest.mark.usefixtures("no_p_values")
def test_what_more_updates_add_is_the_difference_of_common_cells(tmp_path, capsys):
    few = fig3a_report.read_rows(fig3a_report.RECORD)
    gain = {"magic": 0.01, "titanic": 0.03}
    more = [
        {**row, "cap": 3 * row["cap"], "accuracy": row["accuracy"] + gain[row["table"]] * (row["method"] == "TTT")}
        for row in few
        if row["table"] in gain and row["n"] in (64, 128)
    ]
    file = tmp_path / "more.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fig3a_report.COLUMNS)
        writer.writeheader()
        writer.writerows(more)
    assert fig3a_report.main(["--more", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(fig3a_report.report(few))
    head, _, *lines = printed[len(fig3a_report.report(few)) :].strip().splitlines()
    assert head == "TTT with more updates, 2 tables: magic, titanic"
    for n, line in zip((64, 128), lines, strict=True):
        cap = next(row["cap"] for row in few if (row["table"], row["n"], row["method"]) == ("magic", n, "TTT"))
        words = line.split()
        assert [words[0], words[1], words[3]] == [str(n), str(cap), str(3 * cap)]
        assert words[-3:] == ["+0.020", "+-", f"{12.706205 * 0.01:.3f}"]  # t(.975, 1)
    others = [{**row, "n": 3} for row in more]
    with pytest.raises(ValueError, match="no table, seed and n is in both files"):
        fig3a_report.more_updates(few, others)


def test_boosting_of_the_record_learns_from_few_rows():
    lengths, accuracy = fig3a_report.curve(fig3a_report.read_rows(fig3a_report.RECORD), "gradient boosting")
    rising = accuracy.mean(0)[[lengths.index(n) for n in (2, 8, 32, 128)]]
    assert (np.diff(rising) > 0.05).all()  # with at least 20 rows in a leaf it was flat up to 32


def test_boosting_splits_a_table_of_few_rows():
    X = np.repeat([0.0, 1.0], 6)[:, None] + np.linspace(0, 0.1, 12)[:, None]
    y = np.repeat([0, 1], 6)
    for method, model in classical(seed=0, columns=1, categorical=()).items():
        assert (model.fit(X, y).predict(X) == y).all(), method


def test_classical_methods_see_a_column_per_category():
    X = np.tile([0.0, 1, 2, 3], 10)[:, None]
    y = np.tile([0, 1, 1, 0], 10)
    regression = "logistic regression"  # of codes it makes one threshold
    assert (classical(0, 1, categorical=[0])[regression].fit(X, y).predict(X) == y).all()
    assert (classical(0, 1, categorical=[])[regression].fit(X, y).predict(X) != y).any()


def test_the_papers_curve_through_the_same_metric():
    """By hand: plain's .507 at n = 64 is TTT's between .452 at 2 and .512 at 4."""
    assert fig3a_report.paper_reduction(64) == pytest.approx(64 / (2 * 2 ** (0.055 / 0.060)))
    assert fig3a_report.paper_reduction(1000) == pytest.approx(1000 / 512)


def test_a_file_that_is_no_result_is_one_line(tmp_path, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for name, message in (("other.csv", "no results"), ("absent.csv", "No such file")):
        with pytest.raises(SystemExit) as exit:
            fig3a_report.main([str(tmp_path / name)])
        assert exit.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--tables", "iris"], "'iris' must be one of"), (["--weights", "nowhere"], "nowhere")],
)
def test_bad_input_is_one_line(tmp_path, capsys, options, message):
    assert fig3a.main([*options, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
