"""What the runs of a summary show together, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpc.base import text
from stockpred.report.elements import Headline
from stockpred.report.format import p_value, signed, with_sign
from stockpred.report.scores import IN_WORDS, MEASURES
from stockpred.report.summary.correction import Correction, explanation
from stockpred.report.summary.rows import Measure, ModelRow, SeedGroup, SubjectRows
from stockpred.score.claims import Claim, Verdict

_MOST_NAMED = 4


def headline(subjects: Sequence[SubjectRows], measure: Measure, correction: Correction) -> Headline:
    """Say how many models beat every rival once it is allowed for that many were looked at."""
    models = [row for subject in subjects for row in subject.models]
    tested, sealed = ([row for row in models if row.is_sealed is which] for which in (False, True))
    better, worse = ([row for row in tested if row.verdict is which] for which in _SAID)
    parts = (
        *([f"{_claim(tested, better, sealed)} in {MEASURES[measure.claim]}{_by(better)}"] if tested else []),
        *([f"{len(worse)} {_is(worse)} worse than a rival{_by(worse)}"] if worse else []),
        *([_about_sealed(sealed, tested, MEASURES[measure.claim])] if sealed else []),
    )
    details = (
        *explanation(correction.num_looks),
        *cautions(subjects),
        *(
            _about_seeds(subject, group)
            for subject in subjects
            for group in subject.groups
            if group.has_spread
        ),
        *_about_bars(tested),
        *(["Validation chose the best step of each run, so its figures flatter."] if sealed else []),
    )
    return Headline(f"{'; '.join(parts)}.", details, bool(better))


_SAID = (Verdict.BETTER, Verdict.WORSE)


def cautions(subjects: Sequence[SubjectRows]) -> Iterator[str]:
    """Name the models that claim more for themselves than is left, and those that forecast one direction."""
    models = [row for subject in subjects for row in subject.models]
    for row in models:
        if row.claim is not None and row.verdict is not row.claim.verdict:
            yield (
                f"{row.name} alone would look {IN_WORDS[row.claim.verdict]} (difference "
                f"{with_sign(row.claim.mean_difference, row.measure.claim_digits)} from "
                f"{_label(row, row.claim.hardest)}), but its corrected p value is {p_value(row.corrected_p)}."
            )
    one_way = [row for row in models if row.run.judged.pooled.model.always]
    for row in one_way[:_MOST_NAMED]:
        yield f"{row.name} forecasts the same direction on every bar: always {_always(row)}."
    if len(one_way) > _MOST_NAMED:
        yield f"{text.count(len(one_way) - _MOST_NAMED, 'more model')} never changed direction."


def _always(row: ModelRow) -> str | None:
    return row.run.judged.pooled.model.always


def _claim(tested: Sequence[ModelRow], better: Sequence[ModelRow], sealed: Sequence[ModelRow]) -> str:
    if len(tested) == 1:
        only = "The only model tested" if sealed else "The only model"
        return f"{only} is {'' if better else 'not '}better than every rival"
    if not better:
        return f"None of {len(tested)} models is better than every rival"
    return f"{len(better)} of {len(tested)} models {_is(better)} better than every rival"


def _is(rows: Sequence[ModelRow]) -> str:
    return "is" if len(rows) == 1 else "are"


def _about_sealed(sealed: Sequence[ModelRow], tested: Sequence[ModelRow], measure: str) -> str:
    """Say how many models claim nothing."""
    if tested:
        return f"{len(sealed)} more {_is(sealed)} compared on validation alone: the test is sealed"
    return (
        f"{text.count(len(sealed), 'model')} compared on validation alone, in {measure}: the test is sealed"
    )


def _by(rows: Sequence[ModelRow]) -> str:
    """Name a few models that are better or worse, each with its difference from the rival that decides."""
    shown = [_by_how_much(row, row.claim) for row in rows[:_MOST_NAMED] if row.claim is not None]
    more = f" and {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
    return f": {', '.join(shown)}{more}" if shown else ""


def _by_how_much(row: ModelRow, claim: Claim) -> str:
    """Better than every rival is decided by the hardest, worse than one by that which surely wins."""
    rival = claim.hardest if row.verdict is Verdict.BETTER else _surest_winner(claim)
    size = signed(abs(claim.mean_differences[rival]), row.measure.claim_digits)
    return f"{row.name} by {size} against {_label(row, rival)}"


def _surest_winner(claim: Claim) -> str:
    lows = {name: one.low for name, one in claim.differences.items() if one is not None}
    return max(lows, key=lows.__getitem__)


def _label(row: ModelRow, rival: str) -> str:
    return row.run.judged.pooled.rival(rival).label


def _about_seeds(subject: SubjectRows, group: SeedGroup) -> str:
    """Say how far the figures of a model spread over its seeds, on the test where each seed has one."""
    measure = group.rows[0].measure
    found, split = (group.test, "test") if group.test else (group.validation, "validation")
    if found is None:
        return f"{subject.subject} {group.label}: not every seed has {measure.head}."
    mean, deviation = (signed(value, measure.digits) for value in (found.mean, found.deviation))
    return (
        f"{subject.subject} {group.label}: {measure.head} {mean} on average over "
        f"{text.count(len(group.rows), 'seed')} ({split}), with a standard deviation of {deviation}."
    )


def _about_bars(tested: Sequence[ModelRow]) -> Iterator[str]:
    groups = [row.run.judged.pooled for row in tested]
    periods = {f"{one.num_bars:,} bars from {one.first_time} to {one.last_time}" for one in groups}
    if periods:
        period = periods.pop() if len(periods) == 1 else "its own test period"
        yield f"Each test was scored on {period}, which neither training nor the choice of a step has seen."
