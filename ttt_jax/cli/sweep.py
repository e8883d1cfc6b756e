"""`ttt-jax sweep`, `merge` and `report`: run a grid of problems, whole or in shards, and draw it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ttt_jax._internal.command import CommandError, emit, exit_status
from ttt_jax._internal.plural import counted

EXAMPLES = """examples:
  ttt-jax sweep examples/sweep_small.toml --out out/small
  ttt-jax sweep examples/sweep_small.toml --out out/small --resume
  ttt-jax sweep grid.toml --dry-run
  ttt-jax sweep grid.toml --shard 0/100 --out out/shard-0 --resume      # and 1/100 to 99/100; then ttt-jax merge
  srun --ntasks=4 ttt-jax sweep grid.toml --out out/grid --resume --distributed
  ttt-jax sweep grid.toml --out out/grid --coordinator 10.0.0.1:1234 --num-processes 2 --process-id 0

exit status:
  0    every cell is finished
  1    no cell has values, or another process has died
  2    bad input, or not enough memory
  75   preempted (SIGTERM): saved, to be resumed
  130  interrupted
"""
PREEMPTED = 75
"""EX_TEMPFAIL of sysexits.h: the same command with --resume continues."""


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
    sweep.add_argument("--out", type=Path, metavar="DIR", help="where the store and results.csv are kept; required")
    sweep.add_argument("--dry-run", action="store_true", help="print cells, tasks and estimated seconds, and end")
    sweep.add_argument("--shard", metavar="I/N", help="cells I, I + N, I + 2 N, ... alone; see ttt-jax merge")
    sweep.add_argument(
        "--compilation-cache",
        type=Path,
        metavar="DIR",
        help="keep what JAX compiles, for later runs and other shards (default: DIR/compiled beside the store, or "
        "$JAX_COMPILATION_CACHE_DIR)",
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


def add_merge_command(commands: Any) -> None:
    """Add the command to the parser's commands."""
    merge = commands.add_parser(
        "merge",
        help="put the shards of a sweep together",
        description="Put the finished shards of a sweep together: the store and results of an undivided run.",
    )
    merge.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="--out of every shard, in any order")
    merge.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the merged sweep is kept")
    merge.set_defaults(run=run_merge)


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
    shard = _shard(arguments.shard)
    if arguments.dry_run:
        return _dry_run(arguments, shard)
    if arguments.out is None:
        raise CommandError("the following arguments are required: --out")
    _keep_compilations(arguments)
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
            with _asked_to_end() as preempted:
                rows = sweep.run_sweep(
                    arguments.spec,
                    arguments.out,
                    resume=arguments.resume,
                    plugins=arguments.plugin,
                    shard=shard,
                    preempted=preempted,
                )
        except (KeyboardInterrupt, ProcessDied, sweep.Preempted) as error:
            message = f"{str(error) or 'interrupted'}; resume with: {command}"
            print(f"ttt-jax sweep: {message}", file=sys.stderr, flush=True)
            return {KeyboardInterrupt: 130, ProcessDied: 1, sweep.Preempted: PREEMPTED}[type(error)]
        verdict = judge(rows)
        if is_leader():
            if arguments.parquet:
                sweep.write_parquet(rows, arguments.out)
            emit(f"{arguments.out / sweep.RESULTS}: {counted(len(rows), 'cell')}; {verdict}")
        return 1 if rows and verdict.empty == len(rows) else 0

    status = exit_status("ttt-jax sweep", work)
    if status and (several or status in (130, PREEMPTED)):
        os._exit(status)  # an orderly exit would wait for the other processes, or crash in a compilation cut short
    return status


def resume_command(arguments: argparse.Namespace) -> str:
    """The command line that resumes this sweep."""
    words = ["ttt-jax", "sweep", arguments.spec, "--out", arguments.out, "--resume"]
    words += [word for module in arguments.plugin for word in ("--plugin", module)]
    words += ["--shard", arguments.shard] * bool(arguments.shard)
    words += ["--compilation-cache", arguments.compilation_cache] * bool(arguments.compilation_cache)
    words += ["--parquet"] * arguments.parquet + ["--distributed"] * arguments.distributed
    if arguments.coordinator is not None:
        words += ["--coordinator", arguments.coordinator, "--num-processes", arguments.num_processes]
        words += ["--process-id", arguments.process_id]
    return shlex.join(map(str, words))


def _shard(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", given)
    if not found or not int(found[1]) < int(found[2]):
        raise CommandError(f"--shard must be I/N with I from 0 to N - 1, got {given!r}")
    return int(found[1]), int(found[2])


@contextmanager
def _asked_to_end() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come, which a cluster sends before it takes the machine away."""
    event = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _keep_compilations(arguments: argparse.Namespace) -> None:
    import jax

    if arguments.compilation_cache is None and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    directory = arguments.compilation_cache or arguments.out / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _dry_run(arguments: argparse.Namespace, shard: tuple[int, int] | None) -> int:
    from ttt_jax.sweep.plan import estimated_seconds
    from ttt_jax.sweep.spec import import_plugins, load_spec

    import_plugins(arguments.plugin)
    spec, _ = load_spec(arguments.spec)
    cells = spec.cells_of(shard)
    most = "at most " * (spec.target_relative_stderr is not None)
    seconds = estimated_seconds(spec, cells)
    emit(
        f"{arguments.spec}: {counted(len(cells), 'cell')}, {most}{counted(len(cells) * spec.num_tasks, 'task')}, "
        f"{most}about {seconds:.0f} s"
    )
    return 0


def run_merge(arguments: argparse.Namespace) -> int:
    from ttt_jax.sweep.merge import merge_shards
    from ttt_jax.sweep.run import RESULTS
    from ttt_jax.verdict.agreement import judge

    rows = merge_shards(arguments.directories, arguments.out)
    emit(f"{arguments.out / RESULTS}: {counted(len(rows), 'cell')}; {judge(rows)}")
    return 0


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
