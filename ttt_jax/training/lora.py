"""LoRA of any model: frozen matrices, and the product of two thin ones beside each that is trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ttt_jax._internal.validate import positive_integer, seed_integer
from ttt_jax.training.models import Model, Prompt

__all__ = ["lora"]


def lora(model: Model, params: PyTree, rank: int, *, seed: int = 0) -> tuple[Model, PyTree]:
    """The model with every matrix W of its parameters replaced by W + B A, of which B and A alone are trained.

        W (m, p) frozen,   B = 0 (m, r),   A (r, p) of independent N(0, 1/p)

    At B = 0 only B moves: the first step is W - lr (grad W) A'A. Matrices in stacks (..., m, p), such as those of
    several layers, have a pair each; parameters that are not matrices stay frozen.

    Args:
        model: a pure function (params, prompt) -> predictions (k,).
        params: its parameters, any pytree of arrays; of `functional(module, trainable=...)` those that are trainable.
        rank: r.
        seed: of A.

    Returns:
        (model, params) as `functional` gives them; the new parameters are {"A": A, "B": B} by the path of W.

    Raises:
        ValueError: if there is no matrix, or rank is not an integer >= 1.

    Example:
        >>> from ttt_jax.training.models import LinearAttention, functional
        >>> model, params = lora(*functional(LinearAttention(jnp.eye(3))), rank=1)
        >>> [(name, pair["B"].shape, pair["A"].shape) for name, pair in params.items()]
        [('weights', (3, 1), (1, 3))]

    Reference: Hu et al. (2022), with B and A as there.
    """
    positive_integer("rank", rank)
    key = jax.random.key(seed_integer(seed), impl="threefry2x32")
    found, tree = jax.tree_util.tree_flatten_with_path(params)
    frozen = {_name(path): jnp.asarray(leaf) for path, leaf in found}
    pairs = {}
    for i, (name, leaf) in enumerate(frozen.items()):
        if leaf.ndim >= 2:
            *stack, m, p = leaf.shape
            a = jax.random.normal(jax.random.fold_in(key, i), (*stack, rank, p), leaf.dtype) / p**0.5
            pairs[name] = {"A": a, "B": jnp.zeros((*stack, m, rank), leaf.dtype)}
    if not pairs:
        raise ValueError(f"params must hold a matrix for LoRA, got {', '.join(frozen) or 'none'}")

    def adapted(pairs: PyTree, prompt: Prompt) -> Float[Array, " k"]:
        leaves = frozen | {name: frozen[name] + pair["B"] @ pair["A"] for name, pair in pairs.items()}
        return model(jax.tree.unflatten(tree, leaves.values()), prompt)

    return adapted, pairs


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")  # of a variable of Flax
