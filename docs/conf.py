"""The site of the documentation: `make docs`. Every warning is an error there."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import sys
from pathlib import Path
from types import FunctionType

from sphinx import addnodes
from sphinx.util import logging

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

sys.path.insert(0, str(ROOT / "docs"))

from reference import public_modules, write_modules, write_reference  # noqa: E402

import ttt_jax  # noqa: E402

project = "ttt_jax"
author = "the ttt_jax authors"
version = release = ttt_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # the site has its own copy
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"ttt_jax {release}"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # on a busy machine; no page takes a minute on two idle cores
nb_execution_in_temp = True
nb_merge_streams = True

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
napoleon_use_param = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 100

smartquotes = False  # a prime is a transpose
nitpicky = True
# The types of other packages, whose documentation is not at hand offline; names of ttt_jax must be documented.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!ttt_jax\b).*"),
    (r"py:.*", r"ttt_jax\.theory\.inference\..*"),
    (r"py:.*", r"ttt_jax\.(simulation\.worklist\.AnyWork|verdict\.trial\.Trial)"),
    (r"py:.*", r"ttt_jax\.tabular\.(classify\.tuning|network\.encode|network\.v2)\..*"),
]

write_reference(ROOT / "docs" / "api")
write_modules(ROOT / "docs" / "modules.md")
PUBLIC = public_modules()

logger = logging.getLogger(__name__)


def public_names() -> dict[str, str]:
    """Every public name, as it is written in a docstring, and the object that it is documented as."""
    names = {}
    for path in PUBLIC:
        module, short = importlib.import_module(path), path.rsplit(".", 1)[1]
        names[module.__name__] = module.__name__
        for name in module.__all__:
            full = f"{module.__name__}.{name}"
            names |= {full: full, f"{short}.{name}": full, name: full}
            if inspect.isclass(found := getattr(module, name)):
                for member, value in vars(found).items():
                    if not member.startswith("_") and isinstance(value, property | FunctionType) and value.__doc__:
                        names[f"{name}.{member}"] = f"{full}.{member}"
    return names


NAMES = public_names()
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example):\s*$")
IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*(\(\))?")


def identifiers() -> set[str]:
    """Every identifier in the code of the package."""
    found = set(vars(builtins))
    for file in (ROOT / "ttt_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            for field in ("id", "attr", "arg", "name"):
                if isinstance(getattr(node, field, None), str):
                    found.add(getattr(node, field))
    return found


KNOWN = identifiers()
FOREIGN = {"model.double()"}
"""Names of PyTorch in our docstrings."""


def exists(name: str) -> bool:
    """Whether a name in backticks is one of the code's, or can be imported."""
    parts = name.removesuffix("()").split(".")
    if name in FOREIGN or set(parts) <= KNOWN:
        return True
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        return all((found := getattr(found, part, None)) is not None for part in parts[cut:])
    return False


def words(text: str, where: str) -> str:
    """A line of plain text as reStructuredText: names in backticks become links, all else is taken literally."""
    parts = text.split("`")
    for i, part in enumerate(parts):
        if i % 2 == 0 or len(parts) % 2 == 0:
            parts[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", re.sub(r"([*|\\])", r"\\\1", part))
        elif part in NAMES:
            parts[i] = f":py:obj:`{part} <{NAMES[part]}>`"
        else:
            if IDENTIFIER.fullmatch(part) and not exists(part):
                logger.warning("`%s` in the docstring of %s does not exist", part, where)
            parts[i] = f"``{part}``"
    return "".join(parts)


def plain_docstring(app, what, name, subject, options, lines: list[str]) -> None:
    """The docstrings of the package are plain text: indented formulas are literal, backticks are names."""
    out, section, in_block = [], None, False
    for line in lines:
        if match := SECTION.match(line):
            section = match[1]
        elif line and not line[0].isspace():
            section = None
        if section == "Example":
            out.append(line)
            continue
        if section is None and line.startswith("    "):
            if not in_block:
                out += [".. code-block:: text", ""]
            in_block = True
            out.append(line)
            continue
        in_block = in_block and not line
        if match := re.match(r"(Reference): (.*)", line):
            out.append(f"**{match[1]}:** {words(match[2], name)}")
        else:
            out.append(words(line, name))
    lines[:] = out


def skip_member(app, what, name, subject, skip, options):
    """The fields of a NamedTuple are documented by its Args."""
    return True if str(getattr(subject, "__doc__", "")).startswith("Alias for field number") else None


def without_value(app, domain, objtype, content) -> None:
    """The values of constants, some of them long, are left to the code; automodule knows no option for it."""
    if objtype == "data":
        for node in list(content.parent.findall(addnodes.desc_annotation)):
            if node.astext().lstrip().startswith("="):
                node.parent.remove(node)


def check_public_names(app, env) -> None:
    """Every name in every `__all__` of the public surface must be on a page."""
    documented = set(env.get_domain("py").data["objects"])
    for path in PUBLIC:
        module = importlib.import_module(path)
        for name in module.__all__:
            if f"{path}.{name}" not in documented:
                logger.warning("%s.%s is public but not documented", path, name)
            if isinstance(found := getattr(module, name), type | FunctionType) and not found.__doc__:
                logger.warning("%s.%s has no docstring", path, name)
    for name in ttt_jax.__all__:
        if name not in NAMES:
            logger.warning("ttt_jax.%s is exported, but from none of the public modules", name)


def setup(app):
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_member)
    app.connect("object-description-transform", without_value)
    app.connect("env-check-consistency", check_public_names)
