"""What this project finds of the paper, statement by statement: `python -m proofs_check.referee` prints the table.

What a statement says, and its number, are those of its claim; the verdict and the finding are ours, and a test compares
them with the claims: one that holds exactly rests on no approximate claim, one to leading order on one at least. The
page `docs/referee.md` has the table as it is printed.
"""

from __future__ import annotations

import importlib
import re
from typing import NamedTuple

EXACT, LEADING, FALSE, NOT_JUDGED = VERDICTS = (
    "holds exactly",
    "holds to leading order",
    "false as printed",
    "not judged",
)


class Statement(NamedTuple):
    """A statement of the paper.

    Args:
        where: its number, or where it stands.
        verdict: one of `VERDICTS`.
        finding: what holds, in full where the paper's words do not.
        claims: what shows it, modules of `proofs_check.claims`; the first says what is stated.
        numbers: what else shows it, functions of `proofs_check.paper_numbers`.
        says: what is stated, where no claim does.
        command: what else to type.
    """

    where: str
    verdict: str
    finding: str
    claims: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    says: str = ""
    command: str = ""

    def stated(self) -> str:
        """What it says: the first line of its first claim, unless it has words of its own."""
        if self.says:
            return self.says
        return str(importlib.import_module(f"proofs_check.claims.{self.claims[0]}").__doc__).split("\n")[0].rstrip(".")

    def commands(self) -> list[str]:
        """What to type to see it."""
        claims = [f"python -m proofs_check --only {' '.join(self.claims)}"] if self.claims else []
        numbers = [f"python -m proofs_check.paper_numbers {' '.join(self.numbers)}"] if self.numbers else []
        return [*claims, *numbers, *([self.command] if self.command else [])]


STATEMENTS = (
    Statement("Section 2", EXACT, "for these matrices of attention, any W and any data", ("token_attention",)),
    Statement("Proposition 3.1", EXACT, "for any data", ("proposition_3_1",)),
    Statement(
        "Lemmas B.1, B.3",
        EXACT,
        "the moments are exact; the Gaussian that the proofs put in place of u has them to leading order",
        ("gaussian_lemmas",),
        says="Moments of X'X b and of X'X A X'X for X with independent rows N(0, I)",
    ),
    Statement(
        "Lemma B.2",
        EXACT,
        "at every n and d",
        ("lemma_b2",),
        says="The risk of any W without TTT, for any Sx and noise, as a polynomial in n",
    ),
    Statement("Proposition 4.1", EXACT, "if pretraining and test have the same noise", ("proposition_4_1",)),
    Statement(
        "Theorem 4.2",
        LEADING,
        "optimistic at finite size: .5213 stated, .5456 exact at d = 80, k = d = 2n; the form before simplification, "
        "which Figure 1 draws, is another: .5315",
        ("theorem_4_2", "theorem_4_2_unsimplified"),
        ("finite_size",),
    ),
    Statement("Remark 4.3, Lemma C.2", NOT_JUDGED, "no claim of their own", says="on Theorem 4.2; an auxiliary bound"),
    Statement(
        "Corollary 4.4",
        LEADING,
        "at finite size the risk first falls in n, until n is of the order of sqrt(d), and for moderate k the rise is "
        "seen at large d only",
        ("corollary_4_4",),
        ("more_context", "humps"),
    ),
    Statement("Theorem 4.5", EXACT, "at every n, k and d, also with noise", ("theorem_4_5",)),
    Statement(
        "After Theorem 4.5",
        FALSE,
        "the loss includes the noise and tends to s2, not to 0: 1.0007 at n = 20,000, s2 = B = 1",
        numbers=("noisy_cold_start",),
        says="A loss near 0 for noise of the order of the task",
    ),
    Statement(
        "Sample complexity",
        EXACT,
        "true of the context; of all labelled pairs, n + k, TTT from W = 0 needs more, and 1.6 times fewer from the "
        "pretrained W with the same context, at d = 1000 for a risk of .2",
        ("sample_complexity",),
        ("labelled_pairs",),
    ),
    Statement(
        "Corollary 4.6",
        LEADING,
        "the exact switch at d = 400, n = 200 is .948, stated .9; with the context used again there is none",
        ("corollary_4_6",),
        ("crossings", "same_context"),
    ),
    Statement(
        "Section 5",
        FALSE,
        "alignment makes A smaller, as Definition 5.1 and Figure 2b have it: A measures misalignment",
        numbers=("alignment_text",),
        says="Alignment of task and pretraining spectrum makes A larger",
    ),
    Statement(
        "Proposition 5.2",
        LEADING,
        "exactly there is one more term, n b'W^2 b, half of the risk where W is nearly optimal",
        ("proposition_5_2", "proposition_5_2_exact"),
        ("alignment_text",),
    ),
    Statement(
        "Proposition 5.2, proof",
        FALSE,
        "W* is unique: the entries on coordinates without tasks enter the loss by its trace term and must be 0",
        ("pretrained_singular",),
        ("degenerate_coordinates",),
        says="W is free on coordinates without tasks",
    ),
    Statement(
        "Theorem 5.3",
        LEADING,
        "for every diagonal W with entries of order 1/d",
        ("theorem_5_3",),
        says="Diagonal W, Sx = I, noiseless: the best step gains k/(k+d) A^2/(A+S)",
    ),
    Statement(
        "After Theorem 5.3",
        FALSE,
        "by the theorem itself the risk tends to (S^2 + 2AS)/(A + S), .6667 for W = I/(2n) and d = 2n",
        numbers=("unlimited_queries",),
        says="Eigenvalues of nW below 1 give a risk of order 1/n at unlimited k",
    ),
    Statement(
        "Section 5 (iii)",
        FALSE,
        "there is no switch: that W* is the best W of all, and no step from anywhere gets below it",
        ("lemma_c1",),
        ("best_alignment",),
        says="With the best alignment the switch is at about g = n",
    ),
    Statement(
        "Corollary 5.4",
        LEADING,
        "where A + S < B; Figure 2a: 1.070 exact for 1.033 stated (aligned), .697 for .677 (misaligned)",
        ("corollary_5_4",),
        ("crossings",),
    ),
    Statement("Lemma C.1", EXACT, "at every n and d", ("lemma_c1",)),
    Statement(
        "Theorem C.4",
        FALSE,
        "true, to leading order, of the preconditioned step W - lr Sx^-1 grad Sx^-1 (claim theorem_c4; Lemma C.3, the "
        "whitening, is checked there). For the plain step: claim leading_order",
        ("leading_order", "theorem_c4", "preconditioned_step"),
        ("preconditioned",),
        says="Theorem 5.3 for correlated features, after whitening, for the plain gradient step",
    ),
    Statement(
        "Figure 2b",
        FALSE,
        "the drawn lines fit Theorem 5.3 at n = 197.2, d = 374.9; at the size of the caption the RMS distance is up to "
        ".0046",
        says="The figure is at n = 250, d = 500, its caption says",
        command="python -m experiments fig2b --preset paper",
    ),
    Statement(
        "Figure 2c",
        LEADING,
        "if every step has new pairs, which the paper does not say: the reading closest to the drawn lines",
        ("figure_2c", "new_context"),
        ("figure_2c",),
    ),
)
"""In the order of the paper."""


def table() -> str:
    """The table in Markdown."""
    lines = ["| where | what it says | verdict | what was found | command |", "|---|---|---|---|---|"]
    for one in STATEMENTS:
        commands = "<br>".join(f"`{command}`" for command in one.commands())
        stated, finding = (re.sub(r"([*|_])", r"\\\1", text) for text in (one.stated(), one.finding))
        lines.append(f"| {one.where} | {stated} | **{one.verdict}** | {finding} | {commands} |")
    return "\n".join(lines)


def summary() -> str:
    """How many statements have each verdict."""
    counts = [(sum(one.verdict == verdict for one in STATEMENTS), verdict) for verdict in VERDICTS]
    words = (f"{count} {verdict if count == 1 else verdict.replace('holds', 'hold')}" for count, verdict in counts)
    return f"{len(STATEMENTS)} statements: {', '.join(words)}."


if __name__ == "__main__":
    print(summary(), table(), sep="\n\n")
