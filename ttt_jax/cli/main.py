"""The command line: `ttt-jax risk`, `check`, `sweep`, `merge`, `report`, `tabular`; those about sweeps are one module.

What a command needs beyond its parser is imported when it runs.
"""

from __future__ import annotations

import argparse

from ttt_jax import __version__
from ttt_jax._internal.command import OneLineParser, exit_status
from ttt_jax.cli.check import add_check_command
from ttt_jax.cli.risk import add_risk_command
from ttt_jax.cli.sweep import add_merge_command, add_report_command, add_sweep_command
from ttt_jax.cli.tabular import add_tabular_command


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 with one line on standard error for bad input, 130 after an interrupt."""
    arguments = build_parser().parse_args(argv)
    return exit_status(f"ttt-jax {arguments.command}", lambda: arguments.run(arguments))


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="ttt-jax", description="Test-time training of linear transformers, in theory and simulation."
    )
    parser.add_argument("--version", action="version", version=f"ttt-jax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adders = (
        add_risk_command,
        add_check_command,
        add_sweep_command,
        add_merge_command,
        add_report_command,
        add_tabular_command,
    )
    for add_command in adders:
        add_command(commands)
    return parser
