"""The numbers of docs/paper_notes.md: `python -m proofs_check.paper_numbers`."""

from __future__ import annotations

import numpy as np
from ttt_jax.simulation.driver import estimate_risk

from ttt_jax.problem import Pretraining, Problem
from ttt_jax.theory.decisions import best_context, sample_complexity, warm_or_cold
from ttt_jax.theory.paper import (
    corollary_4_4_turning_point,
    corollary_5_4_switch,
    misalignment,
    theorem_4_2,
    theorem_c4,
)
from ttt_jax.theory.pretrained import pretrained_weights
from ttt_jax.theory.risk import asymptotic_risk, exact_risk
from ttt_jax.theory.several_steps import best_steps_risk, new_context_risk, new_context_risk_leading, one_batch_risk


def unit(d: int) -> np.ndarray:
    return np.ones(d) / np.sqrt(d)


def show(*words) -> None:
    print("  ", *(f"{word:.4f}" if isinstance(word, float) else word for word in words))


def finite_size() -> None:
    print("Theorem 4.2 at finite size, k = d = 2 n, B = 1: risk at the best step")
    for d in (80, 800):
        n, problem = d // 2, Problem(d // 2, d, unit(d))
        curve = exact_risk(problem, 1 / (n + d + 1))
        simplified, unsimplified = (theorem_4_2(n, d, d, simplified=flag) for flag in (True, False))
        show(f"d={d}: simplified", simplified.optimal, "unsimplified", unsimplified.optimal, "exact", curve.optimal)
        show(f"d={d}: exact risk at the simplified step", curve.at(simplified.optimal_lr))
    estimate = estimate_risk(Problem(40, 80, unit(80)), 1 / 121, theorem_4_2(40, 80, 80).optimal_lr, num_tasks=20_000)
    show("d=80: simulated at the simplified step", f"{estimate.mean:.4f}({estimate.stderr:.4f})")
    curve = exact_risk(Problem(300, 300_000, unit(3000)), 1 / 3301)
    drawn = theorem_4_2(300, 300_000, 3000, simplified=False)
    step = theorem_4_2(300, 300_000, 3000).optimal_lr
    show(
        "Figure 1a, a=.1, g=100: drawn",
        drawn.optimal,
        "exact",
        curve.optimal,
        "exact at the simplified step",
        curve.at(step),
    )


def preconditioned() -> None:
    print("Theorem C.4 and the plain step: d = 6400, n = d/2, k = 2d, variances .25 .5 1 2.25, Sb = I, b'Sx b = 1")
    d = 6400
    sx = np.repeat([0.25, 0.5, 1.0, 2.25], d // 4)
    for name, task in (("b ~ ones", np.ones(d)), ("b ~ Sx^(-1/2) ones", sx**-0.5)):
        problem = Problem(d // 2, 2 * d, task / np.sqrt(task @ (sx * task)), sx)
        warm = pretrained_weights(Pretraining(d // 2, sx, d=d), dense=False)
        for start, weights in (("warm", warm), ("cold", 0.0)):
            curves = (f(problem, weights) for f in (exact_risk, asymptotic_risk, theorem_c4))
            words = zip(("exact", "leading order", "Theorem C.4"), (curve.optimal for curve in curves), strict=True)
            show(f"{name}, {start}:", *(x for pair in words for x in pair))
        unlimited = 1 - np.sum(sx**2 * problem.task**2) ** 2 / np.sum(sx**3 * problem.task**2)
        show(f"{name}, cold, k/d -> infinity: the plain step tends to", float(unlimited), "not to 0")


def alignment_text() -> None:
    print("Alignment, Figure 2b (n = 250, d = 500): A/B is smallest for the best-aligned W")
    d, n = 500, 250
    first = np.eye(d)[0]
    for name, spectrum in (("Sb = e1 e1'", first), ("Sb = I - e1 e1'", 1 - first)):
        weights = pretrained_weights(Pretraining(n, task_cov=spectrum), dense=False)
        problem = Problem(n, d, first)
        a, spread = misalignment(problem, weights)
        show(f"{name}: A", a, "A + spread", a + spread, "exact", exact_risk(problem, weights).initial)


def crossings() -> None:
    print("Where cold start overtakes warm, k/d")
    n, d = 200, 400
    drawn = next(
        k
        for k in range(1, 2000)
        if theorem_4_2(n, k, d, simplified=False).optimal > exact_risk(Problem(n, k, unit(d)), 0.0).optimal
    )
    switch = int(warm_or_cold(Problem(n, 2 * d, unit(d))).switch or 0)
    gaps = [
        exact_risk(Problem(n, k, unit(d)), 1 / (n + d + 1)).optimal - exact_risk(Problem(n, k, unit(d)), 0.0).optimal
        for k in (switch - 1, switch)
    ]
    crossing = (switch - 1 - gaps[0] / (gaps[1] - gaps[0])) / d
    show("Figure 1b: drawn", drawn / d, "Corollary 4.6 .9, exact: smallest k", switch, "k/d", crossing)
    n, d = 300, 600
    task = np.repeat([1.0, 0.5], d // 2)
    for name, spectrum in (("aligned", [1.0, 0.5]), ("misaligned", [0.5, 1.0])):
        weights = pretrained_weights(Pretraining(n, task_cov=np.repeat(spectrum, d // 2)), dense=False)
        problem = Problem(n, d, task)
        leading, exact = corollary_5_4_switch(problem, weights), int(warm_or_cold(problem, weights).switch or 0) / d
        show(
            f"Figure 2a, {name}: initial",
            exact_risk(problem, weights).initial / float(task @ task),
            "Corollary 5.4",
            leading,
            "exact",
            exact,
        )


def same_context() -> None:
    print("The context of the TTT step used again at inference: no switch (isotropic, n = 200, d = 400)")
    for g in (0.5, 1, 2, 100):
        fresh, same = (warm_or_cold(Problem(200, int(g * 400), unit(400)), evaluation=e) for e in ("fresh", "same"))
        show(
            f"g={g}: fresh warm",
            fresh.warm,
            "cold",
            fresh.cold,
            "same warm",
            same.warm,
            "cold",
            same.cold,
            "switch",
            same.switch,
        )


def more_context() -> None:
    print("Corollary 4.4 at finite size: d = 400, k = 100 d, warm start, fresh context")
    show(
        "turning point n =",
        400 * corollary_4_4_turning_point(100.0),
        "best n up to 300:",
        best_context(Problem(1, 40_000, unit(400)), max_n=300),
    )
    for n in (20, 68, 150, 300, 800):
        show(f"n={n}:", exact_risk(Problem(n, 40_000, unit(400)), 1 / (n + 401)).optimal)


def labelled_pairs() -> None:
    print("Labelled pairs for a risk of .2 B, isotropic, d = 1000")
    problem = Problem(1, 1, unit(1000))
    for evaluation in ("fresh", "same"):
        for start in ("zero", "pretrained"):
            answer = sample_complexity(problem, 0.2, start, max_n=5000, evaluation=evaluation)
            show(
                f"{evaluation}, from {start}: n without TTT",
                answer.without_ttt,
                "n with TTT, unlimited k",
                answer.context,
            )
            show(f"    smallest n + k: {answer.n} + {answer.k}, ratio {answer.ratio:.2f}")


def figure_2c() -> None:
    print("Figure 2c: n = 50, d = 100, k = 5000, from W*")
    problem, weights = Problem(50, 5000, unit(100)), 1 / 151
    curve = exact_risk(problem, weights)
    step = theorem_4_2(50, 5000, 100).optimal_lr
    show("first step: exact at the step of Theorem 4.2", curve.at(step), "at the exact optimum", curve.optimal)
    for factor in (0.2, 0.4, 0.6, 0.8):
        steps = step * factor ** np.arange(10)
        laws = {"exact": new_context_risk, "leading order": new_context_risk_leading, "one batch": one_batch_risk}
        values = {name: float(law(problem, weights, steps)[-1]) for name, law in laws.items()}
        show(f"factor {factor}, step 10:", *(x for pair in values.items() for x in pair))
    same = one_batch_risk(problem, weights, [step], "same")
    show("same context, leading order: before", float(same[0]), "after the first step", float(same[1]))
    large = Problem(5000, 500_000, unit(10_000))
    show("one batch, the best ten steps, d = 10000", best_steps_risk(large, 1 / 15_001, 10))


def main() -> None:
    for section in (
        finite_size,
        preconditioned,
        alignment_text,
        crossings,
        same_context,
        more_context,
        labelled_pairs,
        figure_2c,
    ):
        section()


if __name__ == "__main__":
    main()
