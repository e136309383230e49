"""Holm's correction over all looks at the bars of a summary, whether or not their runs are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from stockpred.report.summary.gather import Gathered, SubjectRuns, TestedRun
from stockpred.score import inference, looks
from stockpred.score.claims import Claim

LEVEL = 0.05


def corrected_p_values(gathered: Gathered, measure: str) -> dict[Path, float]:
    """Return the corrected p value of each run's claim in a measure, by the run's directory.

    Looks whose p values are not known count as if theirs were 1, which can only make the others larger.
    """
    known = {
        run.paths.root: claim.p_value
        for run in gathered.tested
        if (claim := claim_of(run, measure)) is not None and claim.p_value is not None
    }
    unknown = max(num_looks(gathered) - len(known), 0)
    corrected = inference.holm((*known.values(), *[1.0] * unknown))
    return dict(zip(known, corrected, strict=False))


def claim_of(run: TestedRun, measure: str) -> Claim | None:
    """Return a run's claim in a measure on the split that it is judged by."""
    return run.judged.pooled.claim(measure)


def num_looks(gathered: Gathered) -> int:
    """Return how many looks at tests the summary's claims have to answer for.

    Those of the ledger that overlap with a shown run's test, but at least as many as there are runs.
    """
    return sum(
        max(_recorded(subject), len(subject.runs) + len(subject.older)) for subject in gathered.subjects
    )


def _recorded(subject: SubjectRuns) -> int:
    """Return how many looks the ledgers hold that overlap with one of a subject's tests."""
    found = set()
    for run in subject.runs:
        known = looks.read(looks.ledger_of(run.paths))
        own = [look for look in known if (look.case, look.run_id) == (run.paths.case, run.paths.run_id)]
        found |= {look.of for look in known if any(look.overlaps(one) for one in own)}
    return len(found)


def explanation(num_tests: int) -> Iterator[str]:
    """Say why and how p values are corrected, where there is more than one."""
    if num_tests > 1:
        yield (
            f"Among {num_tests} looks one model may shine by luck. So a claim counts only where its p value "
            f"stays below 0.05 after Holm's correction: the smallest is multiplied by {num_tests}, the next "
            f"by {num_tests - 1}, and so on. Then even one false claim has a chance of at most 5\u00a0%."
        )


def runs_replaced(gathered: Gathered) -> Sequence[TestedRun]:
    """Return the runs that newer ones have replaced: their looks count, too."""
    shown = {run.paths.root for run in gathered.runs}
    return tuple(run for run in gathered.tested if run.paths.root not in shown)
