"""The fixed random vectors that tell one column group from another.

TabPFN has no learned column positions. It draws a standard normal vector per column group from PyTorch's CPU generator
and projects it. These draws are therefore part of the model, and this module reproduces them without PyTorch.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from jaxtyping import Float

_BLOCK = 16  # PyTorch turns uniforms into normals in blocks of 16: 8 radii, then 8 angles


def column_draws(seed: int, groups: int, size: int, dtype: str = "float32") -> Float[np.ndarray, "groups size"]:
    """The vectors that PyTorch's `randn(groups, size, dtype=dtype)` gives after `manual_seed(seed)`.

    The official network draws in the precision it runs in, and the two streams are unrelated: `"float32"` is what the
    weights were trained with, `"float64"` is what the package draws after `model.double()`.

    For seed 0 in float32 the draws come from a table, bit for bit, as far as it reaches. The others are computed: they
    agree with PyTorch to a unit or two in the last place.

    Example:
        >>> column_draws(seed=0, groups=2, size=16).round(3)[:, :3]
        array([[-1.126, -1.152, -0.251],
               [-1.353, -1.696,  0.567]], dtype=float32)
    """
    count = groups * size
    normal = _torch_normal(seed, count, np.dtype(dtype))
    if seed == 0 and dtype == "float32" and count >= _BLOCK:
        # If the count is no multiple of 16, PyTorch draws the last 16 again.
        shared = count if count % _BLOCK == 0 else count - _BLOCK
        table = _seed_zero_table()[:shared]
        normal[: table.size] = table
    return normal.reshape(groups, size)


@cache
def _seed_zero_table() -> np.ndarray:
    with resources.files(__package__).joinpath("column_draws_seed0.npy").open("rb") as file:
        return np.load(file, allow_pickle=False)


def _torch_normal(seed: int, count: int, dtype: np.dtype) -> np.ndarray:
    generator = np.random.RandomState(seed)  # PyTorch seeds the same Mersenne twister
    if count < _BLOCK:
        return _one_by_one(generator, count).astype(dtype)
    normal = np.empty(count, dtype)
    whole = count - count % _BLOCK
    uniform = _uniform(generator, count, dtype)
    normal[:whole] = _box_muller(uniform[:whole])
    if whole < count:
        normal[-_BLOCK:] = _box_muller(_uniform(generator, _BLOCK, dtype))
    return normal


def _uniform(generator: np.random.RandomState, count: int, dtype: np.dtype) -> np.ndarray:
    """Uniforms in [0, 1) with 24 (float32) or 53 (float64) random bits."""
    if dtype == np.float32:
        bits = _words(generator, count) & np.uint64(2**24 - 1)
        return bits.astype(np.float32) * np.float32(2**-24)
    words = _words(generator, 2 * count).reshape(count, 2)
    bits = (words[:, 0] << np.uint64(32) | words[:, 1]) & np.uint64(2**53 - 1)
    return bits.astype(np.float64) * 2.0**-53


def _words(generator: np.random.RandomState, count: int) -> np.ndarray:
    return generator.randint(2**32, size=count, dtype=np.uint32).astype(np.uint64)


def _box_muller(uniform: np.ndarray) -> np.ndarray:
    """Normals from uniforms, block by block, each step rounded to the dtype as PyTorch's kernel does."""
    dtype = uniform.dtype.type
    radius_part, angle_part = np.moveaxis(uniform.reshape(-1, 2, _BLOCK // 2), 1, 0)
    log = np.log((1 - radius_part).astype(np.float64)).astype(dtype)
    angle = (dtype(2 * np.pi) * angle_part).astype(np.float64)
    radius = np.sqrt(dtype(-2) * log)
    return np.stack([radius * np.cos(angle).astype(dtype), radius * np.sin(angle).astype(dtype)], axis=1).ravel()


def _one_by_one(generator: np.random.RandomState, count: int) -> np.ndarray:
    """Draws shorter than a block take another route in PyTorch: pairs of float64 uniforms, angle first."""
    pairs = _uniform(generator, count + count % 2, np.dtype(np.float64)).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log1p(-pairs[:, 1]))
    angle = 2 * np.pi * pairs[:, 0]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:count]
