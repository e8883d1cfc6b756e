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
from experiments.__main__ import NAMES as EXPERIMENTS
from proofs_check.claims import NAMES as CLAIMS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXECUTED = [page for page in PAGES if "{code-cell}" in page.read_text()]
MODULES = [page.stem for page in (DOCS / "api").glob("*.md") if page.stem != "index"]


def test_there_are_pages_with_code():
    assert {"theory", "formula", "model", "tasks", "optimiser", "tables"} <= {page.stem for page in EXECUTED}


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_code_of_the_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ttt_jax.shifts, "SHIFTS", shifts := dict(ttt_jax.SHIFTS))
    monkeypatch.setattr(ttt_jax, "SHIFTS", shifts)
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", page.read_text(), re.DOTALL)
    exec(compile("\n".join(cells), page.name, "exec"), {})
    plt.close("all")


def test_every_exported_name_is_in_the_reference():
    index = (DOCS / "api" / "index.md").read_text()
    listed = {name.rsplit(".", 1)[1] for name in re.findall(r"~ttt_jax\.(\S+)", index)}
    assert listed == set(ttt_jax.__all__)


INTERNAL = {"blocks", "checkpoint", "extrapolate", "moments", "processes", "progress", "report", "spec", "store"}
INTERNAL |= {"sweep", "sweep_report", "tails", "tally", "task_average"}


def test_every_module_with_public_names_has_a_page_or_is_internal():
    modules = {file.stem for file in (ROOT / "ttt_jax").glob("*.py") if "\n__all__ = [" in file.read_text()}
    assert modules - {"__init__"} == {*MODULES, *INTERNAL} - {"tabular"}


@pytest.mark.parametrize("module", MODULES)
def test_public_names_have_docstrings(module):
    module = importlib.import_module(f"ttt_jax.{module}")
    for name in module.__all__:
        if isinstance(found := getattr(module, name), type | FunctionType):  # of a constant, the site takes the comment
            assert found.__doc__, name


def test_every_claim_is_in_the_theory():
    named = set(re.findall(r"(?:`|claim )(\w+)", (DOCS / "theory.md").read_text().replace("\\_", "_")))
    assert set(CLAIMS) <= named


def test_every_figure_is_in_the_gallery():
    shown = re.findall(r"\(figures/(.*?)\)", (DOCS / "gallery.md").read_text())
    assert sorted(shown) == sorted(file.name for file in (DOCS / "figures").glob("*.png"))


def test_every_module_is_in_the_architecture():
    listed = set(re.findall(r"^\| `([\w./]+)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE))
    files = [file for folder in ("proofs_check", "experiments", "benchmarks") for file in (ROOT / folder).glob("*.py")]
    files += (ROOT / "ttt_jax").rglob("*.py")
    present = {str(file.relative_to(ROOT)) for file in files}
    assert listed == {file for file in present if not file.endswith("__init__.py")}


def imported(module: str) -> set[str]:
    """All modules that a module of ttt_jax imports from ttt_jax, directly or through another."""
    found, waiting = set(), [module]
    while waiting:
        for node in ast.parse((ROOT / "ttt_jax" / f"{waiting.pop()}.py").read_text()).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "ttt_jax":
                names = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                waiting += set(names) - found
                found |= set(names)
    return found


def test_theory_and_simulation_share_no_formula():
    theory = {"exact", "asymptotic", "paper", "task_average", "several_steps"}
    data_path, simulation = {"data", "models", "ttt"}, {"setting", "blocks", "law", "estimate", "trajectory", "folds"}
    for module in theory:
        assert not imported(module) & (data_path | {"estimate", "trajectory", "folds"}), module
    for module in data_path | simulation:
        assert not imported(module) & theory, module
    for module in data_path:
        assert not imported(module) & {"law"}, module


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
