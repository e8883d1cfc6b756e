"""`ttt-jax risk`: the expected risk of one problem, exact, asymptotic and simulated."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ttt_jax._internal.command import CommandError, emit

if TYPE_CHECKING:
    from ttt_jax.problem import Inference, Problem
    from ttt_jax.procedures import Procedure
    from ttt_jax.verdict.comparison import Comparison
    from ttt_jax.verdict.yardsticks import Yardstick

EXAMPLES = """examples:
  ttt-jax risk --d 20 --n 20 --k 40
  ttt-jax risk --d 200 --n 100 --k 400 --init zero --noise-var 0.1 --tasks 5000
  ttt-jax risk --n 20 --k 40 --task beta.npy --feature-cov sx.npy --lr 1e-5 --evaluation same --json
"""


def add_risk_command(commands: Any) -> None:
    """Add the command to the parser's commands."""
    risk = commands.add_parser(
        "risk",
        help="expected risk after test-time training: exact, asymptotic and simulated",
        description="Expected risk after one TTT step, or another procedure: exact, asymptotic and simulated.",
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
    start.add_argument("--weights", metavar="FILE.npy", help="W itself, scalar, (d,) or (d, d), instead of --init")
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
        help="how inference differs from training, e.g. 'n = 80, noise_var = 0.1' (fields of ttt_jax.Inference)",
    )
    step.add_argument(
        "--procedure",
        metavar="TABLE",
        help="instead of one gradient step, e.g. 'name = \"folds\", folds = 5' (names: step, folds, steps, optimizer)",
    )
    step.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module first, which adds procedures of your own; may be repeated",
    )
    step.add_argument("--tasks", type=int, default=20_000, help="simulated tasks; 0 for none (default: 20000)")
    step.add_argument(
        "--sampler",
        choices=("data", "law"),
        default="data",
        help="sample rows and take a jax.grad step (data, default), or draw from the law of their summaries (law)",
    )
    step.add_argument("--seed", type=int, default=0, help="of the simulation (default: 0)")
    step.add_argument("--x64", action="store_true", help="simulate in float64")
    step.add_argument("--json", action="store_true", help="print one JSON object")
    risk.set_defaults(run=run_risk)


def run_risk(arguments: argparse.Namespace) -> int:
    from ttt_jax._internal.validate import seed_integer
    from ttt_jax.sweep.spec import import_plugins
    from ttt_jax.verdict.comparison import compare
    from ttt_jax.verdict.yardsticks import yardsticks

    import_plugins(arguments.plugin)
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
    found = yardsticks(problem, num_draws=_draws(problem) if arguments.tasks else 0, seed=arguments.seed)
    if arguments.json:
        emit(json.dumps(_as_json(comparison, found, problem, arguments), indent=2, allow_nan=False))
    else:
        emit("\n".join([_as_text(comparison, problem, arguments), *map(str, found)]))
    return 0


def _draws(problem: Problem) -> int:
    """How many yardsticks without a formula are simulated: 200, or what takes some seconds, or none."""
    from ttt_jax.theory.yardsticks import labelled_pairs

    pairs, d = labelled_pairs(problem), problem.d
    draws = min(200, int(2e9 / (pairs * d * (min(pairs, d) + 100))))
    return draws if draws > 1 else 0


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
    from ttt_jax.problem import Problem

    feature_cov = _load("--feature-cov", arguments.feature_cov, 1.0)
    task = _load("--task", arguments.task)
    if task is None:
        sizes = [np.shape(feature_cov), np.shape(_load("--weights", arguments.weights, 1.0))]
        sizes.append(np.shape(_load("--task-cov", arguments.task_cov, 1.0)))
        known = [shape[0] for shape in sizes if shape] + ([] if arguments.d is None else [arguments.d])
        if not known:
            raise CommandError("--d is required unless --task, --feature-cov, --task-cov or --weights gives the size")
        d = positive_integer("--d", known[-1])
        task = np.ones(d) / math.sqrt(d)
    elif arguments.d is not None and np.shape(task) != (arguments.d,):
        raise CommandError(f"--task must have shape ({arguments.d},) to fit --d, got {np.shape(task)}")
    evaluation = _evaluation(arguments)
    return Problem(arguments.n, arguments.k, task, feature_cov, arguments.noise_var, evaluation=evaluation)


def _evaluation(arguments: argparse.Namespace) -> str | Inference:
    from ttt_jax.sweep.spec import inference_table

    if arguments.inference is None:
        return arguments.evaluation
    table = _inline("--inference", arguments.inference, "n = 80, noise_var = 0.1")
    if "context" in table:
        raise CommandError("--inference must not give the context; use --evaluation")
    return inference_table("--inference", {"context": arguments.evaluation, **table})


def _procedure(arguments: argparse.Namespace) -> Procedure:
    from ttt_jax.sweep.spec import procedure_of_table

    table = {"name": "step"}
    if arguments.procedure is not None:
        table = _inline("--procedure", arguments.procedure, 'name = "folds", folds = 5')
    if "lr" in table:
        raise CommandError("--procedure must not give the lr; use --lr")
    return procedure_of_table("--procedure", table, _lr(arguments.lr))


def _inline(flag: str, text: str, example: str) -> dict[str, Any]:
    """The keys and values of a TOML table on one line, without its braces."""
    try:
        return tomllib.loads(f"table = {{{text}}}")["table"]
    except (tomllib.TOMLDecodeError, RecursionError):
        raise CommandError(f"{flag} must be like {example!r}, got {text!r}") from None


def _weights(arguments: argparse.Namespace, problem: Problem) -> np.ndarray:
    from ttt_jax._internal.validate import weights_array
    from ttt_jax.problem import Pretraining
    from ttt_jax.theory.pretrained import pretrained_weights

    pretraining_flags = ("task_cov", "pretrain_n", "pretrain_feature_cov", "pretrain_noise_var")
    given = [f"--{name.replace('_', '-')}" for name in pretraining_flags if getattr(arguments, name) is not None]
    if arguments.weights is not None and arguments.init is not None:
        raise CommandError("--weights and --init are mutually exclusive")
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


def _as_json(
    comparison: Comparison, found: Sequence[Yardstick], problem: Problem, arguments: argparse.Namespace
) -> dict:
    """Numbers that do not exist or are not finite are null, with a reason beside them where there is one."""
    from ttt_jax.verdict.agreement import finite_or_none

    row = comparison.row()
    monte_carlo = None
    if comparison.estimate is not None:
        names = (
            "stderr",
            "stderr_exact",
            "num_tasks",
            "sampler",
            "stderr_reliable",
            "skewness",
            "kurtosis",
            "num_nonfinite",
        )
        monte_carlo = {"mean": row["estimate"], **{name: row[name] for name in (*names, "block_size")}}
        monte_carlo["doubt"] = comparison.estimate.doubt
    return {
        "d": problem.d,
        "n": problem.n,
        "k": problem.k,
        "noise_var": problem.noise_var,
        "init": "file" if arguments.weights is not None else arguments.init or "pretrained",
        "evaluation": arguments.evaluation,
        **_tables(arguments),
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
        "yardsticks": {
            one.name.replace(" ", "_"): vars(one) | {"risk": finite_or_none(one.risk), "exact": one.exact}
            for one in found
        },
    }


def _as_text(comparison: Comparison, problem: Problem, arguments: argparse.Namespace) -> str:
    line = f"d = {problem.d}, n = {problem.n}, k = {problem.k}, noise_var = {problem.noise_var:g}"
    line += f", evaluation = {arguments.evaluation}"
    line += "".join(f", {name} = {{{text}}}" for name, text in _tables(arguments).items())
    if comparison.lr is not None:
        line += f", lr = {comparison.lr:.6g}{' (optimal)' if arguments.lr == 'optimal' else ''}"
    return f"{line}\n{comparison}"


def _tables(arguments: argparse.Namespace) -> dict[str, str]:
    """The laws and procedures that were given as tables, as they were typed."""
    given = {"inference": arguments.inference, "procedure": arguments.procedure}
    return {name: text for name, text in given.items() if text is not None}
