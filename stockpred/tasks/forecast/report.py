"""The forecast task's part of a run's report: the next close of one asset, beside doing nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from hpc.base import records
from stockpred.config.forecast import ForecastExperiment
from stockpred.report import scores as report_scores
from stockpred.report.elements import Headline, Picture, Section, Table, Tile, heads, table_row
from stockpred.report.format import (
    number,
    parameter_count,
    percent,
    percent_interval,
    sentence,
    signed,
    significant,
    with_sign,
)
from stockpred.report.runfiles import RunFiles
from stockpred.report.scores import Scored
from stockpred.report.task_part import TaskReport, TestedPart, read_or_note
from stockpred.score.claims import Claim, Verdict
from stockpred.score.compare import SQUARED_ERROR
from stockpred.score.results import ForecasterScores, GroupScores, SplitScores
from stockpred.tasks.forecast.figures import forecast_and_errors

PREDICTIONS = ("symbol", "time", "split", "previous_close", "expected_return", "realised_return")
"""The columns of ``predictions.parquet`` that are drawn."""
MOST_BARS_DRAWN = 1000
HOW_TO_LOOK = (
    "That forecasts follow the closes is no sign of skill: so does the last close. What counts is "
    "whether the blue dots lie nearer to zero than the ends of the pale lines."
)


def read(files: RunFiles) -> TaskReport:
    """Make the task's report from the run's results, predictions and scaling."""
    notes: list[str] = []
    scored = report_scores.read(files.paths, notes)
    predictions = read_or_note(files.paths.predictions, read_predictions, notes)
    return TaskReport(
        tested=_tested(files, scored, predictions) if scored.judged else None,
        model_facts=tuple(_model_facts(files)),
        data_tables=(_scaling(records.read_json_if_any(files.paths.norm_stats) or {}),),
        notes=tuple(notes),
    )


def read_predictions(path: Path) -> pd.DataFrame:
    """Return what is drawn of a run's forecasts, oldest bar first: times, closes and forecast closes."""
    table = pd.read_parquet(path, columns=list(PREDICTIONS)).sort_values("time", kind="stable")
    previous = table["previous_close"]
    return table.assign(
        close=previous * (1.0 + table["realised_return"]),
        forecast=previous * (1.0 + table["expected_return"]),
    )


def headline(
    symbol: str,
    scores: SplitScores,
    *,
    is_synthetic: bool,
    is_sealed: bool = False,
    is_first_evaluation: bool = False,
) -> Headline:
    """Say whether the model forecasts the next return better than last value and drift do."""
    evaluated, group = scores.evaluated, scores.pooled
    bars = f"{group.num_bars:,} {'synthetic ' if is_synthetic else ''}{scores.split} {bars_word(group)}"
    claim = claim_of(group)
    text = (
        f"On {bars} of {symbol}, {evaluated.model} with {parameter_count(evaluated.num_parameters)} "
        f"parameters {_in_words(claim, group)}: {skill_text(group.model)}."
    )
    details = (
        *report_scores.about_split(scores, bars_word(group), is_sealed=is_sealed),
        "Skill is 1 \u2212 MSE / MSE of the last value, on returns: 0\u00a0% is what doing nothing gives.",
        *_about_claim(claim, group),
        *_about_forecasts(group.model),
        *(_FIRST_EVALUATION if is_first_evaluation else ()),
        *_about_direction(group),
    )
    return Headline(text, details, claim.is_better)


_FIRST_EVALUATION = (
    "The best step is that of the first evaluation: on the validation dates nothing was learnt after it.",
)


def claim_of(group: GroupScores) -> Claim:
    """Return the claim that decides: squared errors of the return."""
    claim = group.claim(SQUARED_ERROR)
    assert claim is not None  # the last value and the drift are always among the rivals
    return claim


def bars_word(group: GroupScores) -> str:
    """Return what the bars are called: days, where each date has one."""
    return "days" if group.num_dates == group.num_bars else "bars"


def skill_text(model: ForecasterScores) -> str:
    """Return a skill in percent with its interval."""
    if model.skill is None:
        return "the last close is never off, so there is nothing to win"
    text = f"skill {percent(model.skill, 2)}\u00a0%"
    interval = model.skill_interval
    return f"{text} (95\u00a0% interval {percent_interval(interval)}\u00a0%)" if interval else text


def legend(model: str) -> str:
    """Say what the two panels of ``picture`` show."""
    return (
        f"Above, each close on the forecast that {model} made one bar before. Below, how far {model} was off "
        "(dots), beside how far the last close was off (lines)."
    )


def picture(symbol: str, model: str, predictions: pd.DataFrame, *, title: str, caption: str) -> Picture:
    """Draw the forecasts of a period, of a long one the last bars; predictions oldest first."""
    name = f"test-{symbol.encode().hex()}-{model.encode().hex()}"
    drawn = predictions.tail(MOST_BARS_DRAWN)
    return Picture(title, caption, forecast_and_errors(name, model, symbol, drawn))


def _tested(files: RunFiles, scored: Scored, predictions: pd.DataFrame | None) -> TestedPart:
    scores = scored.judged
    assert scores is not None
    symbol = str(files.assets[0].get("symbol")) if files.assets else "the asset"
    is_first = scores.evaluated.best_step == files.first_evaluation
    drawn = None if predictions is None else predictions[predictions["split"] == scores.split]
    return TestedPart(
        scores.evaluated,
        headline(
            symbol,
            scores,
            is_synthetic=files.is_synthetic,
            is_sealed=scored.is_sealed,
            is_first_evaluation=is_first,
        ),
        tuple(_tiles(scores.pooled)),
        (
            report_scores.claims(scored),
            report_scores.comparison(scored, _ABOUT_PRICES),
            *((_forecasts(symbol, scores, drawn),) if drawn is not None else ()),
        ),
    )


_ABOUT_PRICES = (
    "R\u00b2 on prices is high for whoever repeats the last close, so a high one is no achievement; what is "
    "claimed is decided on returns."
)


def _model_facts(files: RunFiles) -> Iterator[tuple[str, str]]:
    if isinstance(files.experiment, ForecastExperiment):
        yield "inputs", files.experiment.series.inputs


def _in_words(claim: Claim, group: GroupScores) -> str:
    """Return the verdict as the end of a sentence about the model."""
    if claim.verdict is Verdict.BETTER:
        return "forecasts the next return better than the last value and the drift do"
    hardest = group.rival(claim.hardest).label.lower()
    if claim.verdict is Verdict.WORSE:
        return f"forecasts the next return worse than a rival does (the hardest is {hardest})"
    if claim.verdict is Verdict.TOO_FEW_DATES:
        return "cannot be judged on so few dates"
    return f"has no skill that can be told from that of every rival (the hardest is {hardest})"


def _about_claim(claim: Claim, group: GroupScores) -> Iterator[str]:
    for name, found in claim.differences.items():
        if found is not None:
            yield (
                f"Against {group.rival(name).label.lower()}: squared error {with_sign(found.mean, 4)} "
                f"%\u00b2 (95\u00a0% interval {signed(found.low, 4)} to {signed(found.high, 4)}; "
                f"Diebold-Mariano p {number(found.p_value, 3)})."
            )


def _about_forecasts(model: ForecasterScores) -> Iterator[str]:
    text = report_scores.about_forecasts(model)
    if text:
        yield text


def _about_direction(group: GroupScores) -> Iterator[str]:
    model, always_up = group.model.direction, group.rival("always_up").direction
    if model is None or always_up is None:
        return
    ends = percent_interval(model, 1)
    spread = f" (95\u00a0% interval {ends}\u00a0%)" if ends else ""
    yield (
        f"Direction: right on {percent(model.share)}\u00a0% of the {bars_word(group)} that moved{spread}; "
        f"always saying up is right on {percent(always_up.share)}\u00a0%."
    )


def _tiles(group: GroupScores) -> Iterator[Tile]:
    model, claim = group.model, claim_of(group)
    if model.skill is not None:
        interval = model.skill_interval
        context = f"95 % interval {percent_interval(interval)}\u00a0%" if interval else ""
        yield Tile("Skill against the last value", f"{with_sign(100 * model.skill, 2)} %", context)
    if claim.p_value is not None:
        hardest = group.rival(claim.hardest).label.lower()
        yield Tile("p of beating every rival", number(claim.p_value, 3), f"hardest: {hardest}")
    if model.spread_bp is not None:
        yield Tile("Spread of the forecasts", f"{significant(model.spread_bp, 3)} bp", _signs(model))
    if model.direction:
        up = group.rival("always_up").direction
        beside = f"; always-up {percent(up.share)}\u00a0%" if up else ""
        context = f"of {model.direction.num_trials:,} {bars_word(group)}{beside}"
        yield Tile("Direction right", f"{percent(model.direction.share)} %", context)


def _signs(model: ForecasterScores) -> str:
    return f"always {model.always}" if model.always else "up and down"


def _scaling(norm_stats: dict[str, Any]) -> Table:
    """Lay out mean and scale of each input and of the target, as fitted on training dates."""
    columns = heads("standardised by", "mean", "scale", text_columns=("standardised by",))
    features = norm_stats.get("features")
    scaled = dict(features) if isinstance(features, dict) else {}
    target = norm_stats.get("target")
    if isinstance(target, dict):
        scaled[f"target: {target.get('of', 'next close')}"] = target
    rows = [
        table_row([str(name), f"{fitted['mean']:.6g}", f"{fitted['scale']:.6g}"])
        for name, fitted in scaled.items()
        if isinstance(fitted, dict) and {"mean", "scale"} <= fitted.keys()
    ]
    return Table(columns, tuple(rows))


def _forecasts(symbol: str, scores: SplitScores, predictions: pd.DataFrame) -> Section:
    reach = "all" if len(predictions) <= MOST_BARS_DRAWN else f"the last {MOST_BARS_DRAWN:,} of"
    shown = sentence(f"{reach} {len(predictions):,} {scores.split} {bars_word(scores.pooled)}")
    model = scores.evaluated.model
    return Section(
        "Forecasts of the next close",
        HOW_TO_LOOK,
        pictures=(picture(symbol, model, predictions, title=symbol, caption=f"{shown} {legend(model)}"),),
    )
