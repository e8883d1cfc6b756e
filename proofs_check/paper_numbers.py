"""The numbers of docs/paper_notes.md: `python -m proofs_check.paper_numbers`, or some of its sections by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments import paper
from ttt_jax import estimate_risk
from ttt_jax._internal.command import OneLineParser
from ttt_jax.problem import Pretraining, Problem
from ttt_jax.theory.decisions import best_context, sample_complexity, warm_or_cold
from ttt_jax.theory.paper import (
    corollary_4_4_turning_point,
    corollary_5_4_switch,
    lemma_b2,
    misalignment,
    proposition_5_2_weights,
    theorem_4_2,
    theorem_4_5,
    theorem_c4,
)
from ttt_jax.theory.pretrained import pretrained_weights
from ttt_jax.theory.risk import asymptotic_risk, exact_risk
from ttt_jax.theory.several_steps import best_steps_risk, new_context_risk, new_context_risk_leading, one_batch_risk

UNLIMITED = 10**12
"""So many training queries that more change nothing in the digits shown."""


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

    def drawn(k):
        return theorem_4_2(n, k, d, simplified=False).optimal

    def warm(k):
        return exact_risk(Problem(n, k, unit(d)), 1 / (n + d + 1)).optimal

    def cold(k):
        return exact_risk(Problem(n, k, unit(d)), 0.0).optimal

    def crossing(start, k):  # between two whole numbers, of which k is the second
        before, after = (start(at) - cold(at) for at in (k - 1, k))
        return (k - 1 - before / (after - before)) / d

    first = next(k for k in range(2, 2000) if drawn(k) > cold(k))
    switch = int(warm_or_cold(Problem(n, 2 * d, unit(d))).switch or 0)
    by_formula, exactly = crossing(drawn, first), crossing(warm, switch)
    show("Figure 1b: drawn", by_formula, "Corollary 4.6 .9, exact: smallest k", switch, "k/d", exactly)
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
        fresh, same = (warm_or_cold(Problem(200, int(g * 400), unit(400), evaluation=e)) for e in ("fresh", "same"))
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
    for evaluation in ("fresh", "same"):
        problem = Problem(1, 1, unit(1000), evaluation=evaluation)
        for start in ("zero", "pretrained"):
            answer = sample_complexity(problem, 0.2, start, max_n=5000)
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
    laws = {"exact": new_context_risk, "leading order": new_context_risk_leading, "one batch": one_batch_risk}
    misfits = {}
    for factor in (0.2, 0.4, 0.6, 0.8):
        drawn = paper.drawn("fig2c", f"reduction factor {factor}", "lines")[:, 1]
        curves = {name: law(problem, weights, step * factor ** np.arange(10)) for name, law in laws.items()}
        show(
            f"factor {factor}, step 10: drawn",
            float(drawn[-1]),
            *(x for name, c in curves.items() for x in (name, float(c[-1]))),
        )
        misfits[factor] = {name: np.asarray(curve)[1:] - drawn[1:] for name, curve in curves.items()}
    for name in laws:
        each = {factor: paper.rms(errors[name]) for factor, errors in misfits.items()}
        everything = paper.rms([*each.values()])
        show(f"RMS distance to the drawn lines, {name}:", everything, "by factor", *each.values())
    same = one_batch_risk(replace(problem, evaluation="same"), weights, [step])
    show("same context, leading order: before", float(same[0]), "after the first step", float(same[1]))
    large = Problem(5000, 500_000, unit(10_000))
    show("one batch, the best ten steps, d = 10000", best_steps_risk(large, 1 / 15_001, 10))


def best_alignment() -> None:
    print("Section 5 (iii), W* of Sb = e1 e1', b = e1: no cold start wins")
    for n, d in ((250, 500), (250, 50_000)):
        first = np.eye(1, d)[0]
        weights = pretrained_weights(Pretraining(n, task_cov=first), dense=False)
        problem = Problem(n, UNLIMITED, first)
        a, spread = misalignment(problem, weights)
        s = a + spread
        warm, cold = (exact_risk(problem, w).optimal for w in (weights, 0.0))
        show(
            f"n={n}, d={d}: the formula of Corollary 5.4", (s - s**2) / (spread * (2 * a + spread)),
            "exact at unlimited k: warm", warm, "cold", cold,
        )  # fmt: skip


def unlimited_queries() -> None:
    print("After Theorem 5.3: n times the risk at unlimited k, d = 2 n, B = 1")
    for name, scale in (("W = I/(2n)", 0.5), ("W = 0", 0.0)):
        values = [n * exact_risk(Problem(n, UNLIMITED, unit(2 * n)), scale / n).optimal for n in (100, 400, 1600)]
        show(f"{name}, n = 100, 400, 1600:", *values)
    a, spread = 0.25, 0.5
    show("W = I/(2n): the risk itself tends to (S^2 + 2 A S)/(A + S) =", (spread**2 + 2 * a * spread) / (a + spread))


def noisy_cold_start() -> None:
    print("After Theorem 4.5: W = 0, unlimited k, s2 = B = 1, d = 2 n; the risk includes s2")
    for n in (200, 20_000):
        risk = theorem_4_5(n, UNLIMITED, 2 * n, 1.0, 1.0).optimal
        show(f"n={n}: risk", risk, "of which above s2", risk - 1)


def degenerate_coordinates() -> None:
    print("Proof of Proposition 5.2: W on a coordinate without tasks; Sb = diag(1, 0), n = 4, risk over b ~ N(0, Sb)")
    best = proposition_5_2_weights(4, [1.0, 0.0])
    for extra in (0.0, 0.1, 0.2):
        show(f"W = diag({best[0]:.4f}, {extra}):", lemma_b2(Problem(4, 1, [1.0, 0.0]), best + np.array([0.0, extra])))


def humps() -> None:
    print("Corollary 4.4 at finite size: does the warm risk rise anywhere up to n = 2 d?")
    for g, sizes in ((1, (400, 1000, 2000, 4000)), (0.6, (4000, 40_000))):
        for d in sizes:
            lengths = np.unique(np.geomspace(2, 2 * d, 60).astype(int))
            risks = [exact_risk(Problem(int(n), int(g * d), unit(d)), 1 / (n + d + 1)).optimal for n in lengths]
            rises = lengths[:-1][np.diff(risks) > 0]
            where = f"between n = {rises.min()} and {rises.max()}" if len(rises) else "nowhere"
            show(f"g={g}, d={d}:", where, "turning point", d * corollary_4_4_turning_point(g))


SECTIONS = {
    section.__name__: section
    for section in (
        finite_size,
        preconditioned,
        alignment_text,
        crossings,
        same_context,
        more_context,
        labelled_pairs,
        figure_2c,
        best_alignment,
        unlimited_queries,
        noisy_cold_start,
        degenerate_coordinates,
        humps,
    )
}


def main(arguments: list[str] | None = None) -> None:
    parser = OneLineParser(prog="python -m proofs_check.paper_numbers", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all"
    )
    for name in parser.parse_args(arguments).sections or SECTIONS:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
