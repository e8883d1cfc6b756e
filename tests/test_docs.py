"""The documentation: its code runs, and what it lists is complete. `make docs` checks its links and the reference."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import matplotlib.pyplot as plt
import pytest

import ttt_jax
from docs import reference
from experiments.__main__ import NAMES as EXPERIMENTS
from proofs_check.claims import NAMES as CLAIMS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = {DOCS / "modules.md", *(DOCS / "api").glob("*.md")}
PAGES = sorted({*DOCS.rglob("*.md")} - MADE - {*(DOCS / "_build").rglob("*.md")})
EXECUTED = [page for page in PAGES if "{code-cell}" in page.read_text()]


def test_there_are_pages_with_code():
    assert {"theory", "claim", "formula", "model", "tasks", "optimiser", "procedure", "tables"} <= {
        page.stem for page in EXECUTED
    }


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_code_of_the_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ttt_jax.shifts, "SHIFTS", shifts := dict(ttt_jax.SHIFTS))
    monkeypatch.setattr(ttt_jax, "SHIFTS", shifts)
    monkeypatch.setattr(ttt_jax.procedures, "PROCEDURES", dict(ttt_jax.procedures.PROCEDURES))
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", page.read_text(), re.DOTALL)
    exec(compile("\n".join(cells), page.name, "exec"), {})
    plt.close("all")


def test_every_exported_name_is_defined_in_a_public_module():
    assert all(reference.home_of(name) for name in ttt_jax.__all__)


@pytest.mark.parametrize("module", reference.public_modules())
def test_public_names_have_docstrings(module):
    module = importlib.import_module(module)
    for name in module.__all__:
        if isinstance(found := getattr(module, name), type | FunctionType):  # of a constant, the site takes the comment
            assert found.__doc__, name


def test_every_module_says_its_one_idea_in_a_line():
    rows = re.findall(r"^\| `(\w+\.py)` \| (.*) \|$", reference.module_table(), re.MULTILINE)
    assert len(rows) > 100
    assert all(len(idea) > 10 for _, idea in rows), [name for name, idea in rows if len(idea) <= 10]


def public_classes(package: str) -> list[str]:
    found = []
    for file in (ROOT / package).rglob("*.py"):
        nodes = ast.parse(file.read_text()).body
        found += [node.name for node in nodes if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return found


def test_no_name_stands_for_two_things():
    """No two public classes of one name, no two modules of one in a package, no module behind a function's name."""
    classes = public_classes("ttt_jax") + public_classes("experiments")
    assert sorted(classes) == sorted(set(classes))
    files = [file for file in (ROOT / "ttt_jax").rglob("*.py") if not file.name.startswith("__")]
    for package in ("theory", "training", "simulation", "verdict", "sweep", "cli", "_internal"):
        stems = [file.stem for file in files if file.relative_to(ROOT / "ttt_jax").parts[0] == package]
        assert sorted(stems) == sorted(set(stems))
    for name in ttt_jax.__all__:
        assert not (ROOT / "ttt_jax" / f"{name}.py").exists()
        assert not (ROOT / "ttt_jax" / name).is_dir()


def test_every_claim_is_in_the_theory_with_a_link_to_its_record():
    linked = re.findall(r"\[`(\w+)`\]\(records/proofs\.md#(\w+)\)", (DOCS / "theory.md").read_text())
    assert set(CLAIMS) == {name for name, _ in linked}
    assert all(name == anchor for name, anchor in linked)


def test_every_figure_is_in_the_gallery():
    shown = re.findall(r"\(figures/(.*?)\)", (DOCS / "gallery.md").read_text())
    assert sorted(shown) == sorted(file.name for file in (DOCS / "figures").glob("*.png"))


def test_imports_keep_their_contracts():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_package_stands_alone():
    heavy = ["matplotlib", "sklearn", "pandas", "orbax.checkpoint", "sympy", "ttt_jax.tabular"]
    heavy += ["proofs_check", "experiments", "benchmarks"]
    code = f"import sys, ttt_jax; print(*(name for name in {heavy} if name in sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not printed.stdout.split()


@pytest.mark.parametrize(("page", "names"), [("shifts", ttt_jax.SHIFTS), ("experiments", EXPERIMENTS)])
def test_every_entry_of_a_registry_is_on_its_page(page, names):
    listed = set(re.findall(r"`(\w+)`", (DOCS / f"{page}.md").read_text()))
    assert set(names) <= listed


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_names_on_the_page_exist(page):
    text = page.read_text()
    for path in re.findall(r"`((?:ttt_jax|proofs_check|experiments|benchmarks|tests|docs|examples)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(ttt_jax(?:\.\w+)+)", text):
        found, *parts = ttt_jax, *name.split(".")[1:]
        for i, part in enumerate(parts, start=1):
            try:
                found = importlib.import_module(".".join(["ttt_jax", *parts[:i]]))
            except ImportError:
                found = getattr(found, part)


def test_every_file_that_names_the_version_names_this_one():
    version = ttt_jax.__version__
    dated = re.search(r"^## \[(\S+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).groups()
    citation = (ROOT / "CITATION.cff").read_text()
    assert dated == (version, re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)[1])
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == version
    assert f"version = {{{version}}}" in (DOCS / "cite.md").read_text()
