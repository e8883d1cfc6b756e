"""Mutations: what goes unnoticed when a formula, a sign, a constant or a condition in the package changes.

python benchmarks/mutations.py                         all that benchmarks/results/mutations.json has not caught yet
python benchmarks/mutations.py --only law_risk --jobs 2

Each mutation is named by a symbol (a function, a method or a constant, found by its name in whichever file it lives)
and a change of its text. It is made in a copy of the tree, never in the tree itself, and the test files in which a
contributor would look first are run on it. They must pass on the copy as it is, or being caught would mean nothing.
Doctests do not count. A mutation that survives is a missing test.
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "mutations.json"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # or a change of equal length within a second would not be seen
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / "ttt_jax-mutations")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "hypothesis",
        "jaxtyping",
        "jax.numpy",
        "flax.nnx",
        "optax",
        "safetensors.numpy",
        "sympy",
        "sklearn.base",
    ]
)
"""What every run imports is imported once; the package itself is not among it."""

CPU_SECONDS, WALL_SECONDS = 60, 300
"""Limits of one run of the tests; the first does not depend on what else the machine does."""

TESTS = {
    "exact": "theory/test_exact.py",
    "leading order": "theory/test_leading_order.py",
    "paper": "theory/test_leading_order.py",
    "several steps": "theory/test_several_steps.py",
    "random tasks": "theory/test_task_average.py",
    "moments": "simulation/test_accumulate.py",
    "pretraining": "training/test_pretraining.py",
    "questions": "theory/test_decisions.py",
    "simulation": "simulation/test_estimate.py",
    "folds": "simulation/test_folds.py",
    "trajectory": "simulation/test_gradient_steps.py",
    "reliability": "simulation/test_reliability.py",
    "comparison": "verdict",
    "check": "verdict/test_claim.py",
    "specification": "sweep/test_spec.py",
    "store": "sweep/test_store.py",
    "sweep": "sweep/test_run.py -k 'not process and not killed and not devices and not ctrl_c'",
    "shifts": "test_shifts.py -k 'not leading_order_holds'",
    "models": "training/test_models.py training/test_steps.py",
    "transformers": "training/test_transformers.py",
    "network": "tabular/test_network.py",
    "members": "tabular/test_members.py",
    "splits": "tabular/test_splits.py",
    "columns": "tabular/test_columns.py",
    "checkpoint": "tabular/test_checkpoint.py",
    "classifier": "tabular/test_estimators.py -k 'not conventions'",
    "tuning": "tabular/test_ttt_classifier.py -k 'not conventions'",
    "prior": "tabular/pretraining/prior",
    "pretraining of tables": "tabular/pretraining",
}
"""The test files of every area, below tests/, as arguments of pytest."""


class Mutation(NamedTuple):
    """A change: within the symbol, which must hold `old` exactly once, `old` becomes `new`."""

    area: str
    symbol: str
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.symbol}: {self.old} -> {self.new}"


MUTATIONS = [
    Mutation(*row)
    for row in [
        ("exact", "risk_coefficients", "tau = b @ p + s2", "tau = b @ p"),
        ("exact", "risk_coefficients", "g + (2.0 * outer(", "g + (1.0 * outer("),
        ("exact", "risk_coefficients", "k * (k + 1) * (sx2 @ sx)", "k * k * (sx2 @ sx)"),
        ("exact", "risk_coefficients", "q_noise = s2 * k * trace(sx2)", "q_noise = s2 * k * trace(sx)"),
        ("exact", "risk_coefficients", "u_cov @ (w.T @ sx)", "u_cov @ (w @ sx)"),
        ("exact", "risk_coefficients", "u_cov + (n * n * outer(", "u_cov + (n * outer("),
        ("exact", "risk_coefficients", "c1 = 4 * k * _expected", "c1 = 2 * k * _expected"),
        ("exact", "_quadratic", "{2: 2 * inner(kg.T, fg)}", "{2: inner(kg.T, fg)}"),
        ("exact", "_fourth_power", "tr1**2 + 2 * tr2", "tr1**2 + tr2"),
        ("exact", "_fourth_power", "8 * (p @ (g @ (kg @ p)))", "4 * (p @ (g @ (kg @ p)))"),
        ("exact", "_fourth_power", "(3, 8.0, ggp)", "(3, 4.0, ggp)"),
        ("exact", "_expected_product", "(1, -2 * (e @ (q @ wp)))", "(1, -1 * (e @ (q @ wp)))"),
        ("exact", "_expected_product", "(1, -wp)", "(1, wp)"),
        ("exact", "_expected_product", "{power + 1: c", "{power: c"),
        ("exact", "_chi2_mean", "2 * n + 4 * a + 4 * a**2", "2 * n + 4 * a**2"),
        ("exact", "_chi2_mean", "m * (n + 2 * j)", "m * (n + j)"),
        ("exact", "exact_risk", "max(curve.c1, 0.0)", "curve.c1"),
        ("leading order", "asymptotic_coefficients", "* (r0 + noise_var)", "* r0"),
        ("leading order", "asymptotic_coefficients", "n**2 * (p @ p) + n * tau * trace(sx)", "n**2 * (p @ p)"),
        ("leading order", "asymptotic_coefficients", "tau = task @ p + noise_var", "tau = task @ p"),
        ("leading order", "asymptotic_coefficients", "slope, size = r1", "slope, size = a1"),
        ("leading order", "asymptotic_coefficients", "4 * k * size**2", "2 * k * size**2"),
        ("leading order", "asymptotic_risk", "if not any(", "if False and any("),
        ("paper", "lemma_b2", "n * (n + 1) * (w @ p)", "n * n * (w @ p)"),
        ("paper", "proposition_4_1_risk", "noise_var * n * d", "noise_var * n"),
        ("paper", "theorem_4_2", "d**3 / (n + d) ** 3", "d**2 / (n + d) ** 2"),
        ("paper", "theorem_4_2", "(n**2 + d)", "n**2"),
        ("paper", "theorem_4_5", "4 * n + 3 + d", "4 * n + d"),
        ("paper", "theorem_4_5", "(k + d + 1) * task_norm2", "(k + d) * task_norm2"),
        ("paper", "theorem_4_5", "2 * noise_var * (n + d + 1)", "noise_var * (n + d + 1)"),
        ("paper", "corollary_4_4_turning_point", "math.sqrt(3 *", "math.sqrt(2 *"),
        ("paper", "corollary_4_6_switch", "(n_over_d + 2)", "(n_over_d + 1)"),
        ("paper", "misalignment", "(1 - n * w)", "(1 + n * w)"),
        ("paper", "corollary_5_4_switch", "(2 * c1 + c2)", "(c1 + c2)"),
        ("paper", "lemma_c1", "2 * norm2 / (n + 2)", "2 * norm2 / (n + 1)"),
        ("paper", "theorem_5_3", "bound * (1 + 1e-12)", "bound * 100"),
        ("paper", "theorem_c4", "root * w * root", "w"),
        ("paper", "_shared_step", "(k + d) * (a + spread)", "k * (a + spread)"),
        ("several steps", "one_batch_risk", "- 2 * kappa * a", "- kappa * a"),
        ("several steps", "one_batch_risk", "norm2 + n * d * tau)", "norm2)"),
        ("several steps", "one_batch_risk", "psi**2 @ (over_m / m)", "psi**2 @ over_m"),
        ("several steps", "marchenko_pastur", "np.pi / (points + 1)", "np.pi / (points + 2)"),
        ("several steps", "best_steps_risk", "(1 - left) * a**2", "left * a**2"),
        ("several steps", "best_step_sizes", "(norm2 + problem.noise_var)", "norm2"),
        ("several steps", "best_steps_fraction", "steps) + 1)", "steps))"),
        ("several steps", "new_context_risk", "4 * f * left * y", "2 * f * left * y"),
        ("several steps", "new_context_risk", "2 * trace_pgp", "trace_pgp"),
        ("several steps", "new_context_risk", "k * (k + d + 1)", "k * (k + d)"),
        ("several steps", "new_context_risk", "(d - 1) * across", "d * across"),
        ("several steps", "new_context_risk_leading", "(1 - 2 * x) * a", "(1 - x) * a"),
        ("random tasks", "squared_norm_quadrature", "values + 2 * shift2", "values + shift2"),
        ("random tasks", "squared_norm_quadrature", "values + 3 * shift2", "values + 2 * shift2"),
        ("random tasks", "hermite_quadrature", "> math.log(max_tasks)", ">= math.log(max_tasks)"),
        ("random tasks", "HERMITE_NODES", "4", "3"),
        ("random tasks", "average_over_tasks", "rowvar=False) / num_tasks", "rowvar=False)"),
        ("random tasks", "_mean_initial_risk", "s2 * spread + s2", "s2 * spread"),
        ("random tasks", "_mean_initial_risk", "float(n) * (wsx.T", "0.0 * (wsx.T"),
        ("random tasks", "draw_tasks", "tasks.mean + ", ""),
        ("moments", "Moments.merge", "6 * step**2", "4 * step**2"),
        ("moments", "Moments.merge", "a * b * (a - b)", "a * b * (b - a)"),
        ("moments", "Moments.merge", "4 * step * (a * other.m3", "3 * step * (a * other.m3"),
        ("moments", "Moments.variance", "(self.count - 1)", "self.count"),
        ("moments", "Moments.stderr", "self.variance / self.count", "self.variance"),
        ("pretraining", "pretrained_weights", "(n + 1) * t_values", "n * t_values"),
        ("pretraining", "pretrained_weights", "(n + 1) * t +", "n * t +"),
        ("pretraining", "pretrained_weights", "t_values.sum() + s2", "t_values.sum()"),
        ("pretraining", "pretrained_weights", "values > d * np.finfo(np.float64).eps *", "values > 0 *"),
        ("pretraining", "proposition_5_2_weights", "n + 1 +", "n +"),
        ("pretraining", "sample_prompt", "noise_std * jax", "noise_std**2 * jax"),
        ("pretraining", "starting_weights", "noise_var=problem.noise_var, ", ""),
        ("questions", "_in_k", "(two - 2 * one) / 2", "(two - one) / 2"),
        ("questions", "_InK.smallest_k", "math.ceil(", "math.floor("),
        ("questions", "warm_or_cold", "cold.risk(k)) <= 0", "cold.risk(k)) >= 0"),
        ("simulation", "data_risk", "weights - setting.lr", "weights + setting.lr"),
        ("simulation", "summaries", "jnp.where(setting.same, u, fresh)", "fresh"),
        ("simulation", "sum_over_rows", "< rows", "<= rows"),
        ("simulation", "sum_over_rows", "(rows + ROW_BLOCK - 1) //", "rows //"),
        ("simulation", "sum_over_rows", "jnp.sqrt(setting.noise_var)", "setting.noise_var"),
        ("simulation", "gradient", "return jnp.sum(", "return 0.5 * jnp.sum("),
        ("simulation", "draw_statistic", "(t - jnp.sqrt", "(t + jnp.sqrt"),
        ("simulation", "draw_statistic", "label @ label + setting.noise_var", "label @ label"),
        ("simulation", "law_risk", "+ 2 * setting.lr", "+ setting.lr"),
        ("simulation", "law_risk", "draw_statistic(key_fresh", "draw_statistic(key_context"),
        ("simulation", "make_setting", "m**2 * scale", "m * scale"),
        ("simulation", "make_setting", "jnp.asarray(unit * _array", "jnp.asarray(_array"),
        ("simulation", "run_blocks", "start[0] + i", "i"),
        ("simulation", "simulate_blocks", "block[: num_tasks - done * block_size]", "block"),
        ("simulation", "simulate_blocks", "-(-num_tasks // block_size)", "num_tasks // block_size"),
        ("simulation", "Tally.add", "len(risks) - len(finite)", "0"),
        ("simulation", "Tally.at_mark", "bit_length() - 3", "bit_length() - 2"),
        ("simulation", "Tally.reached", "stderr <= target", "stderr >= target"),
        ("simulation", "estimate_of", "tally.num_tasks > 1", "tally.num_tasks > 0"),
        ("folds", "_Sampler.__call__", "-2 * error @ change", "2 * error @ change"),
        ("folds", "_Sampler.__call__", "pairs(key_fresh, self.n)", "pairs(key_data, self.n)"),
        ("folds", "estimate_folds", "total - total // folds", "total // folds"),
        ("folds", "estimate_folds", "(num_tasks - 1) / num_tasks", "(num_tasks - 1)"),
        ("folds", "estimate_folds", "float(setting.lr) ** np.arange(3)", "np.ones(3)"),
        ("folds", "_mean_and_scatter", "(count * len(draws) / total)", "len(draws)"),
        ("folds", "fold_prompts", "np.delete(np.arange(total), rows)", "np.delete(np.arange(total), rows - 1)"),
        ("trajectory", "_Sampler.__call__", 'self.protocol == "new_context"', 'self.protocol != "new_context"'),
        ("trajectory", "_Sampler.__call__", "jnp.argmin(losses)", "jnp.argmax(losses)"),
        ("trajectory", "_Sampler.__call__", "jax.random.fold_in(key_train, i)", "key_train"),
        ("trajectory", "_in_units", "m * unit * gradient", "unit * gradient"),
        ("trajectory", "_in_units", "return m * updates", "return updates"),
        ("reliability", "_unseen_variance", "np.argsort(-risk)", "np.argsort(risk)"),
        ("reliability", "_unseen_variance", "+ 2 * lr * scale**2", "+ lr * scale**2"),
        ("reliability", "_unseen_variance", "lgamma(degrees / 2 + m)", "lgamma(degrees / 2 + 2 * m)"),
        ("reliability", "unseen_variance", '24 if evaluation == "same" else 16', '12 if evaluation == "same" else 8'),
        ("reliability", "MAX_UNSEEN_VARIANCE", "0.1", "0.9"),
        ("comparison", "Comparison.z", "(mean - exact) / stderr", "(exact - mean) / stderr"),
        ("comparison", "Comparison.z", "self.exact.stderr(self.lr), ", ""),
        ("comparison", "critical_z", "(1 + confidence ** (1 / count)) / 2", "confidence ** (1 / count)"),
        ("comparison", "family_verdict", "max(len(zs), 1)", "1"),
        ("comparison", "best_curve", "exact or asymptotic", "asymptotic or exact"),
        ("comparison", "FLOAT32_ROUNDING", "1e-6", "0.0"),
        ("check", "_judge", "abs(limit) <= resolution", "abs(limit) <= 100 * resolution"),
        ("check", "_judge", "+ critical * noise", ""),
        ("check", "_judge", "abs(row.z) <= critical", "row.z <= critical"),
        ("check", "_judge", "row.stderr_reliable and ", ""),
        ("check", "_judge", "(critical + POWER) * min(", "POWER * min("),
        ("check", "_of_estimates", "[3, -4, 1]) / (2 * lr)", "[3, -4, 1]) / lr"),
        ("check", "_of_estimates", "(slope / 2 - claimed * curvature)", "(slope / 2)"),
        ("check", "_errors_of_curve", "1e-4 * curve.initial", "0.0"),
        ("check", "Check.ok", "True in verdicts and ", ""),
        ("check", "check", "seed=seed + 3 * i + multiple", "seed=seed"),
        ("check", "value_at_infinity", "min(3, len(sizes))", "min(2, len(sizes))"),
        ("check", "limit_with_resolution", "(most - 1, most)", "(most, most)"),
        ("check", "looks_asymptotic", "abs(c2) <= ", "abs(c2) >= "),
        ("specification", "_cells", "[seed, index]", "[seed, 0]"),
        ("specification", "_rows", "round(min(", "int(min("),
        ("specification", "make_spec", "other in sweep or ", ""),
        ("specification", "Cell.problem", 'self.init == "pretrained"', 'self.init != "pretrained"'),
        ("store", "Store._require_health", 'report != "ok"', "False"),
        ("store", "Store.records", " or _checksum(name, text) != crc", ""),
        ("store", "Store._locked", "fcntl.LOCK_EX", "fcntl.LOCK_SH"),
        ("store", "Store.put", "in remove or ()", "in ()"),
        ("sweep", "_run_cell", 'Tally.from_dict(begun["tally"])', "Tally()"),
        ("sweep", "_run_cell", 'begun["block_size"] if begun else None', "None"),
        ("sweep", "run_sweep", 'partial and partial["cell"] == cell.index', "partial"),
        ("sweep", "_start", "if changes:", "if False:"),
        ("sweep", "_start", "if not resume:", "if False:"),
        ("sweep", "_row", '"k_over_d": cell.k / cell.d', '"k_over_d": cell.n / cell.d'),
        ("sweep", "_row", "comparison.exact.at(lr)", "comparison.exact.initial"),
        ("sweep", "verdict", 'row["stderr_reliable"] and ', ""),
        ("shifts", "reverse", "_halves(ratio, 1.0, d)", "_halves(1.0, ratio, d)"),
        ("shifts", "orthogonal", "1 - inside, inside", "inside, inside"),
        ("shifts", "power_law", "test_exponent) / 2)", "test_exponent))"),
        ("shifts", "spiked", "np.sqrt(d - 1)", "(d - 1)"),
        ("shifts", "rotated", "_halves(1.0, 0.0, d)", "_halves(0.0, 1.0, d)"),
        ("shifts", "features", "variances / variances.mean()", "variances"),
        ("shifts", "scale", "float(factor) ** 2", "float(factor)"),
        ("shifts", "_tasks", "task_cov / trace", "task_cov"),
        ("shifts", "_student_t", "jnp.sqrt((dof - 2) / dof) * ", ""),
        ("models", "ttt_step", "p - lr * g", "p + lr * g"),
        ("models", "ttt_loss", "return jnp.sum((prompt", "return jnp.mean((prompt"),
        ("models", "ttt_train", "after < best_loss", "after > best_loss"),
        ("models", "LinearAttention.encode", "self.weights[...] @ u", "self.weights[...].T @ u"),
        ("models", "TokenLinearAttention.__call__", "self.key[...].T", "self.key[...]"),
        ("transformers", "MultiLayerLinearAttention.__call__", "z + (z @ query", "(z @ query"),
        ("transformers", "Decoder.__call__", " & (index[None, :] < 2 * n)", ""),
        ("transformers", "Decoder.__call__", "jnp.minimum(jnp.arange(2 * n + k), 2 * n)", "jnp.arange(2 * n + k)"),
        ("network", "_standardise", "-_CLIP, _CLIP", "-2 * _CLIP, 2 * _CLIP"),
        ("network", "_ContextMoments.std", "chosen) - 1, 1)", "chosen), 1)"),
        ("network", "missing_indicator", "jnp.full_like(x, 4)", "jnp.full_like(x, 3)"),
        ("network", "encode_features", "features_per_group / used", "used / features_per_group"),
        ("network", "_clip_outliers", "mean + reach + jnp.log", "mean + reach - jnp.log"),
        ("network", "Attention.project", "q / size**0.5", "q"),
        ("network", "_attend_to_context", "k[:1, :n], v[:1, :n]", "k[-1:, :n], v[-1:, :n]"),
        ("network", "_attend", "jnp.where(is_key, 0, -jnp.inf)", "jnp.where(is_key, 0, 0.0)"),
        ("network", "_LAYER_NORM_EPSILON", "1e-5", "1e-3"),
        ("network", "sum_rows", "num_rows // _ACCUMULATORS * _ACCUMULATORS", "num_rows"),
        ("members", "draw_members", "components if i % 2 else None", "None if i % 2 else components"),
        ("members", "draw_members", "columns, rows - 1)", "columns, rows)"),
        ("members", "_only_nan_missing", "np.isfinite(X)", "~np.isposinf(X)"),
        ("splits", "deal_contexts", "(group * q + np.arange(q))", "np.arange(q)"),
        ("splits", "context_quotas", "(np.arange(len(counts)) < n)", "(np.arange(len(counts)) < 0)"),
        ("splits", "split_rows", "np.setdiff1d(rows, held_out)", "rows"),
        ("columns", "_box_muller", "dtype(2 * np.pi)", "dtype(np.pi)"),
        ("columns", "_one_by_one", "count + count % 2", "count + 2"),
        ("checkpoint", "_tensor", "last >= storage.size", "last > storage.size"),
        ("checkpoint", "_tensor", " and n >= 0", ""),
        ("checkpoint", "_known", 'module == "torch" and ', ""),
        ("checkpoint", "_run", "function is not _tensor and function is not _dictionary", "False"),
        ("checkpoint", "_Archive.bytes", "info.file_size > limit", "False"),
        ("checkpoint", "_Archive.__init__", "info.compress_type != zipfile.ZIP_STORED", "False"),
        ("checkpoint", "_rename", "renamed[ours] = tensor.T if transpose else tensor", "renamed[ours] = tensor"),
        ("classifier", "PFNClassifier._predict_block", "/ self.softmax_temperature", "* self.softmax_temperature"),
        ("classifier", "PFNClassifier._predict_block", "[: len(X), member.ranks]", "[: len(X), : len(member.ranks)]"),
        ("classifier", "_offsets", "> 1000 *", "> 1e9 *"),
        ("tuning", "_better", " and score.accuracy >= scores[0].accuracy", ""),
        ("tuning", "_better", "score.log_loss < best", "score.log_loss > best"),
        ("tuning", "_update", "p - learning_rate * u", "p + learning_rate * u"),
        ("tuning", "tune_in_one_step", "p - rate * g", "p + rate * g"),
        ("tuning", "_start", "held_out, classes.shown)", "held_out, classes.number)"),
        ("tuning", "tune", ">= patience * every", ">= 0"),
        ("prior", "_task", "jnp.where(draw() < 0.5, 2, several)", "several"),
        ("prior", "_columns", "< 0.3 * draw(", "< 0.9 + 0.1 * draw("),
        ("prior", "_Uniforms.integer", "high + 1", "high"),
        ("pretraining of tables", "_answers", "jnp.cumsum(present, axis=1) - 1", "jnp.cumsum(present, axis=1)"),
        ("pretraining of tables", "_loss", "jnp.where(known, losses, 0)", "losses"),
    ]
]


def locate(mutation: Mutation, root: Path) -> tuple[Path, str] | None:
    """The one file of the package whose symbol of this name holds the old text once, and its text once changed."""
    found = []
    for path in sorted((root / "ttt_jax").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if mutation.symbol.split(".")[-1] not in text or mutation.old not in text:
            continue
        lines = text.splitlines(keepends=True)
        for name, node in symbols(ast.parse(text)):
            if name == mutation.symbol:
                start, end = node.lineno - 1, node.end_lineno
                body = "".join(lines[start:end])
                if body.count(mutation.old) == 1:
                    changed = body.replace(mutation.old, mutation.new)
                    found.append((path, "".join(lines[:start]) + changed + "".join(lines[end:])))
    return found[0] if len(found) == 1 else None


def symbols(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Functions, methods and constants, by qualified name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{item.name}", item) for item in node.body if isinstance(item, ast.FunctionDef))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node) for target in targets if isinstance(target, ast.Name))


def copy_of_the_tree(directory: Path) -> Path:
    """The files that git knows or would add, as they are now."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    return directory


def run_tests(root: Path, tests: str) -> tuple[str, float]:
    """'passed', 'failed', 'timeout' or 'error', and the seconds of processor time that it took."""
    words = [f"tests/{word}" if ".py" in word else word for word in shlex.split(tests)]
    reader, writer = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=pytest_in, args=(root, words, writer))
    process.start()
    writer.close()
    process.join(WALL_SECONDS)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    try:
        code, seconds = reader.recv()
    except EOFError:  # it was killed
        return ("timeout" if process.exitcode < 0 else "error"), float(CPU_SECONDS)
    return {0: "passed", 5: "error"}.get(code, "failed"), seconds


def pytest_in(root: Path, arguments: list[str], writer: Any) -> None:
    """Send pytest's exit status and the processor time that it took, from a process of its own."""
    import pytest

    os.setsid()
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ["PYTHONPATH"] = str(root)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    early = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are imported before pytest starts
    code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *early, *arguments]))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    writer.send((code, sum(usage.ru_utime + usage.ru_stime for usage in used)))


def try_mutation(mutation: Mutation, root: Path) -> dict[str, Any]:
    """What the mapped tests say of the mutation."""
    located = locate(mutation, root)
    if located is None:
        return {"result": "error: text not found", "file": None, "seconds": 0.0}
    path, changed = located
    original = path.read_text(encoding="utf-8")
    path.write_text(changed, encoding="utf-8")
    try:
        outcome, seconds = run_tests(root, TESTS[mutation.area])
    finally:
        path.write_text(original, encoding="utf-8")
    result = {"passed": "survived", "failed": "caught"}.get(outcome, outcome)
    return {"result": result, "file": str(path.relative_to(root)), "seconds": round(seconds, 1)}


def main() -> int:
    """Run what is not caught yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutations with this text in their area or name")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at a time (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="a new file runs all of them again")
    options = parser.parse_args()
    recorded = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    records = {name: recorded[name] for name in (m.name for m in MUTATIONS) if name in recorded}
    waiting = [
        m
        for m in MUTATIONS
        if options.only in f"{m.area}: {m.name}" and records.get(m.name, {}).get("result") != "caught"
    ]
    lock = Lock()
    with tempfile.TemporaryDirectory() as scratch:
        trees: SimpleQueue[Path] = SimpleQueue()
        for i in range(options.jobs):
            trees.put(copy_of_the_tree(Path(scratch) / str(i)))
        clean: dict[str, str] = {}

        def handle(mutation: Mutation) -> None:
            tests = TESTS[mutation.area]
            root = trees.get()
            try:
                if clean.get(tests) != "passed":
                    clean[tests], seconds = run_tests(root, tests)
                    print(f"{clean[tests]:10} {seconds:5.0f} s  {tests}, nothing changed", flush=True)
                if clean[tests] == "passed":
                    record = try_mutation(mutation, root)
                else:
                    record = {"result": f"error: tests {clean[tests]} unchanged", "file": None, "seconds": 0.0}
            finally:
                trees.put(root)
            with lock:
                before = records.get(mutation.name, {})
                if "survived" in (before.get("result"), before.get("first")):
                    record["first"] = "survived"
                records[mutation.name] = {"area": mutation.area, "tests": tests, **record}
                print(f"{record['result']:10} {record['seconds']:5.0f} s  {mutation.name}", flush=True)
                write(records, options.out)

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(handle, waiting))
    write(records, options.out)
    print(summary(records))
    return 0 if all(record["result"] == "caught" for record in records.values()) else 1


def write(records: dict[str, Any], path: Path) -> None:
    """The records, and beside them the same as a table in Markdown."""
    ordered = {m.name: records[m.name] for m in MUTATIONS if m.name in records}
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
    lines = ["# Mutations", "", summary(ordered), "", "| area | symbol | was | becomes | result |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for mutation in MUTATIONS:
        if record := ordered.get(mutation.name):
            again = ", survived at first" if record.get("first") and record["result"] != "survived" else ""
            cells = [f"`{mutation.symbol}`", *(f"`{text}`" if text else "" for text in (mutation.old, mutation.new))]
            lines.append("| " + " | ".join([mutation.area, *cells, record["result"] + again]) + " |")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def summary(records: dict[str, Any]) -> str:
    """One line: how many of which result, and how many have not been tried."""
    counts = Counter(record["result"] for record in records.values())
    first = sum("first" in record and record["result"] == "caught" for record in records.values())
    parts = [f"{count} {result}" for result, count in counts.most_common()]
    return f"{len(MUTATIONS)} mutations: {', '.join(parts)}; {first} of those caught survived at first; " + (
        f"{len(MUTATIONS) - len(records)} not run"
    )


if __name__ == "__main__":
    sys.exit(main())
