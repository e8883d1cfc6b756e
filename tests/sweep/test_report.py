"""The page that `ttt-jax report` writes beside a sweep."""

import os
import shutil

from tests.sweep.runs import table
from ttt_jax.cli.main import main
from ttt_jax.sweep.store import Store


def test_the_report_is_one_page_and_parquet_has_the_same_rows(undisturbed, tmp_path, capsys):
    from pyarrow import parquet

    out = tmp_path / "out"
    shutil.copytree(undisturbed / "out", out)
    assert main(["sweep", str(undisturbed / "spec.toml"), "--out", str(out), "--resume", "--parquet"]) == 0
    rows = parquet.read_table(out / "results.parquet").to_pylist()
    assert [str(row["estimate"]) for row in rows] == [row["estimate"] for row in table(undisturbed / "out")]
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert page.count("<img ") == 1
    assert "http" not in page.replace("http-equiv", "")
    assert main(["report", str(tmp_path)]) == 2
    assert "no sweep here" in capsys.readouterr().err


def test_a_report_beside_other_names_and_links(undisturbed, tmp_path, capsys):
    """A directory name that is no UTF-8; a figure that is a link is replaced and not written through."""
    out = tmp_path / os.fsdecode(b"out\xff")
    shutil.copytree(undisturbed / "out", out)
    (out / "figure-01.png").symlink_to(out / Store.FILE)
    before = (out / Store.FILE).read_bytes()
    assert main(["report", os.fspath(out)]) == 0
    assert "out?" in capsys.readouterr().out
    assert (out / Store.FILE).read_bytes() == before
    assert not (out / "figure-01.png").is_symlink()
