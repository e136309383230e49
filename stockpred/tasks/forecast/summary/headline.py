"""What forecast runs show together, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hpc.base import text
from stockpred.report.elements import Headline
from stockpred.report.format import p_value, percent, signed
from stockpred.report.summary.correction import explanation
from stockpred.report.summary.gather import Gathered, SubjectRuns
from stockpred.tasks.forecast.results import BETTER, WORSE, ForecastResults
from stockpred.tasks.forecast.summary.entries import Entry, compared

_MOST_NAMED = 4


def headline(gathered: Gathered[ForecastResults], entries: Sequence[Entry]) -> Headline:
    """Say how many models have skill once it is allowed for that many were looked at."""
    models = [entry for entry in entries if entry.is_model]
    better = [entry for entry in models if entry.corrected_skill == BETTER]
    worse = [entry for entry in models if entry.corrected_skill == WORSE]
    num_tests = len(compared(gathered))
    drift = _about_drift(gathered)
    details = (*explanation(num_tests), *cautions(models), *drift, *_about_bars(models), *_about_r2(models))
    return Headline(f"{_claim(models, better)}{_but_worse(worse)}.", details, bool(better))


def _claim(models: Sequence[Entry], better: Sequence[Entry]) -> str:
    how_many = text.count(len(models), "model")
    if not better:
        none = "The only model has no" if len(models) == 1 else f"None of {how_many} has"
        return f"{none} skill against the last close that can be told from zero"
    number = "The only model beats" if len(models) == 1 else f"{len(better)} of {how_many} beat{_s(better)}"
    return f"{number} the last close: {_named(better)}"


def _but_worse(worse: Sequence[Entry]) -> str:
    if not worse:
        return ""
    return f"; {len(worse)} {'is' if len(worse) == 1 else 'are'} worse than it: {_named(worse)}"


def _named(entries: Sequence[Entry]) -> str:
    """Name a few models with their skill."""
    shown = [f"{entry.name} by {_skill(entry)}\u00a0%" for entry in entries[:_MOST_NAMED]]
    more = len(entries) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _skill(entry: Entry) -> str:
    return percent(abs(entry.scores.skill or 0.0), 2)


def _s(entries: Sequence[Entry]) -> str:
    return "s" if len(entries) == 1 else ""


def _about_drift(gathered: Gathered[ForecastResults]) -> Iterator[str]:
    """Say on how many assets the mean return of training alone does at least as well as the best model."""
    number = sum(map(_drift_is_as_good, gathered.subjects))
    yield (
        f"On {number or 'none'} of {text.count(len(gathered.subjects), 'asset')} drift alone, which adds the "
        "mean return of training to the last close, does at least as well as the best model, by MSE."
    )


def _drift_is_as_good(asset: SubjectRuns[ForecastResults]) -> bool:
    drift = asset.newest.results.rival("drift").mse_price
    errors = [run.results.model.mse_price for run in asset.runs]
    known = [error for error in errors if error is not None]
    return drift is not None and bool(known) and drift <= min(known)


def cautions(entries: Sequence[Entry]) -> Iterator[str]:
    """Name the models whose own interval claims more than the correction leaves."""
    for entry in entries:
        if entry.holm_p is not None and entry.corrected_skill != entry.scores.skill_in_words:
            scores = entry.scores
            skill = percent(scores.skill or 0.0, 2)
            yield (
                f"{entry.name} alone would look {scores.skill_in_words} (skill {skill}\u00a0%), but its "
                f"corrected p value is {p_value(entry.holm_p)}."
            )


def _about_bars(models: Sequence[Entry]) -> Iterator[str]:
    periods = dict.fromkeys(_period(entry.results) for entry in models)
    period = next(iter(periods)) if len(periods) == 1 else "its own test period"
    yield f"Each run was scored once on {period}, which neither training nor selection has seen."


def _period(results: ForecastResults) -> str:
    return f"{results.num_bars:,} {results.bars} from {results.first_time} to {results.last_time}"


def _about_r2(models: Sequence[Entry]) -> Iterator[str]:
    found = [entry.results.rival("persistence").r2_price for entry in models]
    known = sorted(value for value in found if value is not None)
    if known:
        span = signed(known[0], 3) if len(known) == 1 else f"{signed(known[0], 3)} to {signed(known[-1], 3)}"
        yield f"R\u00b2 on prices is {span} for repeating the last close: a high one is no achievement."
