"""The command line: `ttt-jax risk`, `sweep`, `report` and `tabular`."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import socket
import sys
import tomllib
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttt_jax._internal.command import CommandError, OneLineParser, emit, exit_status
from ttt_jax.cli.main.tabular import add_tabular_command

if TYPE_CHECKING:
    from ttt_jax.problem import Problem
    from ttt_jax.procedures import Procedure
    from ttt_jax.verdict.comparison import Comparison

EXAMPLES = """examples:
  ttt-jax risk --d 20 --n 20 --k 40
  ttt-jax risk --d 200 --n 100 --k 400 --init zero --noise-var 0.1 --tasks 5000
  ttt-jax risk --n 20 --k 40 --task beta.npy --feature-cov sx.npy --lr 1e-5 --evaluation same --json
"""


SWEEP_EXAMPLES = """examples:
  ttt-jax sweep examples/sweep_small.toml --out out/small
  ttt-jax sweep examples/sweep_small.toml --out out/small --resume
  srun --ntasks=4 ttt-jax sweep grid.toml --out out/grid --resume --distributed
  ttt-jax sweep grid.toml --out out/grid --coordinator 10.0.0.1:1234 --num-processes 2 --process-id 0
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 with one line on standard error for bad input, 130 after an interrupt."""
    arguments = build_parser().parse_args(argv)
    return exit_status(f"ttt-jax {arguments.command}", lambda: arguments.run(arguments))


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="ttt-jax", description="Test-time training of linear transformers, in theory and simulation."
    )
    parser.add_argument("--version", action="version", version=f"ttt-jax {version('ttt_jax')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    risk = commands.add_parser(
        "risk",
        help="expected risk after one TTT step: exact, asymptotic and simulated",
        description="Expected risk after one TTT step: exact, asymptotic and simulated.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    problem = risk.add_argument_group("problem")
    problem.add_argument("--d", type=int, help="number of features (default: the size of the files)")
    problem.add_argument("--n", type=int, required=True, help="context pairs")
    problem.add_argument("--k", type=int, required=True, help="training queries of the TTT step")
    problem.add_argument("--task", metavar="FILE.npy", help="task vector b, (d,) (default: ones/sqrt(d))")
    problem.add_argument("--feature-cov", metavar="FILE.npy", help="Sx, scalar, (d,) or (d, d) (default: identity)")
    problem.add_argument("--noise-var", type=float, default=0.0, help="variance of the label noise (default: 0)")
    start = risk.add_argument_group("initial weights")
    start.add_argument("--init", choices=("pretrained", "zero"), help="W* of the pretraining law (default), or W = 0")
    start.add_argument("--weights", metavar="FILE.npy", help="W itself, scalar, (d,) or (d, d), in place of --init")
    start.add_argument("--task-cov", metavar="FILE.npy", help="task covariance of pretraining (default: identity)")
    start.add_argument("--pretrain-n", type=int, metavar="N", help="context pairs in pretraining (default: --n)")
    start.add_argument(
        "--pretrain-feature-cov", metavar="FILE.npy", help="feature covariance of pretraining (default: --feature-cov)"
    )
    start.add_argument(
        "--pretrain-noise-var", type=float, metavar="X", help="label noise of pretraining (default: --noise-var)"
    )
    step = risk.add_argument_group("step and simulation")
    step.add_argument(
        "--lr", default="optimal", help="step size: optimal (default), or a number (--lr=-1e-3 if negative)"
    )
    step.add_argument(
        "--evaluation", choices=("fresh", "same"), default="fresh", help="context at evaluation (default: fresh)"
    )
    step.add_argument(
        "--inference",
        metavar="TABLE",
        help="where inference differs from training, as 'n = 80, noise_var = 0.1' (fields of ttt_jax.Inference)",
    )
    step.add_argument(
        "--procedure",
        metavar="TABLE",
        help="in place of one gradient step, as 'name = \"folds\", folds = 5' (names: step, folds, steps, optimizer)",
    )
    step.add_argument("--tasks", type=int, default=20_000, help="simulated tasks; 0 for none (default: 20000)")
    step.add_argument(
        "--sampler",
        choices=("data", "law"),
        default="data",
        help="sample rows and take a jax.grad step (data, default), or sample the law of the statistics",
    )
    step.add_argument("--seed", type=int, default=0, help="of the simulation (default: 0)")
    step.add_argument("--x64", action="store_true", help="simulate in float64")
    step.add_argument("--json", action="store_true", help="print one JSON object")
    risk.set_defaults(run=run_risk)

    sweep = commands.add_parser(
        "sweep",
        help="a grid of problems from a TOML file, resumable, on any number of devices and processes",
        description="Compute every cell of a grid by theory and simulation; a stopped sweep goes on with --resume.",
        epilog=SWEEP_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.add_argument("spec", type=Path, metavar="SPEC.toml", help="the grid; see examples/")
    sweep.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the store and results.csv are kept"
    )
    sweep.add_argument("--resume", action="store_true", help="go on with the sweep in DIR, if there is one")
    sweep.add_argument("--parquet", action="store_true", help="write results.parquet too (extra: parquet)")
    sweep.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module first, which adds shifts to ttt_jax.SHIFTS; may be repeated",
    )
    several = sweep.add_argument_group("several processes, each started with this same command")
    several.add_argument("--distributed", action="store_true", help="join the job that JAX detects (SLURM, MPI, ...)")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, without a launcher")
    several.add_argument("--num-processes", type=int, metavar="N", help="number of processes, without a launcher")
    several.add_argument("--process-id", type=int, metavar="I", help="of this process, 0 to N - 1")
    sweep.set_defaults(run=run_sweep)

    report = commands.add_parser(
        "report",
        help="figures and one HTML page of a sweep",
        description="Draw a sweep, also one that is not finished: DIR/report.html, and DIR/figure-*.png and .svg.",
    )
    report.add_argument("directory", type=Path, metavar="DIR", help="--out of the sweep")
    report.set_defaults(run=run_report)
    add_tabular_command(commands)
    return parser


def run_risk(arguments: argparse.Namespace) -> int:
    from ttt_jax._internal.validate import seed_integer
    from ttt_jax.verdict.comparison import compare

    procedure = _procedure(arguments)
    if arguments.tasks < 0:
        raise CommandError(f"--tasks must be an integer >= 0, got {arguments.tasks}")
    seed_integer(arguments.seed)
    problem = _problem(arguments)
    weights = _weights(arguments, problem)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        comparison = compare(
            problem,
            weights,
            procedure,
            num_tasks=arguments.tasks,
            seed=arguments.seed,
            sampler=arguments.sampler,
            x64=arguments.x64,
            progress=True,
        )
    for warning in caught:
        print(f"ttt-jax risk: warning: {warning.message}", file=sys.stderr)
    result = _as_json(comparison, problem, arguments)
    emit(json.dumps(result, indent=2, allow_nan=False) if arguments.json else _as_text(comparison, problem, arguments))
    return 0


def run_sweep(arguments: argparse.Namespace) -> int:
    from ttt_jax._internal.processes import ProcessDied, connect, is_leader
    from ttt_jax.sweep import run as sweep
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
            message = f"{str(error) or 'interrupted'}; go on with: {command}"
            print(f"ttt-jax sweep: {message}", file=sys.stderr, flush=True)
            return 130 if isinstance(error, KeyboardInterrupt) else 1
        if is_leader():
            if arguments.parquet:
                sweep.write_parquet(rows, arguments.out)
            emit(f"{arguments.out / sweep.RESULTS}: {len(rows)} cells; {judge(rows)}")
        return 0

    status = exit_status("ttt-jax sweep", work)
    if status and (several or status == 130):
        os._exit(status)  # an orderly exit would wait for the other processes, or crash in a compilation cut short
    return status


def resume_command(arguments: argparse.Namespace) -> str:
    """The command line that goes on with this sweep."""
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


def _lr(text: str) -> float | str:
    if text == "optimal":
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CommandError(f"--lr must be 'optimal' or a finite number, got {text!r}")
    return value


def _load(flag: str, path: str | None, default: float | np.ndarray | None = None) -> Any:
    """The array of a .npy file, or the default; nothing in the file is ever executed."""
    if path is None:
        return default
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CommandError(f"{flag}: no such file: {path}") from None
    except OSError as error:
        raise CommandError(f"{flag}: {path} cannot be read ({error.strerror or error})") from None
    except Exception:  # whatever NumPy makes of a file that is something else: six kinds of errors are known
        array = None
    if not isinstance(array, np.ndarray) or not array.size:
        raise CommandError(f"{flag}: {path} is not a .npy file of numbers")
    return array


def _problem(arguments: argparse.Namespace) -> Problem:
    from ttt_jax._internal.validate import positive_integer
    from ttt_jax.problem import Inference, Problem

    feature_cov = _load("--feature-cov", arguments.feature_cov, 1.0)
    task = _load("--task", arguments.task)
    if task is None:
        sizes = [np.shape(feature_cov), np.shape(_load("--weights", arguments.weights, 1.0))]
        sizes.append(np.shape(_load("--task-cov", arguments.task_cov, 1.0)))
        known = [shape[0] for shape in sizes if shape] + ([] if arguments.d is None else [arguments.d])
        if not known:
            raise CommandError("--d is required, unless --task, --feature-cov, --task-cov or --weights gives the size")
        d = positive_integer("--d", known[-1])
        task = np.ones(d) / math.sqrt(d)
    elif arguments.d is not None and np.shape(task) != (arguments.d,):
        raise CommandError(f"--task must have shape ({arguments.d},) to fit --d, got {np.shape(task)}")
    evaluation = arguments.evaluation
    if arguments.inference is not None:
        evaluation = Inference(evaluation, **_inline("--inference", arguments.inference))
    return Problem(arguments.n, arguments.k, task, feature_cov, arguments.noise_var, evaluation=evaluation)


def _procedure(arguments: argparse.Namespace) -> Procedure:
    from ttt_jax.procedures import make_procedure

    lr = _lr(arguments.lr)
    given: dict[str, Any] = (
        {"name": "step"} if arguments.procedure is None else _inline("--procedure", arguments.procedure)
    )
    if given.get("name") in ("step", "folds"):
        given["lr"] = lr
    elif arguments.lr != "optimal":
        raise CommandError(f"--lr is for one step, and has no effect on the procedure {given.get('name')!r}")
    return make_procedure(**given)


def _inline(flag: str, text: str) -> dict[str, Any]:
    """The keys and values of a TOML table on one line, without its braces."""
    try:
        return tomllib.loads(f"table = {{{text}}}")["table"]
    except tomllib.TOMLDecodeError:
        raise CommandError(f"{flag} must be like 'name = \"folds\", folds = 5', got {text!r}") from None


def _weights(arguments: argparse.Namespace, problem: Problem) -> np.ndarray:
    from ttt_jax._internal.validate import weights_array
    from ttt_jax.problem import Pretraining
    from ttt_jax.theory.pretrained import pretrained_weights

    pretraining_flags = ("task_cov", "pretrain_n", "pretrain_feature_cov", "pretrain_noise_var")
    given = [f"--{name.replace('_', '-')}" for name in pretraining_flags if getattr(arguments, name) is not None]
    if arguments.weights is not None and arguments.init is not None:
        raise CommandError("--weights and --init exclude each other")
    if given and (arguments.weights is not None or arguments.init == "zero"):
        raise CommandError(f"{given[0]} has no effect with {'--weights' if arguments.weights else '--init zero'}")
    if arguments.weights is not None:
        return weights_array(_load("--weights", arguments.weights), problem.d)
    if arguments.init == "zero":
        return np.zeros(())
    feature_cov = _load("--pretrain-feature-cov", arguments.pretrain_feature_cov, problem.feature_cov)
    task_cov = _load("--task-cov", arguments.task_cov, 1.0)
    try:
        pretraining = Pretraining(
            n=problem.n if arguments.pretrain_n is None else arguments.pretrain_n,
            feature_cov=feature_cov,
            task_cov=task_cov,
            noise_var=problem.noise_var if arguments.pretrain_noise_var is None else arguments.pretrain_noise_var,
            d=problem.d,
        )
    except ValueError as error:
        raise CommandError(f"in pretraining, {error}") from None
    return pretrained_weights(pretraining, dense=False)


def _as_json(comparison: Comparison, problem: Problem, arguments: argparse.Namespace) -> dict:
    """Numbers that do not exist or are not finite are null, with a reason beside them where there is one."""
    row = comparison.row()
    monte_carlo = None
    if comparison.estimate is not None:
        names = ("stderr", "num_tasks", "sampler", "stderr_reliable", "skewness", "kurtosis", "num_nonfinite")
        monte_carlo = {"mean": row["estimate"], **{name: row[name] for name in (*names, "block_size")}}
        monte_carlo["doubt"] = comparison.estimate.doubt
    return {
        "d": problem.d,
        "n": problem.n,
        "k": problem.k,
        "noise_var": problem.noise_var,
        "init": "file" if arguments.weights is not None else arguments.init or "pretrained",
        "evaluation": arguments.evaluation,
        "seed": arguments.seed,
        "lr": row["lr"],
        "optimal_lr": getattr(comparison.exact, "optimal_lr", None),
        "initial": {"exact": row["initial"]},
        "ttt": {
            "exact": row["exact"],
            "asymptotic": row["asymptotic"],
            "asymptotic_reason": comparison.reason,
            "monte_carlo": monte_carlo,
        },
        "z": row.get("z"),
    }


def _as_text(comparison: Comparison, problem: Problem, arguments: argparse.Namespace) -> str:
    step = (
        ""
        if comparison.lr is None
        else f", lr = {comparison.lr:.6g}{' (optimal)' if arguments.lr == 'optimal' else ''}"
    )
    return (
        f"d = {problem.d}, n = {problem.n}, k = {problem.k}, noise_var = {problem.noise_var:g}, "
        f"evaluation = {arguments.evaluation}{step}\n{comparison}"
    )


if __name__ == "__main__":
    sys.exit(main())
