"""`ttt-jax check`: the claims of a Python file on trial, with a table, figures and one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttt_jax._internal.command import emit, refuse_overwriting

if TYPE_CHECKING:
    from ttt_jax.verdict.outcome import Check

EXAMPLES = """examples:
  ttt-jax check examples/claims.py --out out/claims
  ttt-jax check examples/claims.py --out out/claims --only upper_bound --tasks 100000

CLAIMS.py is a Python module: every name in it that is a ttt_jax.Claim is tried. Rows are kept in DIR: the same command
resumes where it stopped and computes nothing twice.

exit status:
  0    every claim holds
  1    a claim is refuted, or is open: too little speaks for it
  2    bad input
  130  interrupted
"""


def add_check_command(commands: Any) -> None:
    """Add the command to the parser's commands."""
    check = commands.add_parser(
        "check",
        help="your claims on trial, from a Python file: by exact theory and by simulation",
        description="Try the claims of a Python file: DIR/results.csv, DIR/report.html and a figure of every claim.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", type=Path, metavar="CLAIMS.py", help="the claims; see examples/claims.py")
    check.add_argument("--out", type=Path, required=True, metavar="DIR", help="where rows and the report are kept")
    check.add_argument("--only", action="append", default=[], metavar="NAME", help="one claim; may be repeated")
    check.add_argument(
        "--tasks", type=int, metavar="N", help="simulated tasks per problem, for every claim; 0 for none"
    )
    check.add_argument("--seed", type=int, metavar="S", help="of the simulations, for every claim")
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    from ttt_jax.verdict.claim_file import run_claims
    from ttt_jax.verdict.claim_report import PAGE, TABLE, write_report

    refuse_overwriting([arguments.file], [arguments.out / name for name in (TABLE, PAGE)])
    changes = {"num_tasks": arguments.tasks, "seed": arguments.seed}
    found = run_claims(
        arguments.file,
        arguments.out,
        only=arguments.only,
        told=_tell,
        **{name: value for name, value in changes.items() if value is not None},
    )
    emit(str(write_report(found, arguments.out, f"Claims of {arguments.file.name}")))
    return 0 if all(check for _, check in found.values()) else 1


def _tell(name: str, check: Check) -> None:
    """The name and the verdict, and below them what came of the comparisons."""
    emit("\n  ".join([f"{name}: {check.verdict}", *str(check).splitlines()[1 + len(check.rows) :]]))
