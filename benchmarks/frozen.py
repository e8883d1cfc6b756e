"""Frozen numbers: what the public surface computes, against a record of it, bit for bit.

python benchmarks/frozen.py             compare with benchmarks/results/frozen.json; exit 1 if any number differs
python benchmarks/frozen.py --write     record

Where a name or a signature of the public surface changes, the adapters below change with it, and nothing else does.
Bits are promised for one machine and one version of JAX and NumPy, which the record names. Elsewhere the last digits of
a matrix product may differ: the largest relative difference is printed beside every number that does.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import math
import pkgutil
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ttt_jax as ttt

RECORD = Path(__file__).parent / "results" / "frozen.json"


# Adapters: how the public surface is asked.


def exact(problem: ttt.Problem, weights: Any, evaluation: str, **options: Any) -> ttt.RiskCurve:
    return ttt.exact_risk(replace(problem, evaluation=evaluation), weights, **options)


def leading_order(problem: ttt.Problem, weights: Any, evaluation: str) -> ttt.RiskCurve:
    return ttt.asymptotic_risk(replace(problem, evaluation=evaluation), weights)


def estimate(problem: ttt.Problem, weights: Any, lr: float, evaluation: str, **options: Any) -> dict[str, Any]:
    found = ttt.estimate_risk(replace(problem, evaluation=evaluation), weights, lr, **options)
    fields = "mean stderr num_tasks stderr_reliable skewness kurtosis num_nonfinite block_size history"
    return {field: getattr(found, field) for field in fields.split()}


def steps(problem: ttt.Problem, weights: Any, procedure: Any, evaluation: str = "fresh") -> dict[str, Any]:
    problem = replace(problem, evaluation=evaluation)
    found = ttt.estimate_risk(problem, weights, procedure, num_tasks=1500, seed=7)
    stopped = found.stopped or (math.nan, math.nan, math.nan)
    names = "stopped", "stopped_stderr", "stopped_step"
    numbers = {field: getattr(found, field) for field in ("mean", "stderr", "num_tasks", "num_nonfinite")}
    return numbers | dict(zip(names, stopped, strict=True))


def folds(problem: ttt.Problem, weights: Any, number: int, evaluation: str) -> ttt.RiskCurve:
    problem = replace(problem, evaluation=evaluation)
    return ttt.estimate_curve(problem, weights, ttt.Folds(number), num_tasks=600, seed=5)


def named(name: str) -> Callable:
    """The public function of this name, in whichever module it lives."""
    for module in pkgutil.walk_packages(ttt.__path__, "ttt_jax."):
        if "tabular" not in module.name and not module.name.endswith("__main__"):
            found = vars(importlib.import_module(module.name)).get(name)
            if callable(found) and found.__module__ == module.name:
                return found
    raise AttributeError(f"ttt_jax has no function {name}")


def command(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "ttt_jax", *words], check=True, capture_output=True, text=True).stdout


# The problems.


def problems() -> Iterator[tuple[str, ttt.Problem, np.ndarray]]:
    """Every form of Sx and W, with and without noise, sizes from 1 to 64; random tasks of every kind of average."""
    rng = np.random.default_rng(20)
    forms = {
        "scalar": lambda d: np.asarray(rng.uniform(0.5, 2)),
        "diagonal": lambda d: rng.uniform(0.3, 2, d),
        "dense": lambda d: (lambda root: root @ root.T)(np.eye(d) + 0.4 * rng.normal(size=(d, d)) / math.sqrt(d)),
    }
    for d, n, k in ((1, 3, 2), (5, 4, 7), (64, 32, 128)):
        for form, draw in forms.items():
            for noise_var in (0.0, 0.3):
                task, feature_cov = rng.normal(size=d) / math.sqrt(d), draw(d)
                weights = {
                    "scalar": np.asarray(1 / (n + d + 1)),
                    "diagonal": rng.normal(size=d) / (n + d),
                    "dense": rng.normal(size=(d, d)) / (n + d) / math.sqrt(d),
                }[form]
                yield f"d={d} {form} noise={noise_var}", ttt.Problem(n, k, task, feature_cov, noise_var), weights
    d = 6
    spread = rng.uniform(0.2, 1, d)
    low_rank = np.outer(spread, spread)
    for name, tasks, feature_cov in (
        ("isotropic tasks", ttt.GaussianTasks(mean=rng.normal(size=d), cov=0.5), 1.0),
        ("tasks of rank one", ttt.GaussianTasks(cov=low_rank), forms["dense"](d)),
        ("sampled tasks", ttt.GaussianTasks(mean=0.2, cov=spread), forms["diagonal"](d)),
    ):
        weights = np.asarray(1 / 20) if np.ndim(feature_cov) == 0 else rng.normal(size=d) / 30
        yield name, ttt.Problem(8, 12, tasks, feature_cov, 0.1), weights


def curve(risk: ttt.RiskCurve) -> dict[str, Any]:
    """All that a curve says."""
    lr = 0.7 * risk.optimal_lr
    return {
        "coefficients": [risk.c0, risk.c1, risk.c2],
        "covariance": risk.covariance.tolist() if risk.covariance.any() else 0,
        "optimum": [risk.initial, risk.optimal_lr, risk.optimal, risk.largest_improving_lr],
        "at": [risk.at(lr), risk.stderr(lr)],
    }


# The numbers, a function for every part.


def theory() -> dict[str, Any]:
    return {
        f"{formula.__name__}: {name}, {evaluation}": curve(formula(problem, weights, evaluation))
        for name, problem, weights in problems()
        for evaluation in ("fresh", "same")
        for formula in (exact, leading_order)
    }


def pretraining() -> dict[str, Any]:
    return {
        name: ttt.pretrained_weights(
            ttt.Pretraining(problem.n, problem.feature_cov, noise_var=problem.noise_var, d=problem.d), dense=False
        ).tolist()
        for name, problem, _ in problems()
        if problem.d <= 16
    } | {
        "task_cov of deficient rank": ttt.pretrained_weights(
            ttt.Pretraining(7, np.diag([1.0, 2.0, 0.5]) + 0.1, np.outer([1.0, 2.0, 0.0], [1.0, 2.0, 0.0]), 0.2)
        ).tolist()
    }


def paper() -> dict[str, Any]:
    b = np.array([0.6, -0.3, 0.5, 0.2])
    isotropic = ttt.Problem(9, 14, b)
    coloured = ttt.Problem(9, 14, b, [0.5, 1.0, 1.5, 2.0])
    weights = np.array([0.02, 0.05, 0.0, 0.09])
    formula = {
        name: named(name)
        for name in (
            "corollary_4_4_turning_point",
            "corollary_4_6_switch",
            "corollary_5_4_switch",
            "lemma_b2",
            "lemma_c1",
            "misalignment",
            "proposition_4_1_risk",
            "proposition_5_2_risk",
            "proposition_5_2_weights",
            "theorem_4_2",
            "theorem_4_5",
            "theorem_5_3",
            "theorem_c4",
        )
    }
    risk, best = formula["lemma_c1"](9, b)
    return {
        "corollary_4_4_turning_point": [formula["corollary_4_4_turning_point"](g) for g in (0.4, 0.7, 3.0)],
        "corollary_4_6_switch": [formula["corollary_4_6_switch"](a) for a in (0.2, 1.0, 5.0)],
        "corollary_5_4_switch": formula["corollary_5_4_switch"](isotropic, weights),
        "lemma_b2": [formula["lemma_b2"](problem, w) for _, problem, w in problems() if problem.d == 5],
        "lemma_c1": [risk, best.tolist()],
        "misalignment": formula["misalignment"](isotropic, weights),
        "proposition_4_1_risk": [formula["proposition_4_1_risk"](9, 10, 1.5, s2) for s2 in (0.0, 0.4)],
        "proposition_5_2_risk": formula["proposition_5_2_risk"](isotropic, weights),
        "proposition_5_2_weights": formula["proposition_5_2_weights"](9, [1.0, 0.5, 0.0]).tolist(),
        "theorem_4_2": [curve(formula["theorem_4_2"](40, 80, 60, 1.3, simplified=flag)) for flag in (True, False)],
        "theorem_4_5": [curve(formula["theorem_4_5"](40, 80, 60, 1.3, s2)) for s2 in (0.0, 0.4)],
        "theorem_5_3": curve(formula["theorem_5_3"](isotropic, weights)),
        "theorem_c4": curve(formula["theorem_c4"](coloured, weights / 4)),
    }


def several_steps() -> dict[str, Any]:
    noisy = ttt.Problem(12, 20, np.full(10, 0.3), noise_var=0.2)
    clean = ttt.Problem(12, 20, np.full(10, 0.3))
    weights = 0.01 * np.arange(100.0).reshape(10, 10) / 100
    sizes = named("best_step_sizes")(clean, 3)
    return {
        "best_step_sizes": sizes.tolist(),
        "best_steps_risk": [
            named("best_steps_risk")(replace(clean, evaluation=e), weights, 3) for e in ("fresh", "same")
        ],
        "marchenko_pastur": [part.tolist() for part in named("marchenko_pastur")(0.7, 4)],
        "new_context_risk": named("new_context_risk")(noisy, weights, 0.3 * sizes).tolist(),
        "new_context_risk_leading": named("new_context_risk_leading")(clean, weights, 0.3 * sizes).tolist(),
        "one_batch_risk": [
            named("one_batch_risk")(replace(noisy, evaluation=e), weights, sizes).tolist() for e in ("fresh", "same")
        ],
    }


def simulation() -> dict[str, Any]:
    chosen = {"d=5 dense noise=0.3", "sampled tasks"}
    numbers: dict[str, Any] = {}
    for name, problem, weights in problems():
        if name not in chosen:
            continue
        for evaluation in ("fresh", "same"):
            lr = exact(problem, weights, evaluation, num_tasks=500).optimal_lr
            for sampler, tasks in (("law", 5000), ("data", 1500)):
                numbers[f"{sampler}: {name}, {evaluation}"] = estimate(
                    problem, weights, lr, evaluation, num_tasks=tasks, seed=3, sampler=sampler
                )
    signs = ttt.Problem(6, 10, np.full(4, 0.5), noise_var=0.1, feature_law="rademacher")
    tails = ttt.Problem(6, 10, np.full(4, 0.5), feature_law="student_t", dof=30.0)
    options: dict[str, Any] = {"num_tasks": 1000, "seed": 4}
    numbers["data: rademacher"] = estimate(signs, 0.05, 1e-4, "fresh", **options)
    numbers["data: student_t"] = estimate(tails, 0.05, 1e-4, "fresh", **options)
    numbers["data: float64"] = estimate(signs, 0.05, 1e-4, "same", x64=True, **options)
    numbers["law: stopped by its target"] = estimate(
        ttt.Problem(6, 10, np.full(4, 0.5)),
        0.05,
        1e-4,
        "fresh",
        num_tasks=50_000,
        sampler="law",
        block_size=256,
        target_relative_stderr=0.02,
    )
    problem = ttt.Problem(9, 12, np.full(4, 0.5), [0.5, 1.0, 1.0, 2.0], noise_var=0.1)
    sizes = [2e-4, 1e-4, 1e-4]
    schedule = optax.sgd(lambda i: jnp.asarray(sizes)[i])
    numbers["steps: one batch"] = steps(problem, 0.05, ttt.Optimizer(schedule, 3, held_out=6))
    numbers["steps: new contexts"] = steps(problem, 0.05, ttt.GradientSteps(sizes, new_context=True))
    numbers["steps: adam"] = steps(problem, 0.05, ttt.Optimizer(optax.adam(1e-2), 3), "same")
    numbers["folds: 3, same"] = curve(folds(problem, 0.05, 3, "same"))
    return numbers


def step_of_a_model() -> dict[str, Any]:
    rng = np.random.default_rng(6)
    d, n, k = 4, 6, 5
    x, y = rng.normal(size=(n + k, d)), rng.normal(size=n + k)
    x, y = x.astype(np.float32), y.astype(np.float32)
    prompt = ttt.Prompt(x[:n], y[:n], x[n:], y[n:])
    weights = (rng.normal(size=(d, d)) / 10).astype(np.float32)
    numbers = {}
    for module in (ttt.LinearAttention(weights), ttt.TokenLinearAttention.from_weights(weights)):
        model, params = ttt.functional(module)
        after = ttt.ttt_step(model, params, prompt, 1e-3)
        trained = ttt.ttt_train(model, params, prompt, optax.adam(1e-2), 3)
        folded = ttt.ttt_loss(model, params, ttt.fold_prompts(x[:10], y[:10], 5))
        numbers[type(module).__name__] = {
            "loss": float(ttt.ttt_loss(model, params, prompt)),
            "after": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(after)],
            "trained": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(trained)],
            "loss of folds": float(folded),
        }
    return numbers


SPEC = """
[sweep]
seed = 11
num_tasks = 2000
[grid]
d = 6
n_over_d = 0.5
k = [8, 20]
noise_var = 0.1
lr = ["optimal", 1e-4]
evaluation = ["fresh", "same"]
shift = ["none", "features"]
"""
RUN_COLUMNS = ("versions", "device")
"""Columns of results.csv that say how a sweep was run, not what came out."""


def command_line() -> dict[str, Any]:
    size = ("--n", "12", "--k", "20", "--d", "8", "--tasks", "1000", "--json")
    numbers: dict[str, Any] = {
        "risk, law": json.loads(command("risk", *size, "--sampler", "law", "--noise-var", "0.2", "--seed", "2")),
        "risk, data": json.loads(command("risk", *size, "--evaluation", "same", "--init", "zero", "--lr", "1e-5")),
    }
    with tempfile.TemporaryDirectory() as directory:
        spec, out = Path(directory) / "spec.toml", Path(directory) / "out"
        spec.write_text(SPEC, encoding="utf-8")
        command("sweep", str(spec), "--out", str(out))
        with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
            rows = [{name: row[name] for name in row if name not in RUN_COLUMNS} for row in csv.DictReader(stream)]
        convergence = (out / "convergence.csv").read_bytes()
    text = "\n".join(",".join(row.values()) for row in rows)
    numbers["sweep, sha256 of results.csv"] = hashlib.sha256(text.encode()).hexdigest()
    numbers["sweep, sha256 of convergence.csv"] = hashlib.sha256(convergence).hexdigest()
    numbers["sweep, rows"] = [{name: _number(text) for name, text in row.items()} for row in rows]
    return numbers


def tables() -> dict[str, Any]:
    from ttt_jax.tabular import PFN, PFNClassifier, PFNConfig, TTTClassifier

    rng = np.random.default_rng(8)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int) + (x[:, 3] > 1)
    x[3, 1] = np.nan
    context, labels, queries = x[:30], y[:30].astype(np.float32), x[30:]

    def logits(pfn: PFN) -> list:
        return np.asarray(pfn.apply(context, labels, queries)).tolist()

    start = PFN.init(PFNConfig(num_layers=2, outlier_sigma=12.0), seed=1)
    leaves, structure = jax.tree.flatten(start)
    noisy = [np.asarray(leaf) + 0.05 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    plain = PFNClassifier(n_estimators=2).fit(x[:30], y[:30])
    small = PFN.init(PFNConfig(embedding_size=16, num_layers=2, num_heads=2, num_classes=3), seed=2)
    tuned = TTTClassifier(small, n_context=10, steps=6, learning_rate=0.01, batch_size=16, n_estimators=2)
    return {
        "logits of the bundled network": logits(plain.pfn_),
        "logits of a random network": logits(jax.tree.unflatten(structure, noisy)),
        "PFNClassifier, probabilities": plain.predict_proba(queries).tolist(),
        "TTTClassifier, probabilities": tuned.fit(x[:40], y[:40]).predict_proba(x[40:]).tolist(),
    }


PARTS = (theory, pretraining, paper, several_steps, simulation, step_of_a_model, command_line, tables)


def _number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def compute() -> dict[str, Any]:
    """All numbers, as plain data of JSON."""
    numbers = {}
    for part in PARTS:
        started = time.perf_counter()
        numbers[part.__name__] = part()
        print(f"{part.__name__}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return json.loads(json.dumps(numbers, default=np.ndarray.tolist))


def machine() -> dict[str, str]:
    """What bits may depend on besides the code."""
    cpu = Path("/proc/cpuinfo")
    models = [line for line in cpu.read_text().splitlines() if "model name" in line] if cpu.exists() else []
    return {
        "cpu": models[0].split(":")[1].strip() if models else platform.processor(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every number below a value, by its path."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f"{name} / {key}" if name else str(key))
    else:
        yield name, value


def difference(before: Any, now: Any) -> float:
    """The relative difference of two values that are not equal; inf where one is no finite number."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, now))
    if not numbers or not math.isfinite(before) or not math.isfinite(now):
        return math.inf
    return abs(now - before) / max(abs(before), abs(now))


def compare(before: dict[str, Any], now: dict[str, Any]) -> int:
    """Print every number that differs or is gone; how many do. A number that was not recorded is no difference."""
    old, new = dict(leaves(before, "")), dict(leaves(now, ""))
    changed = {
        name: difference(value, new.get(name))
        for name, value in old.items()
        if name not in new or not _same(value, new[name])
    }
    for name, relative in changed.items():
        print(f"{name}: {old[name]} -> {new.get(name, 'gone')}  (relative difference {relative:.1e})")
    if unknown := len(new.keys() - old.keys()):
        print(f"{unknown} numbers are not in the record")
    if changed:
        print(f"{len(changed)} of {len(old)} numbers differ, relatively by at most {max(changed.values()):.1e}")
    else:
        print(f"all {len(old)} numbers are the same, bit for bit")
    return len(changed)


def _same(before: Any, now: Any) -> bool:
    return before == now or (before != before and now != now)  # nan is itself


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="record the numbers in place of comparing them")
    options = parser.parse_args()
    if options.write:
        RECORD.write_text(json.dumps({"machine": machine(), "numbers": compute()}, indent=1) + "\n", encoding="utf-8")
        print(f"{RECORD}: {len(list(leaves(json.loads(RECORD.read_text())['numbers'], '')))} numbers")
        return 0
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for name, value in machine().items():
        if value != record["machine"][name]:
            print(f"recorded with {name} {record['machine'][name]}, this is {value}: bits may differ")
    return 1 if compare(record["numbers"], compute()) else 0


if __name__ == "__main__":
    sys.exit(main())
