"""The rows of a summary: each subject's models, the means over their seeds, and the rivals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from stockpred.report.summary.correction import LEVEL, claim_of, corrected_p_values
from stockpred.report.summary.gather import Gathered, SubjectRuns, TestedRun
from stockpred.score.claims import Claim, Verdict
from stockpred.score.results import ForecasterScores, SplitScores

_SEED = "training.seed"


@dataclass(frozen=True)
class Measure:
    """What a task's summary is about: the claim that decides, and the figure that stands for it.

    ``value`` is that figure of a forecaster, written with ``digits`` decimals; None where it has none.
    """

    claim: str
    head: str
    value: Callable[[ForecasterScores], float | None]
    digits: int


@dataclass(frozen=True, eq=False)
class ModelRow:
    """One run; ``corrected_p`` allows for every look at the same bars, None where no p value is known."""

    run: TestedRun
    measure: Measure
    corrected_p: float | None

    @property
    def claim(self) -> Claim | None:
        return claim_of(self.run, self.measure.claim)

    @property
    def own_verdict(self) -> Verdict:
        """What the run claims for itself."""
        return self.claim.verdict if self.claim else Verdict.TOO_FEW_DATES

    @property
    def verdict(self) -> Verdict:
        """What is left of it after the correction; a sealed run claims nothing."""
        if self.run.scored.is_sealed:
            return Verdict.UNDECIDED
        stands = self.corrected_p is not None and self.corrected_p < LEVEL
        return self.own_verdict if stands or self.own_verdict is not Verdict.BETTER else Verdict.UNDECIDED

    @property
    def seed(self) -> int | None:
        """The training seed as the run's config has it, None where it has none."""
        training = self.run.files.tree.get("training")
        seed = str(training.get("seed")) if isinstance(training, dict) else ""
        return int(seed) if seed.removeprefix("-").isdecimal() else None

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that tell this run from others, without the seed, which has a column of its own."""
        return tuple(word for word in self.run.settings if not word.startswith(f"{_SEED}="))

    @property
    def label(self) -> str:
        return " ".join((self.run.judged.evaluated.model, *self.settings))

    @property
    def name(self) -> str:
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return f"{self.run.subject} {self.label}{seed}"

    def value(self, scores: SplitScores | None) -> float | None:
        """Return the model's figure on a split."""
        return None if scores is None else self.measure.value(scores.pooled.model)


@dataclass(frozen=True, eq=False)
class SeedMean:
    """Two or more runs that differ only by their seed."""

    rows: tuple[ModelRow, ...]

    @property
    def label(self) -> str:
        return self.rows[0].label

    def value(self, of: Callable[[ModelRow], float | None]) -> tuple[float, float] | None:
        """Return mean and sample standard deviation over the seeds; None where a run has no value."""
        values = [value for row in self.rows if (value := of(row)) is not None]
        if len(values) < len(self.rows):
            return None
        return statistics.fmean(values), statistics.stdev(values)


@dataclass(frozen=True, eq=False)
class SubjectRows:
    """The rows of one subject: models by label and seed, means over seeds, and the newest run's rivals."""

    subject: str
    models: tuple[ModelRow, ...]
    seed_means: tuple[SeedMean, ...]
    newest: TestedRun

    def rivals(self, measure: Measure) -> tuple[ForecasterScores, ...]:
        """Return the rivals that the measure says something about, on the split that judges."""
        return tuple(rival for rival in self.newest.judged.pooled.rivals if measure.value(rival) is not None)

    def on_validation(self, rival: str) -> ForecasterScores | None:
        validation = self.newest.scored.validation
        return validation.pooled.rival(rival) if validation else None


def of(gathered: Gathered, measure: Measure) -> tuple[SubjectRows, ...]:
    """Return the rows of every subject."""
    corrected = corrected_p_values(gathered, measure.claim)
    return tuple(_subject(subject, measure, corrected) for subject in gathered.subjects)


def _subject(subject: SubjectRuns, measure: Measure, corrected: dict[Path, float]) -> SubjectRows:
    models = [ModelRow(run, measure, corrected.get(run.paths.root)) for run in subject.runs]
    models.sort(key=lambda row: (row.label, row.seed or 0, row.run.paths.run_id))
    return SubjectRows(subject.subject, tuple(models), tuple(_seed_means(models)), subject.newest)


def _seed_means(models: Sequence[ModelRow]) -> list[SeedMean]:
    groups = (tuple(group) for _, group in groupby(models, key=lambda row: row.label))
    return [SeedMean(group) for group in groups if len({row.seed for row in group}) > 1]
