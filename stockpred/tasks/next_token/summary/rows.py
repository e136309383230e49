"""The rows of a next-token summary: each case's models, the means over their seeds, and the token rivals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from stockpred.report.summary import correction
from stockpred.report.summary.correction import LEVEL, corrected_p_values
from stockpred.report.summary.gather import Gathered, SubjectRuns, TestedRun
from stockpred.score.inference import Estimate
from stockpred.tasks.next_token.results import NextTokenResults, TokenScores

TOKEN_RIVALS = ("unigram", "bigram")
BETTER, WORSE, UNDECIDED = "better", "worse", "no better than the rivals"
_SEED = "training.seed"


@dataclass(frozen=True, eq=False)
class ModelRow:
    """One run; ``corrected_p`` allows for all runs that were tested on the same bars, None without a test."""

    run: TestedRun[NextTokenResults]
    corrected_p: float | None

    @property
    def results(self) -> NextTokenResults:
        return self.run.results

    @property
    def nats(self) -> float:
        return self.results.model.nats or 0.0

    @property
    def gain(self) -> float:
        """Nats per bar below the better of unigram and bigram."""
        return self.results.gain

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
        return " ".join((self.results.evaluated.model, *self.settings))

    @property
    def name(self) -> str:
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return f"{self.run.subject} {self.label}{seed}"

    @property
    def own_claim(self) -> str:
        """Return BETTER or WORSE where the whole interval of the gain lies on that side of zero."""
        if self.results.beats_token_rivals:
            return BETTER
        return WORSE if self.results.loses_to_token_rival else UNDECIDED

    @property
    def claim(self) -> str:
        """Return what is left of the run's own claim after Holm's correction."""
        stands = self.corrected_p is not None and self.corrected_p < LEVEL
        return self.own_claim if stands else UNDECIDED


@dataclass(frozen=True, eq=False)
class SeedMean:
    """Two or more runs that differ only by their seed; standard deviations are those of a sample."""

    rows: tuple[ModelRow, ...]

    @property
    def label(self) -> str:
        return self.rows[0].label

    @property
    def nats(self) -> tuple[float, float]:
        """Mean and standard deviation of the test nats."""
        return _mean_and_deviation([row.nats for row in self.rows])

    def gain_over(self, rival: str) -> tuple[float, float]:
        """Mean and standard deviation of the gain over a rival."""
        return _mean_and_deviation([gain_over(row.results, rival) for row in self.rows])


@dataclass(frozen=True, eq=False)
class CaseRows:
    """The rows of one case: models by label and seed, means over seeds, and the rivals of the newest run."""

    case: str
    models: tuple[ModelRow, ...]
    seed_means: tuple[SeedMean, ...]
    rivals: tuple[TokenScores, ...]

    @property
    def has_one_vocabulary(self) -> bool:
        """Whether unigram and bigram did the same in every run, so that their nats are of the same tokens."""
        nats = {tuple(row.results.rival(name).nats for name in TOKEN_RIVALS) for row in self.models}
        return len(nats) == 1


def of(gathered: Gathered[NextTokenResults]) -> tuple[CaseRows, ...]:
    """Return the rows of every case."""
    corrected = corrected_p_values(gathered.tested, _versus_rivals)
    return tuple(_case(subject, corrected) for subject in gathered.subjects)


def compared(gathered: Gathered[NextTokenResults]) -> tuple[TestedRun[NextTokenResults], ...]:
    """Return every run that was tested against unigram and bigram, replaced ones too."""
    return correction.compared(gathered, _versus_rivals)


def gain_over(results: NextTokenResults, rival: str) -> float:
    """Return the nats per bar by which the model is below a token rival."""
    return (results.rival(rival).nats or 0.0) - (results.model.nats or 0.0)


def difference_from(results: NextTokenResults, rival: str) -> Estimate | None:
    """Return the estimate of model less rival; of the better rival only, where older results lack it."""
    found = results.rival(rival).model_nats_difference
    return found or (results.nats_difference if rival == results.best_token_rival else None)


def _case(subject: SubjectRuns[NextTokenResults], corrected: dict[Path, float]) -> CaseRows:
    models = [ModelRow(run, corrected.get(run.paths.root)) for run in subject.runs]
    models.sort(key=lambda row: (row.label, row.seed or 0, row.run.paths.run_id))
    newest = subject.newest.results
    return CaseRows(
        subject.subject,
        tuple(models),
        tuple(_seed_means(models)),
        tuple(newest.rival(name) for name in TOKEN_RIVALS),
    )


def _seed_means(models: Sequence[ModelRow]) -> list[SeedMean]:
    groups = (tuple(group) for _, group in groupby(models, key=lambda row: row.label))
    return [SeedMean(group) for group in groups if len({row.seed for row in group}) > 1]


def _versus_rivals(results: NextTokenResults) -> Estimate | None:
    return results.nats_difference


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values)
