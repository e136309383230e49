"""Holm's correction over all looks at the test bars of a summary, whether or not their runs are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stockpred.report.summary.gather import Gathered, SubjectRuns, TestedRun
from stockpred.score import inference, looks
from stockpred.score.claims import Claim

LEVEL = 0.05


@dataclass(frozen=True)
class Correction:
    """Corrected p values by run directory, of runs whose claim has one.

    ``num_looks`` are the looks at tests that the claims have to answer for, ``num_replaced`` those among them
    by runs that newer ones replaced.
    """

    p_values: Mapping[Path, float]
    num_looks: int
    num_replaced: int


def of(gathered: Gathered, measure: str) -> Correction:
    """Correct the p values of the claims in a measure; a sealed run has looked at no test and has none.

    Looks whose p values are not known count as if theirs were 1, which can only make the others larger.
    Raises UserError for a ledger that cannot be read.
    """
    known = {
        run.paths.root: claim.p_value
        for run in gathered.tested
        if (claim := claim_of(run, measure)) is not None and claim.p_value is not None
    }
    num_looks = _num_looks(gathered)
    corrected = inference.holm((*known.values(), *[1.0] * (num_looks - len(known))))
    replaced = [run for subject in gathered.subjects for run in subject.older if not run.scored.is_sealed]
    return Correction(dict(zip(known, corrected, strict=False)), num_looks, len(replaced))


def claim_of(run: TestedRun, measure: str) -> Claim | None:
    """Return a run's claim in a measure on its test; None while that is sealed."""
    return run.scored.test.pooled.claim(measure) if run.scored.test else None


def explanation(num_looks: int) -> Iterator[str]:
    """Say why and how p values are corrected, where there is more than one look."""
    if num_looks > 1:
        yield (
            f"Among {num_looks} looks at test bars one model may shine by luck. So being better counts only "
            f"where its p value stays below 0.05 after Holm's correction: the smallest is multiplied by "
            f"{num_looks}, the next by {num_looks - 1}, and so on. Then even one false claim has a chance of "
            "at most 5\u00a0%."
        )


def _num_looks(gathered: Gathered) -> int:
    """Return how many different looks there were at the tests of the runs.

    These are the runs' own, those of a ledger that overlap with them, and those that a run's results counted
    although the ledger beside it has lost them, such as that of a run that was copied to another place.
    """
    ledgers = {
        ledger: looks.Index(looks.read(ledger))
        for ledger in {looks.ledger_of(run.paths) for run in gathered.tested}
    }
    found, num_lost = set[tuple[object, ...]](), 0
    for subject in gathered.subjects:
        own = {look for run in _tested(subject) for look in _looks_at(run, ledgers)}
        counted = [run.scored.test.num_looks or 0 for run in _tested(subject) if run.scored.test]
        num_lost += max((*counted, len(own))) - len(own)
        found |= own
    return len(found) + num_lost


def _tested(subject: SubjectRuns) -> list[TestedRun]:
    return [run for run in (*subject.runs, *subject.older) if run.scored.test]


def _looks_at(run: TestedRun, ledgers: Mapping[Path, looks.Index]) -> set[tuple[object, ...]]:
    """Return what looked at a run's test bars, the run itself included, each with its ledger."""
    ledger, case, run_id = looks.ledger_of(run.paths), run.paths.case, run.paths.run_id
    known, itself = ledgers[ledger], (case, run_id, run.judged.evaluated.best_step)
    return {(ledger, *of) for of in known.overlapping(known.of_run(case, run_id)) | {itself}}
