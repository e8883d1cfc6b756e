"""`ttt-jax tabular`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs
from sklearn.dummy import DummyClassifier

from ttt_jax.cli import tabular as tabular_command
from ttt_jax.cli.main import main
from ttt_jax.cli.tabular import conclusion, methods, read_table, split_table

BLOBS = str(Path(__file__).parent / "fixtures" / "blobs.safetensors")
OFFICIAL = str(Path(__file__).parent / "fixtures" / "small.ckpt")
pytestmark = pytest.mark.usefixtures("few_sizes")


@pytest.fixture
def table():
    X, y = make_blobs(n_samples=150, centers=3, n_features=3, random_state=1)
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table["colour"] = np.where(X[:, 0] > 0, "red", None)
    table.loc[::9, "a"] = np.nan
    table.loc[3, "b"] = np.inf
    return table.assign(kind=np.array(["x", "y", "z"])[y])


@pytest.fixture
def few_methods(monkeypatch):
    """Forests and boosting are not compared with."""
    monkeypatch.setattr(tabular_command, "methods", lambda arguments: [methods(arguments)[i] for i in (0, 1, -1)])


def run(table, tmp_path, *options):
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    return main(["tabular", str(path), "--target", "kind", "--weights", BLOBS, *options])


def test_a_table_is_split_tuned_and_compared(table, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert run(table, tmp_path, "--context", "20", "--steps", "2", "--predictions", str(out)) == 0
    printed = capsys.readouterr().out
    assert "150 rows, 4 columns, 3 classes; 120 demonstrations, 30 test rows" in printed
    assert "this takes about " in printed
    lines = {line[:26].strip(): line[26:].split() for line in printed.splitlines()}
    for method in ("PFN", "PFN + TTT (few)", "logistic regression", "random forest", "gradient boosting"):
        accuracy, balanced, loss, roc, precision, _ = map(float, lines[method])
        assert min(accuracy, balanced, precision) > 0.8, method
        assert loss < 0.7, method
        assert roc > 0.9, method
    assert list(map(float, lines["most frequent class"]))[:2] == pytest.approx([1 / 3, 1 / 3], abs=1e-4)
    assert printed.count("On these test rows PFN + TTT (few) ") == 1
    written = pd.read_csv(out)
    assert list(written.columns) == ["row", "label", "prediction", "p(x)", "p(y)", "p(z)"]
    assert (table["kind"][written["row"]].to_numpy() == written["label"]).all()
    assert (written["label"] == written["prediction"]).mean() > 0.8


@pytest.mark.usefixtures("few_methods")
def test_a_saved_model_predicts_a_file_without_labels(table, tmp_path, capsys):
    model, new, out, again = (str(tmp_path / name) for name in ("m", "new.csv", "out.csv", "again.csv"))
    options = ["--context", "20", "--ttt", "none", "--save", model, "--predictions", out]
    assert run(table, tmp_path, *options) == 0
    table.drop(columns="kind")[["colour", "c", "a", "b"]].assign(more=1).to_csv(new, index=False)
    assert main(["tabular", new, "--model", model, "--predictions", again]) == 0
    assert "150 rows" in capsys.readouterr().out
    told, retold = pd.read_csv(out), pd.read_csv(again)
    assert list(retold.columns) == ["row", "prediction", "p(x)", "p(y)", "p(z)"]
    np.testing.assert_allclose(retold.loc[told["row"], "p(x)"], told["p(x)"], atol=2e-6)
    for change, message in (
        (["--model", model], "--model: name a file for the predictions with --predictions"),
        (["--model", BLOBS, "--predictions", again], "is not 'ttt_jax.tabular.classifier/1'"),
        (["--model", out, "--predictions", again], f"--model {out}: not a safetensors file"),
        (["--model", model, "--predictions", again, "--context", "9"], "is not trained again; leave out --context"),
        (["--model", model, "--predictions", again, "--time-limit", "9"], "leave out --time-limit"),
        (["--model", model, "--predictions", again, "--drop", "a"], "leave out --drop"),
        ([], "--target: name the column to predict, or give a saved --model"),
    ):
        assert main(["tabular", new, *change]) == 2
        assert message in capsys.readouterr().err
    table[["a", "b"]].to_csv(new, index=False)
    assert main(["tabular", new, "--model", model, "--predictions", again]) == 2
    assert "no column 'c'; there are 'a', 'b'" in capsys.readouterr().err


def test_a_conclusion_says_what_the_rows_can_tell():
    some, all_, none = (np.arange(100) % 10 > 0, 0.4), (np.ones(100, bool), 0.1), (np.zeros(100, bool), 2.0)
    told = conclusion("PFN", {"PFN": all_, "forest": some, "other": none})
    assert "PFN is more accurate than the best other method, forest: +0.100, give or take 0.060" in told
    assert told.endswith("; log-loss 0.100 against 0.400.")
    assert "PFN is less accurate than the best other method, forest: -0.900" in conclusion(
        "PFN", {"PFN": none, "forest": some}
    )
    assert "cannot be told apart by accuracy: +0.000" in conclusion("PFN", {"PFN": some, "forest": some})
    tied = conclusion("PFN", {"PFN": some, "forest": some, "boosting": (some[0], 0.3)})
    assert "the best other method, boosting," in tied  # the log-loss decides


@pytest.mark.usefixtures("few_methods")
def test_a_time_limit_too_short_for_an_update_is_not_called_a_failed_improvement(table, tmp_path, capsys):
    with pytest.warns(UserWarning, match="time_limit: nothing was trained"):
        assert run(table, tmp_path, "--context", "20", "--time-limit", "1e-3") == 0
    assert "the time limit left no time for an update: this is the plain network" in capsys.readouterr().out


@pytest.mark.usefixtures("few_methods")
def test_official_weights(table, tmp_path, capsys):
    assert run(table, tmp_path, "--weights", OFFICIAL, "--context", "20", "--steps", "1", "--ttt", "one") == 0
    assert "PFN + TTT (one)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"kind": "x"}, [], "column 'kind' has one value only, 'x'"),
        ({"kind": np.arange(150) % 30}, [], "column 'kind' has 30 classes; the network has 10"),
        ({"kind": np.linspace(0, 1, 150)}, [], "150 classes; the network has 10 (a regression target?)"),
        (
            {"kind": [None] + ["x", "y"] * 74 + ["x"]},
            [],
            "column 'kind' lacks 1 of 150 values (the texts NA, None and null",
        ),
        ({"kind": ["once"] + ["x", "y"] * 74 + ["x"]}, [], "class 'once' has one row"),
        ({"a": [f"text {i}" for i in range(150)]}, [], "column 'a': 150 texts in 150 rows; text is not supported"),
        ({}, ["--target", "label"], "no column 'label'; there are 'a', 'b', 'c', 'colour', 'kind'"),
        ({}, ["--drop", "a", "kind"], "--drop: 'kind' is the target"),
        ({"Unnamed: 0": np.arange(150)}, [], "column 'Unnamed: 0': no name in the header"),
        ({}, ["--drop", "d"], "no column 'd'"),
        ({}, ["--drop", "a", "b", "c", "colour"], "0 feature columns"),
        ({}, ["--context", "121"], "--context must be from 1 to the 120 demonstrations, got 121"),
        ({}, ["--context", "0"], "--context must be from 1 to the 120 demonstrations, got 0"),
        ({}, ["--lr", "-1"], "--lr must be a positive number, got -1.0"),
        ({}, ["--time-limit", "0"], "--time-limit must be a positive number, got 0.0"),
        ({}, ["--save", "nowhere/m"], "--save: no such directory: nowhere"),
        ({}, ["--lr", "nan"], "--lr must be a positive number, got nan"),
        ({}, ["--steps", "0"], "--steps must be an integer >= 1, got 0"),
        ({}, ["--predictions", "nowhere/out.csv"], "--predictions: no such directory: nowhere"),
        ({}, ["--predictions", "."], "--predictions must be a file that can be written, got ."),
        ({}, ["--predictions", "both", "--save", "both"], "--save must be another file than --predictions, got both"),
        ({}, ["--ttt", "none", "--steps", "3"], "--ttt none trains nothing; leave out --steps"),
        ({}, ["--weights", "large"], "weights must be default, small or the path of a file, got 'large'"),
        ({}, ["--seed", "-1"], "--seed must be an integer from 0"),
        ({}, ["--weights", "nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(table, tmp_path, capsys, change, options, message):
    assert run(table.assign(**change), tmp_path, *options) == 2
    out, error = capsys.readouterr()
    assert out == ""
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
        ("a,kind\n1,schön\n".encode("latin-1"), "save it as UTF-8"),
        (b"a,kind,kind\n" + 10 * b"1,2,2\n1,3,3\n", "two columns are named 'kind'"),
        (b"NA,NA,kind\n" + 10 * b"1,2,2\n1,3,3\n", "two columns are named 'NA'"),
        (b"a,kind\n" + 10 * b"9,1,2\n9,1,3\n", "its rows have more fields than its header"),
        (b"a;kind\n" + 10 * b"1;2\n1;3\n", "columns separated by ';'; save it with commas"),
        (b"a;b;kind\n" + 10 * b"1,5;2,5;x\n1,5;3;y\n", "columns separated by ';'; save it with commas"),
        (b"a\tkind\n" + 10 * b"1\t2\n1\t3\n", "columns separated by '\\t'; save it with commas"),
        (b"a kind\n" + 10 * b"1 2\n1 3\n", "there are 'a kind' (one column only: is the separator a comma?)"),
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


def test_a_directory_is_no_table(tmp_path, capsys):
    assert main(["tabular", str(tmp_path), "--target", "kind"]) == 2
    assert capsys.readouterr().err == f"ttt-jax tabular: {tmp_path}: not a file\n"


def test_values_beyond_float32_are_missing_and_float_targets_are_classes(table, tmp_path):
    table.loc[5, "b"] = -1e300
    path = tmp_path / "table.csv.gz"
    table.assign(kind=table["kind"].map({"x": 0.5, "y": 1.0, "z": 1.5})).to_csv(path, index=False)
    X, y = read_table(str(path), "kind", [])
    assert list(X.index[X["b"].isna()]) == [3, 5]
    assert set(y) == {"0.5", "1.0", "1.5"}


def test_predictions_outlast_a_baseline_that_fails(table, tmp_path, monkeypatch):
    failing = DummyClassifier(strategy="constant", constant="no class")
    monkeypatch.setattr(tabular_command, "methods", lambda _: [("PFN", DummyClassifier()), ("baseline", failing)])
    assert run(table, tmp_path, "--ttt", "none", "--predictions", str(tmp_path / "out.csv")) == 2
    assert len(pd.read_csv(tmp_path / "out.csv")) == 30


def test_dates_in_parquet_are_refused(table, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    table.assign(day=pd.Timestamp("2020-01-01")).to_parquet(path)
    with pytest.raises(ValueError, match=r"column 'day': type datetime64.* is not supported"):
        read_table(str(path), "kind", [])


def test_an_output_that_is_an_input_is_refused(table, tmp_path, capsys, monkeypatch):
    path, weights = tmp_path / "table.csv", tmp_path / "pfn.safetensors"
    table.to_csv(path, index=False)
    weights.write_bytes(Path(BLOBS).read_bytes())
    before = path.read_bytes()
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "hard.csv").hardlink_to(path)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    options = ["--target", "kind", "--weights", str(weights), "--context", "20", "--ttt", "none"]
    for out in (path, "table.csv", "sub/../table.csv", "link.csv", "hard.csv", weights):
        assert main(["tabular", str(path), *options, "--predictions", str(out)]) == 2
        error = capsys.readouterr().err
        assert "--predictions must be another file than the input" in error
        assert error.count("\n") == 1
    assert main(["tabular", "link.csv", *options, "--predictions", str(path)]) == 2
    assert path.read_bytes() == before
    assert weights.read_bytes() == Path(BLOBS).read_bytes()


@pytest.mark.parametrize("name", ["a", "kind"])
@pytest.mark.parametrize(("value", "kind"), [([1, 2], "ndarray"), ({"x": 1}, "dict")])
def test_lists_and_structs_in_parquet_are_refused(table, tmp_path, capsys, name, value, kind):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    table.assign(**{name: [value] * len(table)}).to_parquet(path)
    assert main(["tabular", str(path), "--target", "kind"]) == 2
    error = capsys.readouterr().err
    assert f"column {name!r}: holds values of type {kind}" in error
    assert error.count("\n") == 1


def test_a_category_without_rows_is_no_class(table, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    table.assign(kind=pd.Categorical(table["kind"], categories=["w", "x", "y", "z"])).to_parquet(path)
    _, y = read_table(str(path), "kind", [])
    assert set(y) == {"x", "y", "z"}


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zip", ".csv.xz", ".parquet"])
def test_a_damaged_file_is_one_line(table, tmp_path, capsys, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"table{suffix}"
    table.to_parquet(path) if suffix == ".parquet" else table.to_csv(path, index=False)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 40]) + whole[middle + 40 :]
    for damaged in (whole[:middle], whole[:3], flipped, b"\0" * 100, bytes(range(256))):
        path.write_bytes(damaged)
        assert main(["tabular", str(path), "--target", "no such column"]) == 2
        error = capsys.readouterr().err
        assert str(path) in error
        assert error.count("\n") == 1


def test_a_parser_that_fails_without_a_word_is_one_line(table, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise EOFError

    monkeypatch.setattr(pd, "read_csv", fail)
    assert run(table, tmp_path) == 2
    assert "not readable as a table (EOFError)" in capsys.readouterr().err


@pytest.mark.usefixtures("few_methods")
def test_a_class_too_rare_for_a_test_row_is_named(table, tmp_path, capsys):
    table.loc[:1, "kind"] = "rare"
    assert run(table, tmp_path, "--context", "20", "--ttt", "none") == 0
    assert "no ROC AUC: class 'rare' is too rare for a test row" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error(table, tmp_path):
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    options = ["--target", "kind", "--weights", BLOBS, "--context", "20", "--ttt", "none"]
    code = f"import sys; from ttt_jax.cli.main import main; sys.exit(main({['tabular', str(path), *options]!r}))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_million_rows_are_subsampled_by_class():
    y = np.where(np.arange(1_000_000) < 5, "rare", "common")
    train, test = split_table(y, seed=0)
    assert len(train) == 10_000
    assert len(test) == 5_000
    assert set(y[train]) == {"rare", "common"}
    assert not set(train) & set(test)
