"""`ttt-jax tabular`."""

from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs

from ttt_jax.cli import main
from ttt_jax.tabular_command import split_table

BLOBS = str(Path(__file__).parent / "fixtures" / "blobs.safetensors")
OFFICIAL = str(Path(__file__).parent / "fixtures" / "small.ckpt")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def table():
    X, y = make_blobs(n_samples=150, centers=3, n_features=3, random_state=1)
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table["colour"] = np.where(X[:, 0] > 0, "red", None)
    table.loc[::9, "a"] = np.nan
    table.loc[3, "b"] = np.inf
    return table.assign(kind=np.array(["x", "y", "z"])[y])


def run(table, tmp_path, *options):
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    return main(["tabular", str(path), "--target", "kind", "--weights", BLOBS, *options])


def test_a_table_is_split_tuned_and_compared(table, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert run(table, tmp_path, "--context", "20", "--steps", "2", "--predictions", str(out)) == 0
    printed = capsys.readouterr().out
    assert "150 rows, 4 columns, 3 classes; 120 demonstrations, 30 test rows" in printed
    for method in ("PFN ", "PFN + TTT (few)", "logistic regression", "random forest"):
        line = next(line for line in printed.splitlines() if line.startswith(method))
        accuracy, loss, auc, _ = map(float, line[26:].split())
        assert accuracy > 0.8, line
        assert loss < 0.7, line
        assert auc > 0.9, line
    written = pd.read_csv(out)
    assert list(written.columns) == ["row", "label", "prediction", "p(x)", "p(y)", "p(z)"]
    assert (table["kind"][written["row"]].to_numpy() == written["label"]).all()
    assert (written["label"] == written["prediction"]).mean() > 0.8


def test_official_weights(table, tmp_path, capsys):
    assert run(table, tmp_path, "--weights", OFFICIAL, "--context", "12", "--steps", "1", "--ttt", "one") == 0
    assert "PFN + TTT (one)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"kind": "x"}, [], "column 'kind' has one value only, 'x'"),
        ({"kind": np.arange(150) % 30}, [], "column 'kind' has 30 classes; the network has 10"),
        ({"kind": np.linspace(0, 1, 150)}, [], "150 classes; the network has 10 (a regression target?)"),
        ({"kind": [None] + ["x", "y"] * 74 + ["x"]}, [], "column 'kind' lacks 1 of 150 values"),
        ({"kind": ["once"] + ["x", "y"] * 74 + ["x"]}, [], "class 'once' has one row"),
        ({"a": [f"text {i}" for i in range(150)]}, [], "column 'a': 150 texts in 150 rows; text is not supported"),
        ({}, ["--target", "label"], "no column 'label'; there are a, b, c, colour, kind"),
        ({}, ["--drop", "d"], "no column 'd'"),
        ({}, ["--drop", "a", "b", "c", "colour"], "0 feature columns"),
        ({}, ["--context", "121"], "--context must be from 1 to the 120 demonstrations, got 121"),
        ({}, ["--context", "0"], "--context must be from 1 to the 120 demonstrations, got 0"),
        ({}, ["--lr", "-1"], "learning_rate: -1.0 must be a positive number"),
        ({}, ["--steps", "0"], "steps: 0 must be an integer of at least 1"),
        ({}, ["--predictions", "nowhere/out.csv"], "--predictions: no such directory: nowhere"),
        ({}, ["--seed", "-1"], "--seed must be an integer from 0"),
        ({}, ["--weights", "nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(table, tmp_path, capsys, change, options, message):
    assert run(table.assign(**change), tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("ttt-jax tabular: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"a,kind\n", "0 rows"),
        (b"a,kind\n1,2\n1,2,3,4\n", "not readable as a table"),
        (b"\x89PNG\xff\xfe\x00", "not readable as a table"),
    ],
)
def test_files_that_are_no_tables(tmp_path, capsys, content, message):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    assert main(["tabular", str(path), "--target", "kind"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_million_rows_are_subsampled_by_class():
    y = np.where(np.arange(1_000_000) < 5, "rare", "common")
    train, test = split_table(y, seed=0)
    assert len(train) == 10_000
    assert len(test) == 5_000
    assert set(y[train]) == {"rare", "common"}
    assert not set(train) & set(test)
