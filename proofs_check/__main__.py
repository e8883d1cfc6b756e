"""Check every claim, or every statement of other papers, print the table, and say by the exit status how it ended.

0: every claim holds; of papers, every verdict is the recorded one. 1: a claim fails, a verdict is another one. 2: bad
input, or the report cannot be written. 3: nothing fails, but something was not judged. 130: interrupted. With --mutate:
0 if every wrong coefficient is noticed by algebra and by rational arithmetic, else 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from proofs_check.processes import stop_at_interrupt

if __name__ == "__main__":
    stop_at_interrupt()
try:
    import sympy  # noqa: F401 (the claims are written in it)

    from proofs_check import claims, paper_report, papers, report
    from proofs_check.claim import FULL, QUICK, Effort
    from proofs_check.runner import Mutated, mutate, run, run_all, run_paper
    from ttt_jax._internal.command import CommandError, OneLineParser, make_directory
    from ttt_jax._internal.xla import QUICK_TO_COMPILE
except ModuleNotFoundError as error:
    print(f"proofs_check: {error.name} is not installed; pip install '.[proofs]'", file=sys.stderr)
    sys.exit(2)

EXAMPLES = """examples:
  python -m proofs_check --quick
  python -m proofs_check --out out/proofs
  python -m proofs_check --only theorem_4_5 exact_risk
  python -m proofs_check papers --quick
  python -m proofs_check --mutate --only k_fold_exact

exit status:
  0  every claim holds; of papers, every verdict is the recorded one
  1  a claim fails, or a verdict on a paper is not the recorded one
  2  bad input, or the report cannot be written
  3  nothing fails, but something was not judged
"""


class Trial(NamedTuple):
    """What can be checked: modules, how one is run, and the module that reports on the results."""

    names: Sequence[str]
    run: Callable[[str, Effort], Any]
    report: Any


TRIALS = {"claims": Trial(claims.NAMES, run, report), "papers": Trial(papers.NAMES, run_paper, paper_report)}


def say(*lines: str) -> bool:
    """Print, and say whether somebody still reads."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it at exit fails again
        return False
    return True


def parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m proofs_check",
        description="Check formulas of the package and of the paper three ways, or statements of other papers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.usage = "python -m proofs_check [papers] [--quick] [--only NAME ...] [--out DIR | --mutate]"
    parser.add_argument(
        "what", nargs="?", choices=TRIALS, default="claims", help="the project's claims, or other papers"
    )
    parser.add_argument("--quick", action="store_true", help="fewer simulated tasks; the proofs are the same")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help=f"some of {', '.join(claims.NAMES)}; of papers: {', '.join(papers.NAMES)}",
    )
    parser.add_argument(
        "--mutate", action="store_true", help="change each coefficient by 5%% instead: is every one noticed?"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write proofs.md and proofs.html, or papers.*, to DIR")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parse = parser()
    options = parse.parse_args(arguments)
    trial = TRIALS[options.what]
    only = options.only or trial.names
    unknown = [name for name in only if name not in trial.names]
    if unknown:
        near = get_close_matches(unknown[0], trial.names, 1)
        hint = f"; did you mean {near[0]}?" if near else f", none of {', '.join(trial.names)}"
        parse.error(f"--only must be names of {options.what}, got {unknown[0]!r}{hint}")
    if options.mutate:
        if options.out or options.what != "claims":
            parse.error("--mutate must not be given with --out or papers: it changes claims and writes no report")
        return mutate_all(only)
    try:
        if options.out:
            make_directory("--out", options.out)
        return check(trial, only, QUICK if options.quick else FULL, options.out)
    except (CommandError, OSError) as error:
        parse.error(str(error))


def check(trial: Trial, names: Sequence[str], effort: Effort, out: Path | None) -> int:
    """Check, print and, after every claim, save: a run that is stopped keeps what it has done."""
    if effort == QUICK:
        os.environ["XLA_FLAGS"] = f"{QUICK_TO_COMPILE} {os.environ.get('XLA_FLAGS', '')}"
    started = time.perf_counter()
    heard = say(trial.report.header())
    results: list[Any] = []
    written: Sequence[Path] = ()
    for result in run_all(names, effort, trial.run):
        results.append(result)
        if out:
            written = trial.report.save(out, results, report.conditions(effort, time.perf_counter() - started))
        heard = heard and say(*trial.report.lines(result))
        if sys.stderr.isatty():
            print(f"\r[{len(results)}/{len(names)}]\033[K", end="\r", file=sys.stderr, flush=True)
    if heard:
        say(trial.report.summary(results), *([f"wrote {', '.join(map(str, written))}"] if written else []))
    verdicts = [result.ok for result in results]
    return 1 if False in verdicts else 3 if None in verdicts else 0


def mutate_all(names: Sequence[str]) -> int:
    """Print a line for every coefficient of every claim."""
    say(report.line(report.MUTATED, report.MUTATED_WIDTHS))
    found: list[Mutated] = []
    for of_claim in run_all(names, QUICK, mutate):
        found += of_claim
        say(*(report.line(report.mutated_row(one), report.MUTATED_WIDTHS) for one in of_claim))
    noticed = sum(one.noticed for one in found)
    say(f"{len(found)} coefficients changed by 5%: {noticed} noticed both ways, {len(found) - noticed} not")
    return 0 if noticed == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
