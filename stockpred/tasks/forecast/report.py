"""The report's chapter for learner regression: the next close of one asset, beside doing nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hpc.base import records
from stockpred.config.forecast import ForecastExperiment
from stockpred.report.elements import Picture, Section, Tile
from stockpred.report.format import figure, number, percent, plus, sentence, signed
from stockpred.report.runfiles import RunFiles
from stockpred.report.task_part import Chapter, Tested, read_or_note
from stockpred.tasks.forecast import report_tables
from stockpred.tasks.forecast import results as results_file
from stockpred.tasks.forecast.figures import forecast_and_errors
from stockpred.tasks.forecast.report_verdict import in_percent, r2_remark, verdict
from stockpred.tasks.forecast.results import RegressionResults

PREDICTIONS = ("time", "previous_close", "close", "forecast")
"""The columns of ``predictions.parquet`` that are drawn."""
MOST_BARS_DRAWN = 1000
HOW_TO_LOOK = (
    "That forecasts follow the closes is no sign of skill: so does the last close. What counts is "
    "whether the blue dots lie nearer to zero than the ends of the pale lines."
)


def read(files: RunFiles) -> Chapter:
    """Make the chapter from the run's results, predictions and scaling."""
    notes: list[str] = []
    results = read_or_note(files.paths.test_results, results_file.read, notes)
    predictions = read_or_note(files.paths.predictions, read_predictions, notes)
    return Chapter(
        tested=_tested(files, results, predictions) if results else None,
        model_facts=tuple(_model_facts(files)),
        data_tables=(report_tables.scaling(records.read_json_if_any(files.paths.norm_stats) or {}),),
        notes=tuple(notes),
    )


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the drawn columns of a run's predictions, oldest bar first."""
    return pd.read_parquet(path, columns=list(PREDICTIONS)).sort_values("time", kind="stable")


def legend(model: str) -> str:
    """Say what the two panels of ``picture`` show."""
    return (
        f"Above, each close on the forecast that {model} made one bar before. Below, how far {model} was off "
        "(dots), beside how far the last close was off (lines)."
    )


def picture(results: RegressionResults, predictions: pd.DataFrame, *, title: str, caption: str) -> Picture:
    """Draw the forecasts of the test period, of a long one the last bars; predictions oldest first."""
    model = results.evaluated.model
    name = f"test-{results.symbol.encode().hex()}-{model.encode().hex()}"
    drawn = predictions.tail(MOST_BARS_DRAWN)
    return Picture(title, caption, forecast_and_errors(name, model, results.symbol, drawn))


def _tested(files: RunFiles, results: RegressionResults, predictions: pd.DataFrame | None) -> Tested:
    return Tested(
        results.evaluated,
        verdict(results, is_synthetic=files.is_synthetic),
        tuple(_tiles(results)),
        (_comparison(results), *((_forecasts(results, predictions),) if predictions is not None else ())),
    )


def _tiles(results: RegressionResults) -> Iterator[Tile]:
    model, still, up = results.model, results.rival("persistence"), results.rival("always_up").direction
    if model.skill is not None:
        context = f"95 % interval {in_percent(model.skill_interval)}\u00a0%" if model.skill_interval else ""
        yield Tile("Skill against the last close", f"{plus(100 * model.skill, 2)} %", context)
    yield Tile("MSE of the next close", figure(model.mse_price), f"last close {figure(still.mse_price)}")
    yield Tile("R\u00b2 on returns", number(model.r2_return, 4), f"last close {number(still.r2_return, 4)}")
    if model.direction:
        beside = f"; always-up {percent(up.share)}\u00a0%" if up else ""
        context = f"of {model.direction.num_trials:,} {results.bars}{beside}"
        yield Tile("Direction right", f"{percent(model.direction.share)} %", context)


def _comparison(results: RegressionResults) -> Section:
    """Lay out the model and its rivals, all on the same bars: once on prices, once on returns."""
    bars = results.bars
    return Section(
        "Model and rivals",
        f"Every row is scored on the same {results.num_bars:,} {bars}. Skill: 1 \u2212 MSE / MSE of "
        "persistence, with its 95 % interval; DM p: Diebold-Mariano test of the squared errors against "
        "persistence; both with Newey-West errors by date. R\u00b2 is against the mean of the scored "
        "outcomes. Direction: right signs of the forecast return with the 95 % interval; "
        f"{bars} on which the close did not move, and forecasts of exactly no move, are left out.",
        tables=(report_tables.on_prices(results), report_tables.on_returns(results)),
        remarks=(
            r2_remark(results),
            "Persistence repeats the last close. Drift adds the mean return of the training period, "
            f"{signed(100 * results.drift, 3)} % per bar. Always-up says only that the close will rise.",
        ),
    )


def _forecasts(results: RegressionResults, predictions: pd.DataFrame) -> Section:
    reach = "all" if len(predictions) <= MOST_BARS_DRAWN else f"the last {MOST_BARS_DRAWN:,} of"
    shown = sentence(f"{reach} {len(predictions):,} test {results.bars}")
    caption = f"{shown} {legend(results.evaluated.model)}"
    return Section(
        "Forecasts of the next close",
        HOW_TO_LOOK,
        figures=(picture(results, predictions, title=results.symbol, caption=caption),),
    )


def _model_facts(files: RunFiles) -> Iterator[tuple[str, str]]:
    if isinstance(files.experiment, ForecastExperiment):
        yield "inputs", files.experiment.series.inputs
