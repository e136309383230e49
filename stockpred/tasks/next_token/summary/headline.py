"""What next-token runs show together, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpc.base import text
from stockpred.report.elements import Headline
from stockpred.report.format import p_value, signed
from stockpred.report.summary.correction import explanation
from stockpred.report.summary.gather import Gathered
from stockpred.tasks.next_token.results import NextTokenResults
from stockpred.tasks.next_token.summary.rows import (
    BETTER,
    WORSE,
    CaseRows,
    ModelRow,
    SeedMean,
    compared,
)

_MOST_NAMED = 4
_RIVAL = "the better of unigram and bigram"


def headline(gathered: Gathered[NextTokenResults], cases: Sequence[CaseRows]) -> Headline:
    """Say how many models beat unigram and bigram after the correction for the number of tests."""
    models = [row for case in cases for row in case.models]
    better = [row for row in models if row.claim == BETTER]
    worse = [row for row in models if row.claim == WORSE]
    details = (
        *explanation(len(compared(gathered))),
        *cautions(cases),
        *(_about_seeds(case, mean) for case in cases for mean in case.seed_means),
        _about_bars(models),
        *_about_vocabularies(cases),
    )
    return Headline(f"{_claim(models, better)}{_but_worse(worse)}.", details, bool(better))


def cautions(cases: Sequence[CaseRows]) -> Iterator[str]:
    """Name the models whose own interval claims more than the correction leaves."""
    for row in (row for case in cases for row in case.models):
        if row.claim != row.own_claim:
            yield (
                f"{row.name} alone would look {row.own_claim} (gain {signed(row.gain, 4)} nats), but its "
                f"corrected p value is {p_value(row.corrected_p)}."
            )


def _claim(models: Sequence[ModelRow], better: Sequence[ModelRow]) -> str:
    if not better:
        none = "The only model does not beat" if len(models) == 1 else f"None of {len(models)} models beats"
        return f"{none} {_RIVAL} by a gain that can be told from zero"
    beat = "beats" if len(better) == 1 else "beat"
    number = "The only model beats" if len(models) == 1 else f"{len(better)} of {len(models)} models {beat}"
    return f"{number} {_RIVAL}: {_named(better)}"


def _but_worse(worse: Sequence[ModelRow]) -> str:
    if not worse:
        return ""
    return f"; {len(worse)} {'is' if len(worse) == 1 else 'are'} worse than it: {_named(worse)}"


def _named(rows: Sequence[ModelRow]) -> str:
    """Name a few models with their gain or loss."""
    shown = [f"{row.name} by {signed(abs(row.gain), 4)} nats per bar" for row in rows[:_MOST_NAMED]]
    more = len(rows) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _about_seeds(case: CaseRows, mean: SeedMean) -> str:
    nats, deviation = mean.nats
    return (
        f"{case.case} {mean.label}: {signed(nats, 4)} test nats per bar on average over "
        f"{text.count(len(mean.rows), 'seed')}, with a standard deviation of {signed(deviation, 4)}."
    )


def _about_bars(models: Sequence[ModelRow]) -> str:
    periods = dict.fromkeys(_period(row.results) for row in models)
    period = next(iter(periods)) if len(periods) == 1 else "its own test period"
    return f"Each run was scored once on {period}, which neither training nor selection has seen."


def _period(results: NextTokenResults) -> str:
    return f"{results.num_bars:,} bars from {results.first_time} to {results.last_time}"


def _about_vocabularies(cases: Sequence[CaseRows]) -> Iterator[str]:
    different = [case.case for case in cases if not case.has_one_vocabulary]
    if different:
        yield (
            f"Runs of {', '.join(different)} have different tokens: compare their gains over the rivals, "
            "which are of the same tokens, and not their nats."
        )
