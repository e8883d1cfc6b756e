"""The results of the paper by number, exact or approximate as each says.

Paper: Gozeten, Ildiz, Zhang, Soltanolkotabi, Mondelli, Oymak, "Test-Time Training Provably Improves Transformers as
In-context Learners", ICML 2025. Every risk here includes the label noise, and task_norm2 is B = |b|^2.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ttt_jax._internal import linalg
from ttt_jax._internal.validate import (
    covariance,
    non_negative,
    positive_number,
    positive_numbers,
    vector,
    weights_array,
)
from ttt_jax.problem import (
    NotApplicable,
    Problem,
    require_gaussian,
    require_identity,
    require_problem,
    require_training_law,
    task_name,
)
from ttt_jax.risk_curve import RiskCurve
from ttt_jax.theory.risk import exact_risk

__all__ = [
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
]

UNLIMITED = 10**12
"""So many training queries that more change no risk in its first digits."""


def lemma_b2(problem: Problem, weights: ArrayLike) -> float:
    """Risk without TTT, exact for every symmetric or non-symmetric W and one fixed task.

        L(W) = b'[Sx - n Sx W Sx - n Sx W'Sx + n(n+1) Sx W'Sx W Sx + n tr(W'Sx W Sx) Sx] b + s2 n tr(W'Sx W Sx) + s2

    Example:
        >>> round(lemma_b2(Problem(n=20, k=1, task=np.ones(20) / np.sqrt(20)), 1 / 41), 6)
        0.512195

    Reference: Lemma B.2.
    """
    require_gaussian(problem, "Lemma B.2")
    b, n, s2 = _fixed_task(problem, "Lemma B.2"), problem.n, problem.noise_var
    sx, w = linalg.dense(problem.feature_cov, problem.d), linalg.dense(weights_array(weights, problem.d), problem.d)
    p = sx @ b
    spread = n * np.sum((w.T @ sx @ w) * sx)
    quadratic = b @ p - 2 * n * (p @ w @ p) + n * (n + 1) * (w @ p) @ sx @ (w @ p) + spread * (b @ p)
    return float(quadratic + s2 * spread + s2)


def proposition_4_1_risk(n: float, d: float, task_norm2: float = 1.0, noise_var: float = 0.0) -> float:
    """Risk of the pretrained W* = I/(n+d+1+s2) without TTT, isotropic, exact.

        N = n+d+1+s2,   L(W*) = B [(d+1+s2) N - s2 n] / N^2 + s2 n d / N^2 + s2

    It assumes E|b|^2 = d in pretraining, and the same noise in pretraining and test.

    Example:
        >>> proposition_4_1_risk(n=9, d=10)
        0.55

    Reference: Proposition 4.1.
    """
    _check_scalars(task_norm2, noise_var, n=n, d=d)
    total = n + d + 1 + noise_var
    signal = ((d + 1 + noise_var) * total - noise_var * n) / total**2
    return task_norm2 * signal + noise_var * n * d / total**2 + noise_var


def theorem_4_2(n: float, k: float, d: float, task_norm2: float = 1.0, *, simplified: bool = True) -> RiskCurve:
    """TTT from the pretrained weights, isotropic and noiseless, approximate.

        simplified:    lr* = d / [2 (k+d) n^2 (n+d) B],   gain = k/(k+d) d^3/(n+d)^3 B
        unsimplified:  gain(lr) = 4 lr k n^2 d^2 B^2 / (n+d+1)^2
                                  - 4 lr^2 k (k+d+1) n^2 d (n+d) (n^2+d) B^3 / (n+d+1)^2

    Both start from the exact risk of Proposition 4.1. The two and the exact optimum are three different step sizes.

    Raises:
        ValueError: unless n, k, d and task_norm2 are positive.

    Example:
        >>> curve = theorem_4_2(n=40, k=80, d=80), theorem_4_2(n=40, k=80, d=80, simplified=False)
        >>> [round(c.optimal, 4) for c in curve]      # the exact value is .5456
        [0.5213, 0.5315]

    Reference: Theorem 4.2; the unsimplified form is the one that the paper's Figure 1 draws.
    """
    positive_numbers(n=n, k=k, d=d, task_norm2=task_norm2)
    initial = proposition_4_1_risk(n, d, task_norm2)
    if simplified:
        lr = d / (2 * (k + d) * n**2 * (n + d) * task_norm2)
        return _curve(initial, k / (k + d) * d**3 / (n + d) ** 3 * task_norm2, lr)
    common = 4 * k * n**2 * d / (n + d + 1) ** 2
    return RiskCurve(initial, common * d * task_norm2**2, common * (k + d + 1) * (n + d) * (n**2 + d) * task_norm2**3)


def corollary_4_4_turning_point(k_over_d: float) -> float:
    """The ratio a = n/d up to which the risk after TTT rises with the context length: sqrt(3g/(g+1)) - 1.

    0 for g = k/d <= 1/2, where the risk falls for every a.

    Example:
        >>> round(corollary_4_4_turning_point(2.0), 4)
        0.4142

    Reference: Corollary 4.4.
    """
    non_negative("k_over_d", k_over_d)
    return max(math.sqrt(3 * k_over_d / (k_over_d + 1)) - 1, 0.0)


def theorem_4_5(n: float, k: float, d: float, task_norm2: float = 1.0, noise_var: float = 0.0) -> RiskCurve:
    """TTT from W = 0, isotropic, exact, with noise.

        P = s2 d + (k+d+1) B,   Q = s2^2 d + B^2 (n^2+4n+3+d) + 2 s2 (n+d+1) B
        lr* = B^2 / (2 P Q),   gain = k B^4 n^2 / (P Q)

    Example:
        >>> round(theorem_4_5(n=200, k=800, d=400).optimal, 4)      # Figure 1b's cold start at g = 2
        0.3533

    Reference: Theorem 4.5 and its noisy version in the appendix.
    """
    _check_scalars(task_norm2, noise_var, n=n, k=k, d=d)
    train = noise_var * d + (k + d + 1) * task_norm2
    context = noise_var**2 * d + task_norm2**2 * (n**2 + 4 * n + 3 + d) + 2 * noise_var * (n + d + 1) * task_norm2
    c1, c2 = 4 * k * n**2 * task_norm2**2, 4 * k * n**2 * train * context
    return RiskCurve(task_norm2 + noise_var, c1, c2)


def corollary_4_6_switch(n_over_d: float) -> float:
    """The ratio g* = k/d below which the warm start beats the cold one: (a+1)^2/(a+2), isotropic, approximate.

    Example:
        >>> corollary_4_6_switch(0.5)
        0.9

    Reference: Corollary 4.6.
    """
    positive_number("n_over_d", n_over_d)
    return (n_over_d + 1) ** 2 / (n_over_d + 2)


def misalignment(problem: Problem, weights: ArrayLike) -> tuple[float, float]:
    """How badly W fits the task (A), and the spread that W adds (called B in the paper).

        A = b'(I - nW)^2 b,     spread = n |b|^2 |W|_F^2

    Raises:
        ValueError: unless Sx = I, s2 = 0, W is diagonal and the task is one vector.

    Example:
        >>> problem = Problem(n=100, k=100, task=np.ones(200) / np.sqrt(200))
        >>> [round(x, 4) for x in misalignment(problem, 1 / 301)]
        [0.4459, 0.2207]

    Reference: Definition 5.1.
    """
    b, n = _fixed_task(problem, "Definition 5.1"), problem.n
    w = linalg.simplest(weights_array(weights, problem.d))
    if w.ndim == 2:
        largest = np.abs(w - np.diag(np.diag(w))).max()
        raise ValueError(f"weights must be diagonal for Definition 5.1, got entries up to {largest:.3g} beside it")
    require_identity(problem, "Definition 5.1")
    if problem.noise_var:
        raise ValueError(f"noise_var must be 0 for Definition 5.1, got {problem.noise_var}; see asymptotic_risk")
    w = np.broadcast_to(w, (problem.d,))
    return float(np.sum((b * (1 - n * w)) ** 2)), float(n * (b @ b) * np.sum(w**2))


def proposition_5_2_weights(n: float, task_spectrum: ArrayLike) -> np.ndarray:
    """The pretrained weights for Sx = I, s2 = 0 and a diagonal task covariance, also of deficient rank, exact.

        W* = [(n+1) I_r + tr(Sb) Sb^+]^+, a diagonal (d,)

    Example:
        >>> proposition_5_2_weights(3, [1.0, 0.0]).tolist()
        [0.2, 0.0]

    Reference: Proposition 5.2.
    """
    positive_number("n", n)
    spectrum = covariance("task_spectrum", vector("task_spectrum", task_spectrum))
    weights = np.zeros_like(spectrum)
    live = spectrum > 0
    weights[live] = 1 / (n + 1 + spectrum.sum() / spectrum[live])
    return weights


def proposition_5_2_risk(problem: Problem, weights: ArrayLike) -> float:
    """Risk without TTT to leading order: A + spread of `misalignment`; the exact one has n b'W^2 b more.

    The missing term matters where W is nearly optimal for the task.

    Example:
        >>> problem = Problem(n=100, k=100, task=np.ones(200) / np.sqrt(200))
        >>> round(proposition_5_2_risk(problem, 1 / 301), 4), round(lemma_b2(problem, 1 / 301), 4)
        (0.6667, 0.6678)

    Reference: Proposition 5.2.
    """
    return sum(misalignment(problem, weights))


def theorem_5_3(problem: Problem, weights: ArrayLike) -> RiskCurve:
    """TTT from diagonal W, Sx = I, noiseless, approximate.

        lr* = A / [2 (k+d) n^2 B (A + spread)],     gain = k/(k+d) A^2 / (A + spread)

    Raises:
        ValueError: outside Definition 5.1, or if an eigenvalue of W is outside [0, 1/(n+1)].

    Example:
        >>> problem = Problem(n=100, k=400, task=np.ones(200) / np.sqrt(200))
        >>> round(theorem_5_3(problem, 1 / 301).optimal, 4)
        0.4678

    Reference: Theorem 5.3.
    """
    _require_new_context(problem, "Theorem 5.3")
    a, spread = misalignment(problem, weights)
    eigenvalues = linalg.simplest(weights_array(weights, problem.d))
    bound = 1 / (problem.n + 1)
    if np.min(eigenvalues) < 0 or np.max(eigenvalues) > bound * (1 + 1e-12):
        raise ValueError(
            f"weights must have eigenvalues in [0, 1/(n+1)] = [0, {bound:.4g}] for Theorem 5.3, "
            f"got {np.min(eigenvalues):.4g} to {np.max(eigenvalues):.4g}"
        )
    return _shared_step(problem, a, spread, float(problem.task @ problem.task))


def theorem_c4(problem: Problem, weights: ArrayLike) -> RiskCurve:
    """TTT with the preconditioned step W - lr Sx^-1 grad Sx^-1, for Sx and W that commute, noiseless, approximate.

        A = b~'(I - n W~)^2 b~ and spread = n |b~|^2 |W~|_F^2 with b~ = R b, W~ = R W R, R = Sx^(1/2),
        lr* and gain as in Theorem 5.3 with |b~|^2 for B

    The paper states it for the plain gradient step, for which it is not true: the gradient is not invariant under
    whitening. `asymptotic_risk` has the plain step.

    Raises:
        ValueError: for noise, a singular feature covariance, or weights that do not commute with it.

    Example:
        >>> problem = Problem(n=100, k=400, task=np.ones(200) / np.sqrt(200), feature_cov=np.linspace(0.5, 1.5, 200))
        >>> round(theorem_c4(problem, 0.0).optimal, 4)
        0.3333

    Reference: Theorem C.4.
    """
    _require_new_context(problem, "Theorem C.4")
    b = _fixed_task(problem, "Theorem C.4")
    if problem.noise_var:
        raise ValueError(f"noise_var must be 0 for Theorem C.4, got {problem.noise_var}; see asymptotic_risk")
    sx, w = linalg.simplest(problem.feature_cov), linalg.simplest(weights_array(weights, problem.d))
    if sx.ndim == 2 or w.ndim == 2:
        sx, w = linalg.dense(sx, problem.d), linalg.dense(w, problem.d)
        commutator = np.abs(sx @ w - w @ sx).max()
        if commutator > 1e-9 * np.abs(sx).max() * np.abs(w).max():
            raise ValueError(
                f"weights must commute with feature_cov for Theorem C.4, got |Sx W - W Sx| = {commutator:.3g}"
            )
    smallest = np.linalg.eigvalsh(sx)[0] if sx.ndim == 2 else sx.min()
    if smallest <= 0:
        raise ValueError(f"feature_cov must be nonsingular for Theorem C.4, got the eigenvalue {smallest:.3g}")
    root = linalg.sqrt(sx)
    whitened = linalg.apply(root, b)
    w = root @ w @ root if w.ndim == 2 else np.broadcast_to(root * w * root, problem.d)
    residual = whitened - problem.n * linalg.apply(w, whitened)
    norm2 = float(whitened @ whitened)
    return _shared_step(problem, float(residual @ residual), float(problem.n * norm2 * np.sum(w**2)), norm2)


def corollary_5_4_switch(problem: Problem, weights: ArrayLike) -> float:
    """The ratio g* = k/d below which the warm start beats the cold one, diagonal W, Sx = I, noiseless, approximate.

        c1 = A/B, c2 = spread/B, s = c1 + c2:     g* = (s - s^2) / [c2 (2 c1 + c2)]

    Raises:
        ValueError: outside Definition 5.1; at W = 0, where the two starts are the same; for s >= 1, where the
            pretrained start is not better than the cold one even without TTT; and where W fits the task so well that
            it wins at every k, by the exact risk: what the leading order leaves out is then as large as the rest.

    Example:
        >>> problem = Problem(n=1000, k=1, task=np.ones(2000) / np.sqrt(2000))
        >>> round(corollary_5_4_switch(problem, 1 / 3001), 2)         # Corollary 4.6 at a = 1/2: 0.9
        0.9

    Reference: Corollary 5.4.
    """
    _require_new_context(problem, "Corollary 5.4")
    a, spread = misalignment(problem, weights)
    norm2 = float(problem.task @ problem.task)
    c1, c2 = a / norm2, spread / norm2
    if c2 == 0:
        raise ValueError("weights must not be 0 for Corollary 5.4: the warm and the cold start are the same")
    if c1 + c2 >= 1:
        raise ValueError(
            f"Corollary 5.4 needs A/B + spread/B < 1, got {c1 + c2:.4g}: the cold start is better for every k"
        )
    unlimited = replace(problem, k=UNLIMITED)
    warm, cold = (exact_risk(unlimited, w).optimal / norm2 for w in (weights, 0.0))
    if warm <= cold:
        raise ValueError(
            f"Corollary 5.4 does not apply to weights that fit the task so well: at unlimited k their exact risk is "
            f"{warm:.4g} B and the cold start's {cold:.4g} B, so that the warm start wins at every k"
        )
    return (c1 + c2 - (c1 + c2) ** 2) / (c2 * (2 * c1 + c2))


def lemma_c1(n: float, task: ArrayLike) -> tuple[float, np.ndarray]:
    """The smallest risk of any one-layer linear attention on one task, and the W that has it; Sx = I, s2 = 0, exact.

        risk = 2 B / (n+2)   at   W = b b' / [(n+2) B]

    Raises:
        ValueError: for the task 0.

    Example:
        >>> risk, weights = lemma_c1(8, [1.0, 0.0])
        >>> risk, weights.tolist()
        (0.2, [[0.1, 0.0], [0.0, 0.0]])

    Reference: Lemma C.1.
    """
    positive_number("n", n)
    b = vector("task", task)
    norm2 = float(b @ b)
    if not norm2:
        raise ValueError(f"task must not be 0 for Lemma C.1, got {b.tolist()}")
    return 2 * norm2 / (n + 2), np.outer(b, b) / ((n + 2) * norm2)


def _shared_step(problem: Problem, a: float, spread: float, norm2: float) -> RiskCurve:
    """The parabola that Theorems 5.3 and C.4 have in common."""
    n, k, d = problem.n, problem.k, problem.d
    size, curvature = n**2 * norm2, (k + d) * (a + spread)
    return RiskCurve(a + spread, 4 * k * size * a, 4 * k * size**2 * curvature)


def _curve(initial: float, gain: float, lr: float) -> RiskCurve:
    """The parabola with this gain at its optimal step size."""
    return RiskCurve(initial, 2 * gain / lr, gain / lr**2)


def _check_scalars(task_norm2: float, noise_var: float, **sizes: float) -> None:
    positive_numbers(**sizes)
    non_negative("task_norm2", task_norm2)
    non_negative("noise_var", noise_var)


def _fixed_task(problem: Any, formula: str) -> np.ndarray:
    """The task of a problem in the paper's setting: one vector, and the training law at inference."""
    require_training_law(problem, formula)
    if not isinstance(problem.task, np.ndarray):
        raise ValueError(f"task must be one vector for {formula}, got {task_name(problem.task)}")
    return problem.task


def _require_new_context(problem: Any, formula: str) -> None:
    """NotApplicable, naming the formula, where the risk after a step is that with the context of the step."""
    require_problem(problem)
    if problem.inference.context == "same":
        raise NotApplicable(f"{formula} needs the context 'fresh' at evaluation, got 'same'; see asymptotic_risk")
