"""Mutations: what goes unnoticed when a formula, a sign, a constant or a condition in the package changes.

python benchmarks/mutations.py                       all that benchmarks/results/mutations.csv has not as caught
python benchmarks/mutations.py --only verdict/       those with one of these texts in their file, symbol or change
python benchmarks/mutations.py --list                none; which do not fit the code any more, and what is missing

mutations.toml beside this file has them: for every file of the package the tests in which a contributor would look
first, and the changes of its symbols. Each is made in a copy of the tree, never in the tree itself, and the tests are
run on it until one fails. They must pass on the copy as it is, or being caught would mean nothing; doctests do not
count. A mutation that survives is a missing test.

The record is appended to, one line per run, so it may be made in pieces: stop with Ctrl-C and start again. The last
line of a mutation counts.
"""

from __future__ import annotations

import argparse
import ast
import csv
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).with_suffix(".toml")
RESULTS = Path(__file__).parent / "results" / "mutations.csv"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # or a change of equal length within a second would not be seen
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "ttt_jax-mutations"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "hypothesis",
        "jaxtyping",
        "jax.numpy",
        "flax.nnx",
        "optax",
        "safetensors.numpy",
        "sympy",
        "sklearn.base",
    ]
)
"""What every run imports is imported once; the package itself is not among it."""

CPU_SECONDS, WALL_SECONDS = 60, 600
"""Limits of one run of the tests; the first does not depend on what else the machine does."""

NOT_HERE = 99
"""The exit status of tests that have imported another copy of the package."""


class Mutation(NamedTuple):
    """Within the symbol, which must hold it exactly once, the text `was` becomes another."""

    file: str
    symbol: str
    was: str
    becomes: str
    tests: str

    def __str__(self) -> str:
        return f"{self.file} {self.symbol}: {self.was} -> {self.becomes}"


def read_table() -> list[Mutation]:
    """All mutations, in the order of the file."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [
        Mutation(file, symbol, was, becomes, own[0] if own else area["tests"])
        for file, area in table.items()
        for symbol, was, becomes, *own in area["changes"]
    ]


def changed(mutation: Mutation, root: Path) -> str | None:
    """The text of the mutated file; None if the symbol does not hold the old text exactly once."""
    path = root / "ttt_jax" / mutation.file
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for name, first, last in symbols(ast.parse(text)):
        body = "".join(lines[first - 1 : last])
        if name == mutation.symbol and body.count(mutation.was) == 1:
            body = body.replace(mutation.was, mutation.becomes)
            return "".join([*lines[: first - 1], body, *lines[last:]])
    return None


def symbols(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, int, int | None]]:
    """Functions, classes, methods and constants by qualified name, with their first and last line."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name, node.lineno, node.end_lineno
        if isinstance(node, ast.ClassDef):
            yield from symbols(node, f"{node.name}.")
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((prefix + ast.unparse(target), node.lineno, node.end_lineno) for target in targets)


def copy_of_the_tree(directory: Path) -> Path:
    """The files that git knows or would add, as they are now."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    return directory


def run_tests(root: Path, tests: str) -> tuple[str, float]:
    """'passed', 'failed', 'timeout' or 'error', and the seconds of processor time that it took."""
    words = [f"tests/{word}" if ".py" in word else word for word in shlex.split(tests)]
    reader, writer = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=pytest_in, args=(root, words, writer))
    process.start()
    writer.close()
    try:
        process.join(WALL_SECONDS)
    finally:  # also of Ctrl-C
        if process.pid and process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
    try:
        code, seconds = reader.recv()
    except EOFError:  # it was killed
        return ("timeout" if (process.exitcode or 0) < 0 else "error"), float(CPU_SECONDS)
    return {0: "passed", 1: "failed", 2: "failed"}.get(code, "error"), round(seconds, 1)


def pytest_in(root: Path, arguments: list[str], writer: Any) -> None:
    """Send pytest's exit status and the processor time that it took, from a process of its own."""
    import hypothesis
    import pytest

    phases = hypothesis.Phase.explicit, hypothesis.Phase.generate  # a failure need not be made small
    hypothesis.settings.register_profile("mutation", phases=phases, deadline=None, derandomize=True)
    os.setsid()
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    early = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are imported before pytest starts
    code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutation", *early, *arguments]))
    package = getattr(sys.modules.get("ttt_jax"), "__file__", None)
    if package and not Path(package).is_relative_to(root):
        code = NOT_HERE
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    writer.send((code, sum(usage.ru_utime + usage.ru_stime for usage in used)))


def try_mutation(mutation: Mutation, root: Path) -> tuple[str, float]:
    """What the tests say of the mutation, in a copy of the tree that is left as it was."""
    path, text = root / "ttt_jax" / mutation.file, changed(mutation, root)
    assert text is not None
    original = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    try:
        outcome, seconds = run_tests(root, mutation.tests)
    finally:
        path.write_text(original, encoding="utf-8")
    return {"passed": "survived", "failed": "caught"}.get(outcome, outcome), seconds


def read_record(path: Path) -> dict[tuple[str, ...], str]:
    """The last result of every mutation, by (file, symbol, was, becomes)."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return {tuple(row[name] for name in Mutation._fields[:4]): row["result"] for row in csv.DictReader(stream)}


def append(path: Path, *row: Any) -> None:
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([*([[*Mutation._fields, "result", "seconds"]] if is_new else []), row])


def main() -> int:
    """Run what is not caught yet; 0 if then every mutation is caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="mutations with one of these in them")
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the record; a new file runs all of them again")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    mutations = read_table()
    stale = [mutation for mutation in mutations if changed(mutation, ROOT) is None]
    for mutation in stale:
        print(f"does not fit the code: {mutation}")
    record = read_record(options.out)
    fitting = (mutation for mutation in mutations if mutation not in stale and record.get(mutation[:4]) != "caught")
    waiting = [mutation for mutation in fitting if any(text in str(mutation) for text in options.only)]
    clean: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = copy_of_the_tree(Path(scratch).resolve())
        for mutation in [] if options.list else waiting:
            tests = mutation.tests
            if tests not in clean:
                clean[tests], seconds = run_tests(root, tests)
                print(f"{clean[tests]:8} {seconds:5.1f} s  nothing changed: {tests}", flush=True)
            if clean[tests] == "passed":
                result, seconds = try_mutation(mutation, root)
                print(f"{result:8} {seconds:5.1f} s  {mutation}", flush=True)
                append(options.out, *mutation, result, seconds)
    record = read_record(options.out)
    counts = Counter(record.get(mutation[:4], "not run") for mutation in mutations)
    print(f"{len(mutations)} mutations: {', '.join(f'{count} {result}' for result, count in counts.most_common())}")
    return 0 if set(counts) == {"caught"} else 1


if __name__ == "__main__":
    sys.exit(main())
