"""Check every claim and print the table; exit status 1 if any verdict is a miss."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ttt_jax._internal.html import html_page, html_table

try:
    from proofs_check.claim import FULL, QUICK
    from proofs_check.claims import NAMES
    from proofs_check.runner import Result, run_all
except ModuleNotFoundError as error:
    print(f"proofs_check: {error.name} is not installed; pip install '.[proofs]'", file=sys.stderr)
    sys.exit(2)

EXAMPLES = """examples:
  python -m proofs_check --quick
  python -m proofs_check --out out/proofs
  python -m proofs_check --only theorem_4_5 exact_risk
"""
MARKS = {True: "ok", False: "MISS", None: "n/a"}
HEADER = ("claim", "number", "symbolic", "independent", "empirical", "seconds")


def row(result: Result) -> tuple[str, ...]:
    return (result.name, result.number, *(MARKS[v.ok] for v in result.verdicts), f"{result.seconds:.1f}")


def markdown(results: list[Result], title: str) -> str:
    lines = [f"# {title}", "", f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    lines += [f"| {' | '.join(row(result))} |" for result in results]
    for result in results:
        lines += ["", f"## {result.number}: {result.name}", "", result.statement, ""]
        lines += [
            f"- {kind}: {MARKS[verdict.ok]}: {verdict.detail}"
            for kind, verdict in zip(HEADER[2:5], result.verdicts, strict=True)
        ]
    return "\n".join(lines) + "\n"


def html(results: list[Result], title: str) -> str:
    details = [
        (f"{result.number}: {result.name}", result.statement, *(f"{MARKS[v.ok]}: {v.detail}" for v in result.verdicts))
        for result in results
    ]
    tables = html_table(HEADER, [row(result) for result in results]) + html_table(
        ("claim", "statement", *HEADER[2:5]), details
    )
    return html_page(title, tables)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m proofs_check",
        description="Check every formula of the package and of the paper three ways.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.usage = "python -m proofs_check [--quick] [--only NAME ...] [--out DIR]"
    parser.error = lambda message: parser.exit(2, f"proofs_check: {message}\n")  # type: ignore[method-assign,assignment]
    parser.add_argument("--quick", action="store_true", help="fewer simulated tasks; the proofs are the same")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=NAMES, help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write proofs.md and proofs.html to DIR")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parse = parser()
    options = parse.parse_args(arguments)
    unknown = [name for name in options.only if name not in NAMES]
    if unknown:
        parse.error(f"--only must be one of {', '.join(NAMES)}, got {unknown[0]}")
    if options.out and options.out.exists() and not options.out.is_dir():
        parse.error(f"--out must be a directory, got {options.out}")
    widths = (36, 28, 9, 12, 10, 7)
    print("".join(f"{word:<{width}}" for word, width in zip(HEADER, widths, strict=True)), flush=True)
    results = []
    for result in run_all(options.only, QUICK if options.quick else FULL):
        results.append(result)
        print("".join(f"{word:<{width}}" for word, width in zip(row(result), widths, strict=True)))
        for kind, verdict in zip(HEADER[2:5], result.verdicts, strict=True):
            print(f"    {kind:<12}{verdict.detail}", flush=True)
        if sys.stderr.isatty():
            print(f"\r[{len(results)}/{len(options.only)}]\033[K", end="\r", file=sys.stderr, flush=True)
    misses = sum(not result.ok for result in results)
    title = f"{len(results)} claims checked, {misses} missed"
    print(title)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "proofs.md").write_text(markdown(results, title), encoding="utf-8")
        (options.out / "proofs.html").write_text(html(results, title), encoding="utf-8")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
