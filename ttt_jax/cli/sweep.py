"""`ttt-jax sweep` and `ttt-jax report`: run a grid of problems, and draw it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ttt_jax._internal.command import CommandError, emit, exit_status
from ttt_jax._internal.plural import counted

EXAMPLES = """examples:
  ttt-jax sweep examples/sweep_small.toml --out out/small
  ttt-jax sweep examples/sweep_small.toml --out out/small --resume
  srun --ntasks=4 ttt-jax sweep grid.toml --out out/grid --resume --distributed
  ttt-jax sweep grid.toml --out out/grid --coordinator 10.0.0.1:1234 --num-processes 2 --process-id 0

exit status:
  0    every cell is finished
  1    no cell has values, or another process has died
  2    bad input
  130  interrupted
"""


def add_sweep_command(commands: Any) -> None:
    """Add the command to the parser's commands."""
    sweep = commands.add_parser(
        "sweep",
        help="a grid of problems from a TOML file, resumable, on any number of devices and processes",
        description="Compute every cell of a grid by theory and simulation; resume a stopped sweep with --resume.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.add_argument("spec", type=Path, metavar="SPEC.toml", help="the grid; see examples/")
    sweep.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the store and results.csv are kept"
    )
    sweep.add_argument("--resume", action="store_true", help="continue the sweep in DIR, if there is one")
    sweep.add_argument("--parquet", action="store_true", help="write results.parquet too (extra: parquet)")
    sweep.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module first, which adds shifts or procedures of your own; may be repeated",
    )
    several = sweep.add_argument_group("several processes, each started with this same command")
    several.add_argument("--distributed", action="store_true", help="join the job that JAX detects (SLURM, MPI, ...)")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, without a launcher")
    several.add_argument("--num-processes", type=int, metavar="N", help="number of processes, without a launcher")
    several.add_argument("--process-id", type=int, metavar="I", help="of this process, 0 to N - 1")
    sweep.set_defaults(run=run_sweep)


def add_report_command(commands: Any) -> None:
    """Add the command to the parser's commands."""
    report = commands.add_parser(
        "report",
        help="figures and one HTML page of a sweep",
        description="Draw a sweep, finished or not: DIR/report.html, and DIR/figure-*.png and .svg.",
    )
    report.add_argument("directory", type=Path, metavar="DIR", help="--out of the sweep")
    report.set_defaults(run=run_report)


def run_sweep(arguments: argparse.Namespace) -> int:
    import ttt_jax.sweep.run as sweep
    from ttt_jax._internal.processes import ProcessDied, connect, is_leader
    from ttt_jax.verdict.agreement import judge

    if arguments.parquet and not find_spec("pyarrow"):
        raise CommandError("--parquet needs pyarrow: pip install 'ttt_jax[parquet]'")
    address = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    joined = [value is not None for value in address]
    if any(joined) and not all(joined):
        raise CommandError("--coordinator, --num-processes and --process-id must be given together")
    several, command = arguments.distributed or all(joined), resume_command(arguments)
    if all(joined):
        _require_address(*address)
    if several:
        advice = f"if a process dies or stops, end them all and start each again, this one with: {command}"
        print(f"ttt-jax sweep: process {os.getpid()} on {socket.gethostname()}; {advice}", file=sys.stderr, flush=True)
        print(f"ttt-jax sweep: {connect(*address)}", file=sys.stderr, flush=True)

    def work() -> int:
        try:
            rows = sweep.run_sweep(arguments.spec, arguments.out, resume=arguments.resume, plugins=arguments.plugin)
        except (KeyboardInterrupt, ProcessDied) as error:
            message = f"{str(error) or 'interrupted'}; resume with: {command}"
            print(f"ttt-jax sweep: {message}", file=sys.stderr, flush=True)
            return 130 if isinstance(error, KeyboardInterrupt) else 1
        verdict = judge(rows)
        if is_leader():
            if arguments.parquet:
                sweep.write_parquet(rows, arguments.out)
            emit(f"{arguments.out / sweep.RESULTS}: {counted(len(rows), 'cell')}; {verdict}")
        return 1 if verdict.empty == len(rows) else 0

    status = exit_status("ttt-jax sweep", work)
    if status and (several or status == 130):
        os._exit(status)  # an orderly exit would wait for the other processes, or crash in a compilation cut short
    return status


def resume_command(arguments: argparse.Namespace) -> str:
    """The command line that resumes this sweep."""
    words = ["ttt-jax", "sweep", arguments.spec, "--out", arguments.out, "--resume"]
    words += [word for module in arguments.plugin for word in ("--plugin", module)]
    words += ["--parquet"] * arguments.parquet + ["--distributed"] * arguments.distributed
    if arguments.coordinator is not None:
        words += ["--coordinator", arguments.coordinator, "--num-processes", arguments.num_processes]
        words += ["--process-id", arguments.process_id]
    return shlex.join(map(str, words))


def _require_address(coordinator: str, num_processes: int, process_id: int) -> None:
    from ttt_jax._internal.validate import positive_integer

    if not re.fullmatch(r".+:\d{1,5}", coordinator) or int(coordinator.rsplit(":", 1)[1]) > 65535:
        raise CommandError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
    if not 0 <= process_id < positive_integer("--num-processes", num_processes):
        raise CommandError(f"--process-id must be from 0 to {num_processes - 1}, got {process_id}")


def run_report(arguments: argparse.Namespace) -> int:
    from ttt_jax.sweep.report import write_report

    emit(str(write_report(arguments.directory)))
    return 0
