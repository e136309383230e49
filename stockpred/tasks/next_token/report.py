"""The next-token part of a run's report: what may be claimed, gains, bands around the next close."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stockpred.config.next_token import NextTokenExperiment
from stockpred.report import scores as report_scores
from stockpred.report.elements import Headline, Picture, Section, Tile
from stockpred.report.format import (
    interval,
    number,
    p_value,
    parameter_count,
    percent,
    signed,
    with_sign,
)
from stockpred.report.runfiles import RunFiles
from stockpred.report.scores import MEASURES, Scored
from stockpred.report.task_part import TaskReport, TestedPart, read_or_note
from stockpred.score.claims import Claim, Verdict
from stockpred.score.compare import CRPS, LOG_LOSS, NATS, SQUARED_ERROR
from stockpred.score.results import CURVE_LEVELS, GroupScores, SplitScores
from stockpred.tasks.next_token import figures
from stockpred.tasks.next_token.features import to_candles
from stockpred.tasks.next_token.tokenizer import Tokenizer

PREDICTIONS = (
    *("symbol", "category", "time", "split", "nats", "hardest_nats", "realised_return", "previous_close"),
    *("q05", "q25", "q75", "q95"),
)
"""The columns of ``predictions.parquet`` that are drawn."""
DECIDING = (CRPS, LOG_LOSS)
"""The measures of the headline: proper scores of the return."""
_NUM_FANS = 5
_BARS_PER_FAN = 90
_NUM_TOKENS = 14


def read(files: RunFiles) -> TaskReport:
    """Make the task's report from the run's results, predictions and tokenizer."""
    notes: list[str] = []
    scored = report_scores.read(files.paths, notes)
    predictions = read_or_note(files.paths.predictions, _predictions, notes)
    tokenizer = read_or_note(files.paths.tokenizer, Tokenizer.load, notes)
    return TaskReport(
        tested=_tested(files, scored, predictions) if scored.judged else None,
        training_pictures=_token_pictures(tokenizer) if tokenizer else (),
        model_facts=_model_facts(files),
        notes=tuple(notes),
    )


def _tested(files: RunFiles, scored: Scored, predictions: pd.DataFrame | None) -> TestedPart:
    scores = scored.judged
    assert scores is not None
    drawn = None if predictions is None else predictions[predictions["split"] == scores.split]
    return TestedPart(
        scores.evaluated,
        headline(files.case, scores, is_synthetic=files.is_synthetic, is_sealed=scored.is_sealed),
        tuple(tiles(scores.pooled)),
        (
            report_scores.claims(scored),
            report_scores.comparison(scored),
            *((gains(scores, drawn),) if drawn is not None else ()),
            forecasts(scores, drawn),
        ),
    )


def _model_facts(files: RunFiles) -> tuple[tuple[str, str], ...]:
    experiment = files.experiment
    if not isinstance(experiment, NextTokenExperiment):
        return ()
    return (("vocabulary", f"{experiment.tokenizer.vocab_size:,} tokens"),)


def _predictions(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, columns=list(PREDICTIONS))


def headline(case: str, scores: SplitScores, *, is_synthetic: bool, is_sealed: bool = False) -> Headline:
    """Say whether the model forecasts the return better than every rival, and by how much."""
    evaluated, group = scores.evaluated, scores.pooled
    bars = f"{'synthetic ' if is_synthetic else ''}{scores.split} bars"
    text = (
        f"On the {bars} of {group.num_assets} assets (case {case}), {evaluated.model} with "
        f"{parameter_count(evaluated.num_parameters)} parameters {_in_words(group)}."
    )
    details = (
        *report_scores.about_split(scores, "bars", is_sealed=is_sealed),
        *_about_categories(scores),
        *_about_claims(group),
        *_about_close(group),
    )
    is_good = all(claim.is_better for claim in _deciding(group))
    return Headline(text, details, is_good)


def _deciding(group: GroupScores) -> tuple[Claim, ...]:
    """Return the claims of the proper scores of the return."""
    found = tuple(claim for claim in map(group.claim, DECIDING) if claim is not None)
    assert len(found) == len(DECIDING)  # forecasts of tokens and rivals have both scores
    return found


def _in_words(group: GroupScores) -> str:
    """Return the verdict on both proper scores as the end of a sentence about the model."""
    crps, log_loss = _deciding(group)
    if Verdict.TOO_FEW_DATES in (crps.verdict, log_loss.verdict):
        return "cannot be judged on so few dates"
    if crps.is_better and log_loss.is_better:
        return f"forecasts the next return better than every rival, {_both_differences(group)}"
    if crps.is_better or log_loss.is_better:
        better, other = ("CRPS", "log loss") if crps.is_better else ("log loss", "CRPS")
        return f"forecasts the next return better than every rival in {better} but not in {other}"
    if Verdict.WORSE in (crps.verdict, log_loss.verdict):
        return (
            "forecasts the next return worse than a rival does (the hardest is "
            f"{_hardest(group, crps if crps.verdict is Verdict.WORSE else log_loss)})"
        )
    return (
        f"does not forecast the next return better than every rival (the hardest is {_hardest(group, crps)})"
    )


def _both_differences(group: GroupScores) -> str:
    crps, log_loss = _deciding(group)
    return (
        f"by {signed(abs(crps.mean_difference), 2)} bp of CRPS and "
        f"{signed(abs(log_loss.mean_difference), 3)} nats of log loss at least"
    )


def _hardest(group: GroupScores, claim: Claim) -> str:
    return group.rival(claim.hardest).label


def _about_categories(scores: SplitScores) -> Iterator[str]:
    """Say for each category what the proper scores come to, where there are several."""
    for group in scores.categories if len(scores.categories) > 1 else ():
        verdicts = [f"{word}: {_verdict(group, claim)}" for word, claim in _named(group)]
        yield f"{group.name}: {'; '.join(verdicts)}."


def _named(group: GroupScores) -> tuple[tuple[str, Claim], ...]:
    crps, log_loss = _deciding(group)
    return ("CRPS", crps), ("log loss", log_loss)


def _verdict(group: GroupScores, claim: Claim) -> str:
    return report_scores.verdict_text(claim, lambda name: group.rival(name).label)


def _about_claims(group: GroupScores) -> Iterator[str]:
    """Say what all assets together come to: the return first, the token next, the expected close last."""
    for measure in (*DECIDING, NATS, SQUARED_ERROR):
        claim = group.claim(measure)
        if claim is not None:
            yield f"All assets, {MEASURES[measure]}: {_verdict(group, claim)}, p {p_value(claim.p_value)}."


def _about_close(group: GroupScores) -> Iterator[str]:
    text = report_scores.about_forecasts(group.model)
    if text:
        yield f"Skill of the expected close on the last value: {percent(group.model.skill, 2)}\u00a0%. {text}"


def tiles(group: GroupScores) -> Iterator[Tile]:
    """Yield the scores of the return, then of the token, beside the hardest rival of each."""
    model = group.model
    for word, claim in _named(group):
        rival = group.rival(claim.hardest)
        own, beside = (
            (f"{number(row.crps_bp, 2)} bp" if claim.measure == CRPS else number(row.log_loss, 4))
            for row in (model, rival)
        )
        yield Tile(f"{word[:1].upper()}{word[1:]} of the return", own, f"{rival.label} {beside}")
    nats = group.claim(NATS)
    if nats is not None:
        rival = group.rival(nats.hardest)
        gain = f"{with_sign(-nats.mean_difference, 3)} nats"
        beside = f"per bar; {number(model.nats, 3)} against {number(rival.nats, 3)}"
        yield Tile(f"Gain over {rival.label}", gain, beside)
    if model.coverage:
        yield Tile("90 % band holds", f"{percent(model.coverage['90'])} %", "of outcomes")
    if model.rank_ic:
        context = f"Newey-West t {signed(model.rank_ic.t, 1)}, {model.rank_ic.num_dates:,} dates"
        yield Tile("RankIC across assets", with_sign(model.rank_ic.mean, 4), context)


def gains(scores: SplitScores, predictions: pd.DataFrame) -> Section:
    """Show where the gain in nats of the token comes from: time and assets."""
    claim = scores.pooled.claim(NATS)
    spread = (
        f" ({interval(claim.difference, negated=True)} over {_hardest(scores.pooled, claim)})"
        if (claim and claim.difference)
        else ""
    )
    return Section(
        "Where the gain in tokens comes from",
        "Gain: nats per bar below the rival of tokens that was hardest on the validation. Over all bars, the "
        f"95 % interval takes days whole, because assets move together{spread}.",
        pictures=_gain_pictures(predictions, scores.split),
    )


def forecasts(scores: SplitScores, predictions: pd.DataFrame | None) -> Section:
    return Section(
        "Forecasts of the next close",
        "Each band was forecast one bar before the close that it is drawn under. Half of the closes should "
        "lie in the dark band, nine in ten in the light one.",
        pictures=(
            *calibration(scores.pooled),
            *(_fans(predictions, scores.split) if predictions is not None else ()),
        ),
    )


def calibration(group: GroupScores) -> tuple[Picture, ...]:
    """Draw the coverage of the model beside that of the rival that is hardest in CRPS."""
    crps, _ = _deciding(group)
    model, rival = group.model, group.rival(crps.hardest)
    if model.coverage_curve is None:
        return ()
    beside = None if rival.coverage_curve is None else (rival.label, np.asarray(rival.coverage_curve))
    svg = figures.coverage_curve(
        np.asarray(CURVE_LEVELS), (model.label, np.asarray(model.coverage_curve)), beside
    )
    return (Picture("Calibration", "Below the diagonal: bands too narrow. Above: too wide.", svg),)


def _gain_pictures(predictions: pd.DataFrame, split: str) -> tuple[Picture, ...]:
    gain = predictions["hardest_nats"] - predictions["nats"]
    by_time = gain.set_axis(pd.DatetimeIndex(predictions["time"])).sort_index(kind="stable")
    by_asset = gain.groupby(predictions["symbol"].astype(str)).mean()
    return (
        Picture(
            "Over time",
            f"Mean gain in each calendar period of the {split}.",
            figures.gain_over_time(by_time),
        ),
        Picture("By asset", f"Mean gain on each asset's {split} bars.", figures.gain_by_asset(by_asset)),
    )


def _fans(predictions: pd.DataFrame, split: str) -> tuple[Picture, ...]:
    """Draw the last bars of a few assets, taking the categories in turn."""
    pictures = []
    for symbol in _chosen(predictions):
        bars = predictions[predictions["symbol"] == symbol].sort_values("time", kind="stable")
        drawn = bars.tail(_BARS_PER_FAN)
        is_inside = (drawn["realised_return"] >= drawn["q05"]) & (drawn["realised_return"] <= drawn["q95"])
        caption = (
            f"{drawn['category'].iloc[0]}; the last {len(drawn)} {split} bars, "
            f"{percent(is_inside.mean(), 0)} % of them inside the 90 % band."
        )
        pictures.append(Picture(symbol, caption, figures.forecast_fan(symbol, drawn)))
    return tuple(pictures)


def _token_pictures(tokenizer: Tokenizer) -> tuple[Picture, ...]:
    """Draw a few tokens across the vocabulary, evenly spaced by how often training bars fall on them."""
    by_return = np.argsort(tokenizer.close_return_z, kind="stable")
    share = np.cumsum(np.exp(tokenizer.log_unigram[by_return].astype(np.float64)))
    levels = (np.arange(_NUM_TOKENS) + 0.5) / _NUM_TOKENS
    chosen = by_return[np.minimum(np.searchsorted(share, levels), len(share) - 1)]
    candles = to_candles(tokenizer.decode(chosen), np.ones(len(chosen)), np.ones(len(chosen)))
    prices = np.log(np.stack([candles[name] for name in ("open", "high", "low", "close")], axis=1))
    caption = f"{len(chosen)} of {tokenizer.vocab_size:,} tokens from falls to rises, spread as bars are."
    return (Picture("What tokens stand for", caption, figures.token_candles(list(chosen), prices)),)


def _chosen(predictions: pd.DataFrame) -> list[str]:
    """Return assets in the universe's order, categories in turn; those with a short history are left out."""
    first = predictions[["symbol", "category"]].drop_duplicates().sort_values("symbol", kind="stable")
    first = first.astype(str).set_index("symbol")
    num_bars = predictions["symbol"].astype(str).value_counts()
    first = first[num_bars.reindex(first.index) >= num_bars.max() / 2]
    turn = first.groupby("category", sort=False).cumcount()
    return [str(symbol) for symbol in turn.sort_values(kind="stable").index[:_NUM_FANS]]
