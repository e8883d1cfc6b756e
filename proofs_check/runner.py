"""Running claims and the statements of papers, module by module or several at a time."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context, resource_tracker
from typing import Any, NamedTuple

from proofs_check.claim import Claim, Effort, Paper, Statement, Verdict
from proofs_check.processes import stop_with_parent

NEIGHBOURS = 5
"""Claims that one process takes at a time: neighbours share simulations and compilations."""


@dataclass(frozen=True)
class Result:
    module: str
    name: str
    number: str
    statement: str
    symbolic: Verdict
    independent: Verdict
    empirical: Verdict
    seconds: float

    @property
    def verdicts(self) -> tuple[Verdict, Verdict, Verdict]:
        return self.symbolic, self.independent, self.empirical

    @property
    def ok(self) -> bool | None:
        """False if a verdict is, else None if one judged nothing."""
        found = [verdict.ok for verdict in self.verdicts]
        return False if False in found else None if None in found else True


def run(module_name: str, effort: Effort) -> Result:
    """The three verdicts on one claim."""
    module = importlib.import_module(f"proofs_check.claims.{module_name}")
    claim: Claim = module.CLAIM
    started = time.perf_counter()
    c = claim.coefficients
    verdicts = claim.symbolic(c), claim.independent(c), claim.empirical(c, effort)
    statement = str(module.__doc__).strip()
    return Result(module_name, claim.name, claim.number, statement, *verdicts, time.perf_counter() - started)


@dataclass(frozen=True)
class Finding:
    """What was found of a statement: as printed, and with the corrected coefficients where it is recorded as false."""

    statement: Statement
    printed: Verdict
    corrected: Verdict | None

    @property
    def ok(self) -> bool | None:
        """Whether the verdict is the one that the module records; None if something was not judged."""
        if not self.corrected:
            return self.printed.ok
        found = self.printed.ok is not True, self.corrected.ok
        return False if False in found else None if None in (self.printed.ok, self.corrected.ok) else True


@dataclass(frozen=True)
class PaperResult:
    paper: Paper
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def ok(self) -> bool | None:
        found = [finding.ok for finding in self.findings]
        return False if False in found else None if None in found else True


def run_paper(module_name: str, effort: Effort) -> PaperResult:
    """The verdicts on every statement of one paper."""
    paper: Paper = importlib.import_module(f"proofs_check.papers.{module_name}").PAPER
    started = time.perf_counter()
    findings = tuple(
        Finding(one, one.judge(one.coefficients, effort), one.judge(one.corrected, effort) if one.corrected else None)
        for one in paper.statements
    )
    return PaperResult(paper, findings, time.perf_counter() - started)


class Mutated(NamedTuple):
    """What the two exact ways say of a claim with one coefficient changed by 5%."""

    name: str
    number: str
    coefficient: str
    symbolic: bool | None
    independent: bool | None

    @property
    def noticed(self) -> bool:
        return self.symbolic is False and self.independent is False


def mutate(module_name: str, effort: Effort) -> list[Mutated]:
    """Each coefficient of one claim in turn, without simulation: what that would notice is in the table of claims."""
    claim: Claim = importlib.import_module(f"proofs_check.claims.{module_name}").CLAIM
    found = []
    for i, value in enumerate(claim.coefficients):
        wrong = claim.with_wrong(i)
        which = f"{i + 1} of {len(claim.coefficients)}, {value}"
        found.append(Mutated(claim.name, claim.number, which, claim.symbolic(wrong).ok, claim.independent(wrong).ok))
    return found


def run_all(names: Sequence[str], effort: Effort, do: Callable[[str, Effort], Any] = run) -> Iterator[Any]:
    """The modules in order; many of them by several processes, a few neighbours at a time, which share simulations."""
    workers = min(os.cpu_count() or 1, len(names) // NEIGHBOURS)
    if workers < 2:
        yield from (do(name, effort) for name in names)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core for each worker, also in linear algebra
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=stop_with_parent) as pool:
        resource_tracker.ensure_running()  # it unblocks the signal when it starts
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is for the parent alone
        try:
            results = pool.map(do, names, repeat(effort), chunksize=NEIGHBOURS)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield from results
