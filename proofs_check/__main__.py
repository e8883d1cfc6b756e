"""Check every claim, print the table, and say by the exit status how it ended.

0: every claim holds. 1: a claim fails. 2: bad input, or the report cannot be written. 3: no claim fails, but something
was not judged. 130: interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from proofs_check.processes import stop_at_interrupt

if __name__ == "__main__":
    stop_at_interrupt()
try:
    from proofs_check.claim import FULL, QUICK, Effort
    from proofs_check.claims import NAMES
    from proofs_check.runner import Result, run_all
    from ttt_jax._internal.html import html_page, html_table
except ModuleNotFoundError as error:
    print(f"proofs_check: {error.name} is not installed; pip install '.[proofs]'", file=sys.stderr)
    sys.exit(2)

EXAMPLES = """examples:
  python -m proofs_check --quick
  python -m proofs_check --out out/proofs
  python -m proofs_check --only theorem_4_5 exact_risk

exit status:
  0  every claim holds
  1  a claim fails
  2  bad input, or the report cannot be written
  3  no claim fails, but something was not judged
"""
MARKS = {True: "holds", False: "FAILS", None: "not judged"}
HEADER = ("claim", "number", "symbolic", "independent", "empirical", "seconds")
WIDTHS = 37, 31, 11, 12, 11, 7


def row(result: Result) -> tuple[str, ...]:
    return (result.name, result.number, *(MARKS[v.ok] for v in result.verdicts), f"{result.seconds:.1f}")


def summary(results: Sequence[Result]) -> str:
    count = {ok: sum(result.ok is ok for result in results) for ok in MARKS}
    return f"{len(results)} claims checked: {count[True]} hold, {count[False]} fail, {count[None]} not judged"


def conditions(effort: Effort, seconds: float) -> str:
    """When the report was made, with how much simulation and in how long."""
    kind = "quick" if effort == QUICK else "full"
    return f"{date.today()}, {kind} effort, seed {effort.seed}, {seconds:.0f} s on {os.cpu_count()} cores."


def markdown(results: Sequence[Result], made: str) -> str:
    lines = [f"# {summary(results)}", "", made, ""]
    lines += [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    lines += [f"| {' | '.join(row(result))} |" for result in results]
    for result in results:
        lines += ["", f"## {result.number}: {result.name}", "", result.statement, ""]
        lines += [
            f"- {kind}: {MARKS[verdict.ok]}: {verdict.detail}"
            for kind, verdict in zip(HEADER[2:5], result.verdicts, strict=True)
        ]
    return "\n".join(lines) + "\n"


def html(results: Sequence[Result], made: str) -> str:
    details = [
        (f"{result.number}: {result.name}", result.statement, *(f"{MARKS[v.ok]}: {v.detail}" for v in result.verdicts))
        for result in results
    ]
    tables = html_table(HEADER, [row(result) for result in results]) + html_table(
        ("claim", "statement", *HEADER[2:5]), details
    )
    return html_page(f"{summary(results)}; {made}", tables)


def save(out: Path, results: Sequence[Result], made: str) -> None:
    (out / "proofs.md").write_text(markdown(results, made), encoding="utf-8")
    (out / "proofs.html").write_text(html(results, made), encoding="utf-8")


def say(*lines: str) -> bool:
    """Print, and say whether somebody still reads."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it at exit fails again
        return False
    return True


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
    try:
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=options.out):
                pass
        return run(options.only, QUICK if options.quick else FULL, options.out)
    except OSError as error:
        parse.error(f"--out must be a directory that can be written: {error}")


def run(names: Sequence[str], effort: Effort, out: Path | None) -> int:
    """Check, print and, after every claim, save: a run that is stopped keeps what it has done."""
    started = time.perf_counter()
    heard = say("".join(f"{word:<{width}}" for word, width in zip(HEADER, WIDTHS, strict=True)))
    results: list[Result] = []
    for result in run_all(names, effort):
        results.append(result)
        if out:
            save(out, results, conditions(effort, time.perf_counter() - started))
        heard = heard and say(
            "".join(f"{word:<{width}}" for word, width in zip(row(result), WIDTHS, strict=True)),
            *(f"    {kind:<12}{v.detail}" for kind, v in zip(HEADER[2:5], result.verdicts, strict=True)),
        )
        if sys.stderr.isatty():
            print(f"\r[{len(results)}/{len(names)}]\033[K", end="\r", file=sys.stderr, flush=True)
    if heard:
        say(summary(results), *([f"wrote {out / 'proofs.md'}, {out / 'proofs.html'}"] if out else []))
    verdicts = [result.ok for result in results]
    return 1 if False in verdicts else 3 if None in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
