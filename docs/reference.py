"""The pages of the reference and the table of modules, made from the code: what is public follows from `__all__`.

A module is public if it has an `__all__` and no part of its path starts with an underscore. `docs/conf.py` writes the
pages before the site is built; they are not kept.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import ttt_jax

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ttt_jax", "proofs_check", "experiments", "benchmarks")


def public_modules() -> list[str]:
    """The dotted names of the public modules, packages left out except `ttt_jax.tabular`, in alphabetical order."""
    found = ["ttt_jax.tabular"]
    for info in pkgutil.walk_packages(ttt_jax.__path__, "ttt_jax."):
        private = any(part.startswith("_") for part in info.name.split("."))
        if info.ispkg or private or info.name.startswith("ttt_jax.tabular."):
            continue
        if hasattr(importlib.import_module(info.name), "__all__"):
            found.append(info.name)
    return sorted(found)


def home_of(name: str) -> str:
    """The public module that defines a name of `ttt_jax`."""
    for module in public_modules():
        if name in importlib.import_module(module).__all__:
            return module
    raise LookupError(f"ttt_jax.{name} is in the __all__ of no public module")


def page_of(module: str) -> str:
    """The file name of a module's page, without its suffix."""
    return module.removeprefix("ttt_jax.")


def write_reference(folder: Path) -> None:
    """Write one page per public module, and the index with the names of `ttt_jax` itself."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    modules = public_modules()
    for module in modules:
        page = f"# {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n"
        (folder / f"{page_of(module)}.md").write_text(page)
    homes: dict[str, list[str]] = {}
    for name in ttt_jax.__all__:
        homes.setdefault(home_of(name), []).append(name)
    parts = [
        "# API reference\n",
        "The names on this page can be imported from `ttt_jax` itself; each is documented on the page of its module.\n",
    ]
    for module, names in homes.items():
        rows = "\n".join(f"   ~{module}.{name}" for name in names)
        parts.append(f"## {module}\n\n```{{eval-rst}}\n.. autosummary::\n   :nosignatures:\n\n{rows}\n```\n")
    pages = "\n".join(map(page_of, modules))
    parts.append(f"## Modules\n\n```{{toctree}}\n:maxdepth: 1\n{pages}\n```\n")
    (folder / "index.md").write_text("\n".join(parts))


def module_table() -> str:
    """Every module of the project with the first line of its docstring, as Markdown tables by folder."""
    lines = []
    for top in FOLDERS:
        folders = sorted({file.parent for file in (ROOT / top).rglob("*.py")})
        for folder in folders:
            rows = []
            for file in sorted(folder.glob("*.py")):
                if file.name in ("__init__.py", "__main__.py"):
                    continue
                text = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0]
                rows.append(f"| `{file.name}` | {text.rstrip('.')} |")
            if rows:
                init = folder / "__init__.py"
                about = (ast.get_docstring(ast.parse(init.read_text())) or "") if init.exists() else ""
                lines += [
                    f"\n## `{folder.relative_to(ROOT)}`\n",
                    about.split("\n")[0],
                    "",
                    "| module | its one idea |",
                    "| --- | --- |",
                    *rows,
                ]
    return "\n".join(lines) + "\n"


def write_modules(file: Path) -> None:
    """Write the table of modules as a page."""
    file.write_text("# Modules\n\nMade from the docstrings of the code.\n" + module_table())
