"""Random problems that the tests share, and which tests are left to `make test-full`."""

from __future__ import annotations

import gc
import os
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import settings

from ttt_jax import Problem
from ttt_jax._internal.xla import QUICK_TO_COMPILE

# Compiling takes most of the time. At level 0 simulations would run ten times slower.
FLAGS = (
    f"{QUICK_TO_COMPILE} --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_prefer_vector_width=128 --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}"
# Compiled code is shared by the workers, by the commands that tests start, and by the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.01")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs", float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
)


@pytest.fixture(scope="module")
def quick_compilation():
    """For tests that compile much and compute little: level 0, at which code is compiled in half the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also the tests in tests/full.toml, which take long")


def pytest_collection_modifyitems(config, items):
    """Leave out the tests of full.toml, unless they are asked for by --full or by their own name."""
    here = Path(__file__).parent
    groups = tomllib.loads((here / "full.toml").read_text())["group"]
    listed = {test for group in groups for test in group["tests"]}
    names = {item: {item.nodeid, item.nodeid.partition("[")[0]} for item in items}
    long = [item for item in items if names[item] & listed]
    files = {item.path for item in items}
    if not any("::" in argument for argument in config.args):
        lost = listed - set().union(*names.values())
        if lost := sorted(test for test in lost if here.parent / test.partition("::")[0] in files):
            raise pytest.UsageError(f"tests/full.toml names tests that do not exist: {', '.join(lost)}")
        if set(here.rglob("test_*.py")) <= files and len(long) > len(items) / 10:
            raise pytest.UsageError(f"tests/full.toml must be a tenth of {len(items)} tests at most, got {len(long)}")
    if not config.getoption("--full"):
        left_out = {item for item in long if item.nodeid not in config.args}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish():
    """What has been imported stays; the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


def random_problem(
    seed: int, *, dense: bool = True, noise: bool = True, d: int | None = None
) -> tuple[Problem, np.ndarray]:
    """A problem with correlated features, and non-symmetric weights; everything of order one."""
    rng = np.random.default_rng(seed)
    drawn, n, k = (int(x) for x in rng.integers(1, 8, size=3))
    d = d or drawn
    noise_var = float(rng.uniform(0.1, 1)) if noise else 0.0
    task = rng.normal(size=d) / np.sqrt(d)
    if dense:
        root = np.eye(d) + 0.4 * rng.normal(size=(d, d)) / np.sqrt(d)
        return Problem(n, k, task, root @ root.T, noise_var), rng.normal(size=(d, d)) / (2 * (n + d))
    return Problem(n, k, task, rng.uniform(0.3, 2, size=d), noise_var), rng.normal(size=d) / (n + d)


@pytest.fixture(params=range(6))
def problem_and_weights(request):
    return random_problem(request.param)


@pytest.fixture(autouse=True, scope="module")
def _few_memory_maps():
    """Linux allows a process 65,530 memory maps, and compiled code takes some; beyond them the compiler crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()
