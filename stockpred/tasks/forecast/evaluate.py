"""Score forecasts of the next close once on the test bars, beside the simple rivals.

Axis: M scored bars of one asset. Returns are simple: price / previous close - 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.data.times import day_numbers, iso_date
from stockpred.score import inference, metrics
from stockpred.score.metrics import EvaluatedModel, Floats, Integers
from stockpred.tasks.forecast import results as results_file
from stockpred.tasks.forecast.results import ForecastResults, ForecastScores
from stockpred.train.checkpoint import CheckLease, without_lease


@dataclass(frozen=True)
class Forecasts:
    """The forecast of each test bar's close and the close itself; ``time`` in ns since 1970, UTC."""

    symbol: str
    category: str
    time: Integers
    previous_close: Floats
    close: Floats
    forecast: Floats

    @property
    def realised_return(self) -> Floats:
        return self.close / self.previous_close - 1.0

    @property
    def forecast_return(self) -> Floats:
        return self.forecast / self.previous_close - 1.0

    @property
    def date(self) -> Integers:
        return day_numbers(self.time)


def evaluate_test(
    forecasts: Forecasts,
    *,
    drift: float,
    paths: RunPaths,
    evaluated: EvaluatedModel,
    check_lease: CheckLease = without_lease,
) -> ForecastResults:
    """Score the test split; write ``predictions.parquet`` and ``test_results.json``; return the results.

    ``drift`` is the mean simple return of the training targets. ``check_lease`` is called before each write
    and raises when this attempt no longer owns the run. Raises UserError where there is nothing to score, and
    for a model that forecasts NaN or infinity.
    """
    ordered = _ordered(forecasts)
    _require_numbers(ordered, evaluated.model)
    found = score(ordered, drift=drift, evaluated=evaluated)
    table = prediction_table(ordered).to_parquet(index=False, compression="zstd")
    check_lease()
    records.write_bytes(paths.predictions, table)
    check_lease()
    results_file.write(paths.test_results, found)
    return found


def score(forecasts: Forecasts, *, drift: float, evaluated: EvaluatedModel) -> ForecastResults:
    """Score the model, persistence, drift and always-up on the same bars."""
    previous = forecasts.previous_close
    return ForecastResults(
        evaluated=evaluated,
        symbol=forecasts.symbol,
        category=forecasts.category,
        num_bars=len(forecasts.time),
        num_dates=len(np.unique(forecasts.date)),
        first_time=iso_date(forecasts.time[0]),
        last_time=iso_date(forecasts.time[-1]),
        drift=drift,
        model=_row(evaluated.model, evaluated.model, forecasts),
        rivals=(
            _row("persistence", "persistence", replace(forecasts, forecast=previous)),
            _row("drift", "drift", replace(forecasts, forecast=previous * (1.0 + drift))),
            _always_up(forecasts),
        ),
    )


def prediction_table(forecasts: Forecasts) -> pd.DataFrame:
    """Return one row per scored bar: the forecast of its close and the close itself."""
    num_bars = len(forecasts.time)
    return pd.DataFrame(
        {
            "symbol": pd.Categorical([forecasts.symbol] * num_bars),
            "category": pd.Categorical([forecasts.category] * num_bars),
            "time": pd.to_datetime(forecasts.time, unit="ns", utc=True),
            "previous_close": forecasts.previous_close,
            "close": forecasts.close,
            "forecast": forecasts.forecast,
            "forecast_return": forecasts.forecast_return,
            "realised_return": forecasts.realised_return,
        }
    )


def _row(name: str, label: str, forecasts: Forecasts) -> ForecastScores:
    price_error = forecasts.forecast - forecasts.close
    persistence_error = forecasts.previous_close - forecasts.close
    predicted, realised = forecasts.forecast_return, forecasts.realised_return
    squared, reference, date = price_error**2, persistence_error**2, forecasts.date
    squared_return = (predicted - realised) ** 2
    is_persistence = bool((price_error == persistence_error).all())
    return ForecastScores(
        name=name,
        label=label,
        mse_price=float(squared.mean()),
        mae_price=float(np.abs(price_error).mean()),
        r2_price=metrics.r_squared(forecasts.forecast, forecasts.close),
        mse_return=float(squared_return.mean()),
        mae_return=float(np.abs(predicted - realised).mean()),
        r2_return=metrics.r_squared(predicted, realised),
        skill=metrics.skill(squared, reference),
        skill_interval=None if is_persistence else inference.skill_interval(squared, reference, date),
        versus_persistence=None if is_persistence else inference.diebold_mariano(squared, reference, date),
        skill_return=metrics.skill(squared_return, realised**2),
        skill_return_interval=None
        if is_persistence
        else inference.skill_interval(squared_return, realised**2, date),
        direction=inference.direction_accuracy(predicted, realised, date),
    )


def _always_up(forecasts: Forecasts) -> ForecastScores:
    """Score the forecast of a rise, which names no price."""
    up = np.ones(len(forecasts.time))
    return ForecastScores(
        name="always_up",
        label="always-up",
        mse_price=None,
        mae_price=None,
        r2_price=None,
        mse_return=None,
        mae_return=None,
        r2_return=None,
        skill=None,
        skill_interval=None,
        versus_persistence=None,
        skill_return=None,
        skill_return_interval=None,
        direction=inference.direction_accuracy(up, forecasts.realised_return, forecasts.date),
    )


def _ordered(forecasts: Forecasts) -> Forecasts:
    """Return the rows by time; refuse no rows, arrays of different lengths, and a bar that is there twice."""
    columns = {name: getattr(forecasts, name) for name in ("time", "previous_close", "close", "forecast")}
    shapes = {name: array.shape for name, array in columns.items()}
    if set(shapes.values()) != {(len(forecasts.time),)}:
        raise RuntimeError(f"forecasts need four arrays of one length, but have {shapes}")
    if not len(forecasts.time):
        raise UserError(
            "the test period has no bar to score",
            fix="take bars over a longer time, or other dates",
        )
    order = np.argsort(forecasts.time, kind="stable")
    if not (np.diff(forecasts.time[order]) > 0).all():
        raise RuntimeError("a test bar is forecast twice: each must be scored exactly once")
    return replace(forecasts, **{name: array[order] for name, array in columns.items()})


def _require_numbers(forecasts: Forecasts, model: str) -> None:
    wrong = ~np.isfinite(forecasts.forecast)
    if wrong.any():
        raise UserError(
            f"{model} forecasts no number for {wrong.sum():,} of {len(wrong):,} test bars",
            fix="lower training.lr, or scale the inputs (series.inputs=changes)",
        )
