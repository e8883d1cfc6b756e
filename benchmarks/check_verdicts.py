"""How often `ttt.check(approximate=True)` refuses a right leading order, and accepts one with a wrong constant.

    python -m benchmarks.check_verdicts [--json FILE]

Claims are the risk, the gain and the best step size to leading order, from W* and from 0, with a fresh and with the
same context, on isotropic data without noise: `asymptotic_risk` for n = a d; for n = d^b the fresh gain takes the
factor n^2 / (n^2 + d) of Theorem 4.5. n and k are rounded to integers. Each claim is tried as it is and with its
constant wrong by 5% and 10% either way, at three sizes, against the exact risk alone. The thresholds of `check` were
chosen on the first grid; the second, tried afterwards, found 20 right claims of 2,520 refused, with a given
rate that the rounding of n left unconfirmed, and led to `UNCONFIRMED` of `ttt_jax.verdict.infinity`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ttt_jax import Problem, asymptotic_risk, check, exact_risk
from ttt_jax.risk_curve import RiskCurve

GRIDS = {
    "first": {
        "n": [(a, 1.0) for a in (0.125, 0.25, 0.5, 1, 2, 4, 8)] + [(1, 0.5), (1, 0.75), (1, 1.5)],
        "k": (0.125, 0.5, 2, 8, 1000),
        "sizes": [(32, 64, 128), (64, 128, 256), (256, 512, 1024), (32, 128, 512), (64, 256, 1024)],
    },
    "second": {
        "n": [(a, 1.0) for a in (0.1, 0.2, 0.3, 0.6, 1.5, 3, 10)] + [(2, 0.5), (1, 0.6), (1, 1.3), (1, 2.0)],
        "k": (0.2, 0.7, 3, 30, 100),
        "sizes": [(24, 48, 96), (40, 80, 160), (160, 320, 640), (320, 640, 1280), (40, 96, 320), (24, 96, 384)],
    },
}
FACTORS = (1.0, 1.05, 0.95, 1.1, 0.9)
QUANTITIES: dict[str, Callable[[RiskCurve], float]] = {
    "risk": lambda curve: curve.optimal,
    "gain": lambda curve: curve.initial - curve.optimal,
    "optimal_lr": lambda curve: curve.optimal_lr,
}


def leading_order(problem: Problem, weights: float, power: float) -> RiskCurve:
    """The parabola to leading order, n growing like this power of d."""
    if power == 1:
        return asymptotic_risk(problem, weights)
    n, k, d = problem.n, problem.k, problem.d
    initial = d / (n + d) if weights else 1.0
    if problem.evaluation == "same":
        gain, lr = k / (k + d) * initial, 1 / (2 * n * (n + d) * (k + d))
    else:
        misalignment = initial**2 if weights else 1.0
        gain = k / (k + d) * misalignment**2 / initial * n**2 / (n**2 + d)
        lr = misalignment / (2 * (k + d) * (n**2 + d) * initial)
    return RiskCurve(initial, 2 * gain / lr, gain / lr**2)


def verdicts(grid: dict, *, known_rate: bool) -> dict[float, Counter]:
    """Counts of agrees, refused and not resolved, for each factor on the constant."""
    counts: dict[float, Counter] = {factor: Counter() for factor in FACTORS}
    laws = [law for law in grid["n"] if law[1] == 1 or not known_rate]
    for (a, power), ratio, evaluation, warm in itertools.product(laws, grid["k"], ("fresh", "same"), (True, False)):
        problems, exact, claimed = {}, {}, {}
        for d in sorted({d for sizes in grid["sizes"] for d in sizes}):
            n, k = max(round(a * d**power), 1), max(round(ratio * d), 1)
            problem, weights = Problem(n, k, np.eye(1, d)[0], evaluation=evaluation), 1 / (n + d + 1) if warm else 0.0
            problems[d], exact[d] = problem, exact_risk(problem, weights)
            claimed[d] = leading_order(problem, weights, power)
        for quantity, sizes, factor in itertools.product(QUANTITIES, grid["sizes"], FACTORS):
            result = check(
                lambda d: factor * QUANTITIES[quantity](claimed[d]),  # noqa: B023
                [problems[d] for d in sizes],
                start=0.0,
                quantity=quantity,
                approximate=True,
                rate=1.0 if known_rate else None,
                num_tasks=0,
                exact=lambda problem, *_: exact[problem.d],  # noqa: B023
            )
            counts[factor]["not resolved" if not result.resolved else "agrees" if result else "refused"] += 1
    return counts


def main() -> None:
    """Print the shares of the three verdicts on both grids, and save them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to save the record")
    options = parser.parse_args()
    record = []
    print(f"{'grid':8}{'rate':>11}{'constant':>10}{'claims':>8}{'agrees':>9}{'not resolved':>14}{'refused':>9}")
    for name, known_rate in itertools.product(GRIDS, (False, True)):
        for factor, counts in verdicts(GRIDS[name], known_rate=known_rate).items():
            total = counts.total()
            row = {"grid": name, "rate": "1, given" if known_rate else "estimated", "constant": factor, "claims": total}
            row |= {verdict: counts[verdict] for verdict in ("agrees", "not resolved", "refused")}
            record.append(row)
            shares = (f"{counts[verdict] / total:.1%}" for verdict in ("agrees", "not resolved", "refused"))
            print(
                "{:8}{:>11}{:10}{:8}".format(*list(row.values())[:4]) + "{:>9}{:>14}{:>9}".format(*shares), flush=True
            )
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
