"""The forecast task's part of a run's report: the next close of one asset, beside doing nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from hpc.base import records
from stockpred.config.forecast import ForecastExperiment
from stockpred.report.elements import (
    Cell,
    Headline,
    Picture,
    Section,
    Table,
    TableRow,
    Tile,
    heads,
    table_row,
)
from stockpred.report.format import (
    number,
    p_value,
    parameter_count,
    percent,
    percent_interval,
    sentence,
    share_cell,
    signed,
    significant,
    with_sign,
)
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import TaskReport, TestedPart, read_or_note
from stockpred.score.inference import Estimate
from stockpred.tasks.forecast import results as results_file
from stockpred.tasks.forecast.figures import forecast_and_errors
from stockpred.tasks.forecast.results import BETTER, UNDECIDED, WORSE, ForecastResults, ForecastScores

PREDICTIONS = ("time", "previous_close", "close", "forecast")
"""The columns of ``predictions.parquet`` that are drawn."""
MOST_BARS_DRAWN = 1000
HOW_TO_LOOK = (
    "That forecasts follow the closes is no sign of skill: so does the last close. What counts is "
    "whether the blue dots lie nearer to zero than the ends of the pale lines."
)
_SKILL_CLAIMS = {
    BETTER: "beats the last close",
    WORSE: "is worse than the last close",
    UNDECIDED: "has no skill against the last close that can be told from zero",
}


def read(files: RunFiles) -> TaskReport:
    """Make the task's report from the run's results, predictions and scaling."""
    notes: list[str] = []
    results = read_or_note(files.paths.test_results, results_file.read, notes)
    predictions = read_or_note(files.paths.predictions, read_predictions, notes)
    return TaskReport(
        tested=_tested(files, results, predictions) if results else None,
        model_facts=tuple(_model_facts(files)),
        data_tables=(_scaling(records.read_json_if_any(files.paths.norm_stats) or {}),),
        notes=tuple(notes),
    )


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the drawn columns of a run's predictions, oldest bar first."""
    return pd.read_parquet(path, columns=list(PREDICTIONS)).sort_values("time", kind="stable")


def headline(results: ForecastResults, *, is_synthetic: bool) -> Headline:
    """Say whether the model forecasts the next close better than the last close does."""
    evaluated, model = results.evaluated, results.model
    test = f"{results.num_bars:,} {'synthetic ' if is_synthetic else ''}test {results.bars}"
    text = (
        f"On {test} of {results.symbol}, {evaluated.model} with {parameter_count(evaluated.num_parameters)} "
        f"parameters {_SKILL_CLAIMS[model.skill_in_words]}: "
        f"{skill_text(model.skill, model.skill_interval)}."
    )
    details = (
        f"Scored once on the {results.bars} from {results.first_time} to {results.last_time}, which neither "
        "training nor the choice of the best step has seen.",
        "Skill is 1 \u2212 MSE / MSE of the last close: 0\u00a0% is what doing nothing gives, 100\u00a0% is "
        "perfect.",
        *_about_drift(results),
        *_about_direction(results),
    )
    return Headline(text, details, model.skill_in_words == BETTER)


def skill_text(value: float | None, interval: Estimate | None) -> str:
    """Return a skill in percent with its interval."""
    if value is None:
        return "the last close is never off, so there is nothing to win"
    text = f"skill {percent(value, 2)}\u00a0%"
    return f"{text} (95\u00a0% interval {percent_interval(interval)}\u00a0%)" if interval else text


def skill_cell(value: float | None, interval: Estimate | None) -> Cell:
    """Return a skill in percent, its interval beside it."""
    return Cell(percent(value, 2), percent_interval(interval))


def legend(model: str) -> str:
    """Say what the two panels of ``picture`` show."""
    return (
        f"Above, each close on the forecast that {model} made one bar before. Below, how far {model} was off "
        "(dots), beside how far the last close was off (lines)."
    )


def picture(results: ForecastResults, predictions: pd.DataFrame, *, title: str, caption: str) -> Picture:
    """Draw the forecasts of the test period, of a long one the last bars; predictions oldest first."""
    model = results.evaluated.model
    name = f"test-{results.symbol.encode().hex()}-{model.encode().hex()}"
    drawn = predictions.tail(MOST_BARS_DRAWN)
    return Picture(title, caption, forecast_and_errors(name, model, results.symbol, drawn))


def _tested(files: RunFiles, results: ForecastResults, predictions: pd.DataFrame | None) -> TestedPart:
    return TestedPart(
        results.evaluated,
        headline(results, is_synthetic=files.is_synthetic),
        tuple(_tiles(results)),
        (_comparison(results), *((_forecasts(results, predictions),) if predictions is not None else ())),
    )


def _model_facts(files: RunFiles) -> Iterator[tuple[str, str]]:
    if isinstance(files.experiment, ForecastExperiment):
        yield "inputs", files.experiment.series.inputs


def _about_drift(results: ForecastResults) -> tuple[str, ...]:
    """Name the skill of the mean training return: a model may have learnt no more than that."""
    drift = results.rival("drift")
    if drift.skill is None:
        return ()
    skill = skill_text(drift.skill, drift.skill_interval)
    return (f"The mean training return alone, added to each last close, has {skill}.",)


def _about_direction(results: ForecastResults) -> tuple[str, ...]:
    model, always_up = results.model.direction, results.rival("always_up").direction
    if model is None or always_up is None:
        return ()
    ends = percent_interval(model, 1)
    spread = f" (95\u00a0% interval {ends}\u00a0%)" if ends else ""
    return (
        f"Direction: right on {percent(model.share)}\u00a0% of the {results.bars} that moved{spread}; always "
        f"saying up is right on {percent(always_up.share)}\u00a0%.",
    )


def _tiles(results: ForecastResults) -> Iterator[Tile]:
    model, still, up = results.model, results.rival("persistence"), results.rival("always_up").direction
    if model.skill is not None:
        interval = model.skill_interval
        context = f"95 % interval {percent_interval(interval)}\u00a0%" if interval else ""
        yield Tile("Skill against the last close", f"{with_sign(100 * model.skill, 2)} %", context)
    still_mse = significant(still.mse_price)
    yield Tile("MSE of the next close", significant(model.mse_price), f"last close {still_mse}")
    yield Tile("R\u00b2 on returns", number(model.r2_return, 4), f"last close {number(still.r2_return, 4)}")
    if model.direction:
        beside = f"; always-up {percent(up.share)}\u00a0%" if up else ""
        context = f"of {model.direction.num_trials:,} {results.bars}{beside}"
        yield Tile("Direction right", f"{percent(model.direction.share)} %", context)


def _comparison(results: ForecastResults) -> Section:
    """Lay out the model and its rivals, all on the same bars: once on prices, once on returns."""
    bars = results.bars
    return Section(
        "Model and rivals",
        f"Every row is scored on the same {results.num_bars:,} {bars}. Skill: 1 \u2212 MSE / MSE of "
        "persistence, with its 95 % interval; DM p: Diebold-Mariano test of the squared errors against "
        "persistence; both with Newey-West errors by date. R\u00b2 is against the mean of the scored "
        "outcomes. Direction: right signs of the forecast return with the 95 % interval; "
        f"{bars} on which the close did not move, and forecasts of exactly no move, are left out.",
        tables=(_on_prices(results), _on_returns(results)),
        remarks=(
            _r2_remark(results),
            "Persistence repeats the last close. Drift adds the mean return of the training period, "
            f"{percent(results.drift, 3)} % per bar. Always-up says only that the close will rise.",
        ),
    )


def _r2_remark(results: ForecastResults) -> str:
    """Say what R2 on prices is worth: it is high for whoever repeats the last close."""
    still = results.rival("persistence").r2_price
    value = "is not defined here" if still is None else f"is {signed(still, 4)} here for doing nothing"
    return (
        f"R\u00b2 on prices {value}: the last close alone is that close to the next one. A high R\u00b2 on "
        "prices is therefore no achievement; R\u00b2 on returns and the skill tell more."
    )


def _on_prices(results: ForecastResults) -> Table:
    """Lay out every forecaster that names a price."""
    rows = [row for row in (results.model, *results.rivals) if row.mse_price is not None]
    columns = heads("prices", "MSE", "MAE", "R\u00b2", "skill, %", "DM p")
    return Table(columns, tuple(_price_row(row, is_model=row is results.model) for row in rows))


def _price_row(scores: ForecastScores, *, is_model: bool) -> TableRow:
    return table_row(
        [
            scores.label,
            significant(scores.mse_price),
            significant(scores.mae_price),
            number(scores.r2_price, 4),
            skill_cell(scores.skill, scores.skill_interval),
            p_value(scores.versus_persistence),
        ],
        is_model=is_model,
    )


def _on_returns(results: ForecastResults) -> Table:
    """Lay out every forecaster: returns in percent, and the direction."""
    rows = (results.model, *results.rivals)
    columns = heads("returns", "MSE, %\u00b2", "MAE, %", "R\u00b2", "skill, %", "direction, %")
    return Table(columns, tuple(_return_row(row, is_model=row is results.model) for row in rows))


def _return_row(scores: ForecastScores, *, is_model: bool) -> TableRow:
    return table_row(
        [
            scores.label,
            significant(None if scores.mse_return is None else 1e4 * scores.mse_return),
            significant(None if scores.mae_return is None else 100 * scores.mae_return),
            number(scores.r2_return, 4),
            skill_cell(scores.skill_return, scores.skill_return_interval),
            share_cell(scores.direction),
        ],
        is_model=is_model,
    )


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


def _forecasts(results: ForecastResults, predictions: pd.DataFrame) -> Section:
    reach = "all" if len(predictions) <= MOST_BARS_DRAWN else f"the last {MOST_BARS_DRAWN:,} of"
    shown = sentence(f"{reach} {len(predictions):,} test {results.bars}")
    caption = f"{shown} {legend(results.evaluated.model)}"
    return Section(
        "Forecasts of the next close",
        HOW_TO_LOOK,
        pictures=(picture(results, predictions, title=results.symbol, caption=caption),),
    )
