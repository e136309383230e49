"""What the runs of a summary show together, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpc.base import text
from stockpred.report.elements import Headline
from stockpred.report.format import interval, p_value, signed, with_sign
from stockpred.report.scores import IN_WORDS, MEASURES, about_forecasts
from stockpred.report.summary.correction import explanation, num_looks
from stockpred.report.summary.gather import Gathered
from stockpred.report.summary.rows import ModelRow, SeedMean, SubjectRows
from stockpred.score.claims import Verdict
from stockpred.score.results import SplitScores

_MOST_NAMED = 4


def headline(gathered: Gathered, subjects: Sequence[SubjectRows]) -> Headline:
    """Say how many models beat every rival once it is allowed for that many were looked at."""
    models = [row for subject in subjects for row in subject.models]
    better = [row for row in models if row.verdict is Verdict.BETTER]
    worse = [row for row in models if row.verdict is Verdict.WORSE]
    details = (
        *explanation(num_looks(gathered)),
        *cautions(subjects),
        *(_about_seeds(subject, mean) for subject in subjects for mean in subject.seed_means),
        *_about_bars(models),
    )
    return Headline(f"{_claim(models, better)}{_but_worse(worse)}.", details, bool(better))


def cautions(subjects: Sequence[SubjectRows]) -> Iterator[str]:
    """Name the models that claim more for themselves than is left, and those that forecast a constant."""
    models = [row for subject in subjects for row in subject.models]
    for row in models:
        if row.verdict is not row.own_verdict and row.claim is not None and not row.run.scored.is_sealed:
            yield (
                f"{row.name} alone would look {IN_WORDS[row.own_verdict]} (difference "
                f"{with_sign(row.claim.mean_difference, 4)} from {_hardest(row)}), but its corrected p value "
                f"is {p_value(row.corrected_p)}."
            )
    constant = [row for row in models if row.run.judged.pooled.model.always]
    for row in constant[:_MOST_NAMED]:
        yield f"{row.name}: {about_forecasts(row.run.judged.pooled.model)}"
    if len(constant) > _MOST_NAMED:
        yield f"{len(constant) - _MOST_NAMED} more models never change the sign of their forecast."


def _claim(models: Sequence[ModelRow], better: Sequence[ModelRow]) -> str:
    measure = MEASURES[models[0].measure.claim]
    sealed = sum(row.run.scored.is_sealed for row in models)
    if sealed == len(models):
        return f"{text.count(sealed, 'model')} compared on validation alone, in {measure}: the test is sealed"
    if not better:
        none = "The only model is not" if len(models) == 1 else f"None of {len(models)} models is"
        return f"{none} better than every rival in {measure}"
    verb = "is" if len(better) == 1 else "are"
    number = "The only model is" if len(models) == 1 else f"{len(better)} of {len(models)} models {verb}"
    return f"{number} better than every rival in {measure}: {_named(better)}"


def _but_worse(worse: Sequence[ModelRow]) -> str:
    if not worse:
        return ""
    return f"; {len(worse)} {'is' if len(worse) == 1 else 'are'} worse than a rival: {_named(worse)}"


def _named(rows: Sequence[ModelRow]) -> str:
    """Name a few models with their difference from the hardest rival."""
    shown = [
        f"{row.name} by {signed(abs(row.claim.mean_difference), 4)} against {_hardest(row)}"
        for row in rows[:_MOST_NAMED]
        if row.claim is not None
    ]
    more = len(rows) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _hardest(row: ModelRow) -> str:
    assert row.claim is not None
    return row.run.judged.pooled.rival(row.claim.hardest).label.lower()


def _about_seeds(subject: SubjectRows, mean: SeedMean) -> str:
    measure = mean.rows[0].measure
    found = mean.value(lambda row: row.value(row.run.judged))
    if found is None:
        return f"{subject.subject} {mean.label}: not every seed has {measure.head}."
    average, deviation = (signed(value, measure.digits) for value in found)
    return (
        f"{subject.subject} {mean.label}: {measure.head} {average} on average over "
        f"{text.count(len(mean.rows), 'seed')}, with a standard deviation of {deviation}."
    )


def _about_bars(models: Sequence[ModelRow]) -> Iterator[str]:
    judged = [row.run.judged for row in models if not row.run.scored.is_sealed]
    periods = dict.fromkeys(map(_period, judged))
    if periods:
        period = next(iter(periods)) if len(periods) == 1 else "its own test period"
        yield f"Each test was scored on {period}, which neither training nor selection has seen."


def _period(scores: SplitScores) -> str:
    group = scores.pooled
    return f"{group.num_bars:,} bars from {group.first_time} to {group.last_time}"


def difference_text(row: ModelRow) -> str:
    """Return the difference from the hardest rival with its interval."""
    if row.claim is None:
        return ""
    ends = f" ({interval(row.claim.difference, 4)})" if row.claim.difference else ""
    return f"{with_sign(row.claim.mean_difference, 4)}{ends}"
