import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt_jax._internal import linalg


def random_pair(rng, d, rank):
    diagonal, left, right = rng.normal(size=d), rng.normal(size=(d, rank)), rng.normal(size=(d, rank))
    return (diagonal, left, right), np.diag(diagonal) + left @ right.T


def algebra(a, b, v):
    a, b = linalg.LowRankUpdate(*a), linalg.LowRankUpdate(*b)
    products = a @ v, v @ a, a.T @ v, (a @ b) @ v, (a + 2.0 * b) @ v
    return *products, linalg.trace(a @ b), linalg.inner(a, b)


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 3), st.integers(0, 10**6))
@settings(max_examples=30)
def test_low_rank_algebra_is_matrix_algebra(d, rank_a, rank_b, seed):
    require_matrix_algebra(algebra, d, rank_a, rank_b, seed)


def test_low_rank_algebra_under_jit():
    with jax.enable_x64(True):
        for ranks in ((2, 1), (0, 3)):
            require_matrix_algebra(jax.jit(algebra), 4, *ranks, 0)


def require_matrix_algebra(algebra, d, rank_a, rank_b, seed):
    rng = np.random.default_rng(seed)
    (a, dense_a), (b, dense_b) = random_pair(rng, d, rank_a), random_pair(rng, d, rank_b)
    v = rng.normal(size=d)
    expected = (
        dense_a @ v,
        v @ dense_a,
        dense_a.T @ v,
        dense_a @ dense_b @ v,
        (dense_a + 2 * dense_b) @ v,
        np.trace(dense_a @ dense_b),
        np.sum(dense_a * dense_b),
    )
    for ours, theirs in zip(algebra(a, b, v), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_square_root_of_every_form():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(4, 2))
    for covariance in (np.array(2.0), rng.uniform(size=4), factor @ factor.T):
        root = linalg.dense(linalg.sqrt(covariance), 4)
        np.testing.assert_allclose(root @ root, linalg.dense(covariance, 4), atol=1e-12)
        vectors = rng.normal(size=(3, 4))
        np.testing.assert_allclose(linalg.apply(covariance, vectors), vectors @ linalg.dense(covariance, 4), atol=1e-12)
