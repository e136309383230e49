"""The rows of a summary: each subject's models, the means over their seeds, and the rivals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from stockpred.report.scores import Scored
from stockpred.report.summary.correction import LEVEL, Correction, claim_of
from stockpred.report.summary.gather import Gathered, SubjectRuns, TestedRun
from stockpred.score.claims import Claim, Verdict
from stockpred.score.results import ForecasterScores, SplitScores


@dataclass(frozen=True)
class Measure:
    """What a task's summary is about: the claim that decides, and the figure that stands for it.

    ``value`` is that figure of a forecaster, written with ``digits`` decimals; None where it has none.
    Differences of the claim are written with ``claim_digits``.
    """

    claim: str
    head: str
    value: Callable[[ForecasterScores], float | None]
    digits: int
    claim_digits: int


@dataclass(frozen=True, eq=False)
class ModelRow:
    """One run; ``corrected_p`` allows for every look at the same bars, None where no p value is known."""

    run: TestedRun
    measure: Measure
    corrected_p: float | None

    @property
    def is_sealed(self) -> bool:
        return self.run.scored.is_sealed

    @property
    def claim(self) -> Claim | None:
        """What the run claims of its test; None while that is sealed."""
        return claim_of(self.run, self.measure.claim)

    @property
    def compared(self) -> Claim | None:
        """How the run did against its rivals on its test, or on validation while that is sealed."""
        return self.run.judged.pooled.claim(self.measure.claim)

    @property
    def verdict(self) -> Verdict | None:
        """What is left of the claim after the correction; None where there is no claim."""
        if self.claim is None or not self.claim.is_better:
            return self.claim.verdict if self.claim else None
        stands = self.corrected_p is not None and self.corrected_p < LEVEL
        return Verdict.BETTER if stands else Verdict.UNDECIDED

    @property
    def name(self) -> str:
        seed = "" if self.run.seed is None else f" (seed {self.run.seed})"
        return f"{self.run.subject} {self.run.label}{seed}"

    @property
    def validation(self) -> float | None:
        return self._value(self.run.scored.validation)

    @property
    def test(self) -> float | None:
        return self._value(self.run.scored.test)

    def _value(self, scores: SplitScores | None) -> float | None:
        return None if scores is None else self.measure.value(scores.pooled.model)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds."""

    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class SeedGroup:
    """Runs that differ only by their seed, in its order; a spread is None where one of them has no figure."""

    rows: tuple[ModelRow, ...]

    @property
    def label(self) -> str:
        return self.rows[0].run.label

    @property
    def has_spread(self) -> bool:
        return len(self.rows) > 1

    @property
    def validation(self) -> Spread | None:
        return _spread([row.validation for row in self.rows])

    @property
    def test(self) -> Spread | None:
        return _spread([row.test for row in self.rows])


@dataclass(frozen=True)
class RivalRow:
    """A rival, as the newest runs that scored each split have it."""

    label: str
    validation: float | None
    test: float | None


@dataclass(frozen=True, eq=False)
class SubjectRows:
    """The rows of one subject: models by label and seed, and rivals."""

    subject: str
    groups: tuple[SeedGroup, ...]
    rivals: tuple[RivalRow, ...]

    @property
    def models(self) -> tuple[ModelRow, ...]:
        return tuple(row for group in self.groups for row in group.rows)


def of(gathered: Gathered, measure: Measure, correction: Correction) -> tuple[SubjectRows, ...]:
    """Return the rows of every subject."""
    return tuple(_subject(subject, measure, correction) for subject in gathered.subjects)


def _subject(subject: SubjectRuns, measure: Measure, correction: Correction) -> SubjectRows:
    models = [ModelRow(run, measure, correction.p_values.get(run.paths.root)) for run in subject.runs]
    groups = tuple(SeedGroup(tuple(rows)) for _, rows in groupby(models, key=lambda row: row.run.label))
    return SubjectRows(subject.subject, groups, tuple(_rivals(subject, measure)))


def _rivals(subject: SubjectRuns, measure: Measure) -> Iterator[RivalRow]:
    """Yield the rivals that the measure says something about, on the test or on validation."""
    validation = _newest_rivals(subject, lambda scored: scored.validation)
    test = _newest_rivals(subject, lambda scored: scored.test)
    for name, rival in (validation | test).items():
        values = [measure.value(found[name]) if name in found else None for found in (validation, test)]
        if values != [None, None]:
            yield RivalRow(rival.label, *values)


def _newest_rivals(
    subject: SubjectRuns, split: Callable[[Scored], SplitScores | None]
) -> dict[str, ForecasterScores]:
    """Return the rivals by name, as the newest run has them that scored a split."""
    newest_last = sorted(subject.runs, key=lambda run: run.written)
    scored = [scores for run in newest_last if (scores := split(run.scored)) is not None]
    return {rival.name: rival for rival in scored[-1].pooled.rivals} if scored else {}


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(statistics.fmean(known), statistics.stdev(known)) if len(known) == len(values) else None
