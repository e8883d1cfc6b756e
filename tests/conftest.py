"""Random problems that the tests share."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import settings

from ttt_jax import Problem

settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


def random_problem(seed: int, *, dense: bool = True, noise: bool = True) -> tuple[Problem, np.ndarray]:
    """A problem with correlated features, and non-symmetric weights; everything of order one."""
    rng = np.random.default_rng(seed)
    d, n, k = (int(x) for x in rng.integers(1, 8, size=3))
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
