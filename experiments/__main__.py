"""`python -m experiments NAME ... --preset quick|paper --out DIR`."""

from __future__ import annotations

import argparse
import base64
import importlib
import io
import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

try:
    from experiments.figure import Result, read_rows
    from ttt_jax._internal.command import CommandError, OneLineParser, emit, exit_status, make_directory
    from ttt_jax._internal.html import html_page, html_table
except KeyboardInterrupt:  # the imports are most of the first second
    print("python -m experiments: interrupted", file=sys.stderr)
    sys.exit(130)

NAMES = (
    "fig1a",
    "fig1b",
    "fig2a",
    "fig2b",
    "fig2c",
    "several_steps",
    "same_context",
    "correlated_features",
    "sample_complexity",
    "kfold",
    "finite_pretraining",
    "harm",
    "lora",
    "fig3b",
)
MOST_SEED = 10**6  # cells take the seeds that follow it
EXAMPLES = """examples:
  python -m experiments fig1a
  python -m experiments fig1a fig1b --preset paper --out results
  python -m experiments all --seed 1
  python -m experiments fig1b --preset paper --rows experiments/results/paper
  python -m experiments fig3a --preset cpu

fig3a, accuracy on real tables, runs alone, is not in all, and has its own options: python -m experiments fig3a --help
"""


def main(argv: list[str] | None = None) -> int:
    """Run the named experiments; 0 if every one agrees with theory, 1 if one does not, 2 for what stops it."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["fig3a"]:
        from experiments import fig3a  # needs what the others do not

        return fig3a.main(argv[1:])
    parser = OneLineParser(
        prog="python -m experiments",
        description="Reproduce figures: a table of agreement, NAME.png, .pdf, .csv each, and index.html of several.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help=f"all, or some of: {', '.join(NAMES)}; or fig3a, not in all"
    )
    parser.add_argument("--preset", choices=("quick", "paper"), default="quick", help="sizes (default: quick)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="directory for the files (default: out)")
    parser.add_argument("--rows", type=Path, metavar="DIR", help="draw the NAME.csv of DIR anew, without a simulation")
    parser.add_argument("--seed", type=int, default=0, help=f"0 to {MOST_SEED} (default: 0)")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in (*NAMES, "all")]
    if unknown:
        parser.error(f"NAME must be all or one of {', '.join(NAMES)}, or fig3a alone, got {unknown[0]!r}")
    if not 0 <= arguments.seed <= MOST_SEED:
        parser.error(f"--seed must be an integer from 0 to {MOST_SEED}, got {arguments.seed}")
    try:
        make_directory("--out", arguments.out)
    except CommandError as error:
        parser.error(str(error))
    names = NAMES if "all" in arguments.names else tuple(dict.fromkeys(arguments.names))
    return exit_status(parser.prog, lambda: run_all(names, arguments))


def run_all(names: Sequence[str], arguments: argparse.Namespace) -> int:
    """Run these experiments, one after the other; 0 if every one agrees with theory, else 1."""
    results = []
    for name in names:
        results.append(run_one(name, arguments))
        if len(names) > 1:
            write_index(arguments.out / "index.html", results, arguments.preset)
    return 0 if all(result.agrees for result in results) else 1


def run_one(name: str, arguments: argparse.Namespace) -> Result:
    """Run one experiment, write its files, print its table."""
    started = time.perf_counter()
    module = importlib.import_module(f"experiments.{name}")
    if arguments.rows:
        rows = read_rows(arguments.rows / f"{name}.csv")
        require_sizes(rows, arguments, module.PRESETS[arguments.preset], name)
    else:
        rows = module.simulate(arguments.preset, arguments.seed)
    result = module.draw(arguments.preset, rows)
    written: list[Path] = []
    try:
        written = result.save(arguments.out)
        for kept in Path().glob(f".{name}-*.json"):
            kept.unlink()
    finally:
        emit(f"{name}, preset {arguments.preset}\n{result.table()}")
        emit("".join(f"wrote {file}\n" for file in written) + f"{time.perf_counter() - started:.0f} s\n")
    return result


def require_sizes(rows: list[dict[str, Any]], arguments: argparse.Namespace, settings: dict[str, Any], name: str):
    """ValueError unless the rows have the preset's n or d: markers would stand beside the lines of other sizes."""
    sizes = {size: {settings[size]} for size in ("n", "d") if size in settings}
    for size, asked in (sizes or {"d": set(settings.get("simulated") or settings["sizes"])}).items():
        if any(size not in row for row in rows):
            raise ValueError(f"--rows: {arguments.rows / name}.csv has no column {size}; it is no result of {name}")
        if (found := {row[size] for row in rows}) != asked:
            has, wanted = (", ".join(map(str, sorted(some))) for some in (found, asked))
            raise ValueError(
                f"--rows: {arguments.rows / name}.csv has {size} = {has}; preset {arguments.preset} has {wanted}"
            )


def write_index(file: Path, results: list[Result], preset: str):
    """One self-contained page: every figure with its statement, settings, table and verdict."""
    parts = []
    for result in results:
        module = importlib.import_module(f"experiments.{result.name}")
        picture = io.BytesIO()
        result.figure.savefig(picture, format="png")
        title, statement = str(module.__doc__).strip().split("\n", 1)
        source = f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
        parts.append(
            f'<h2 id="{result.name}">{escape(title)}</h2>\n<p>{escape(statement.strip())}</p>\n'
            f'<img src="{source}" alt="{escape(title)}" width="700">\n'
            f"<p>Settings ({preset}): {escape(str(module.PRESETS[preset]))}</p>\n"
            f"<details><summary>{escape(result.summary())}</summary><pre>{escape(result.table())}</pre></details>\n"
        )
    verdicts = html_table(("experiment", "verdict"), [(result.name, result.summary()) for result in results])
    scratch = file.with_suffix(".new")
    scratch.write_text(html_page(f"Experiments, preset {preset}", verdicts + "".join(parts)), encoding="utf-8")
    scratch.replace(file)


if __name__ == "__main__":
    sys.exit(main())
