"""The tables of a regressor's test: model and rivals on prices and on returns, and how inputs were scaled."""

from __future__ import annotations

from typing import Any

from stockpred.report.elements import Cell, Line, Table, heads, line
from stockpred.report.format import direction, figure, number, p_value
from stockpred.score.metrics import Estimate
from stockpred.tasks.forecast.report_verdict import in_percent
from stockpred.tasks.forecast.results import RegressionResults, Scores


def on_prices(results: RegressionResults) -> Table:
    """Lay out every forecaster that names a price."""
    rows = [row for row in (results.model, *results.rivals) if row.mse_price is not None]
    columns = heads("prices", "MSE", "MAE", "R\u00b2", "skill, %", "DM p")
    return Table(columns, tuple(_price_line(row, is_ours=row is results.model) for row in rows))


def on_returns(results: RegressionResults) -> Table:
    """Lay out every forecaster: returns in percent, and the direction."""
    rows = (results.model, *results.rivals)
    columns = heads("returns", "MSE, %\u00b2", "MAE, %", "R\u00b2", "skill, %", "direction, %")
    return Table(columns, tuple(_return_line(row, is_ours=row is results.model) for row in rows))


def scaling(norm_stats: dict[str, Any]) -> Table:
    """Tell mean and scale of each input and of the target, as fitted on training dates."""
    columns = heads("standardised by", "mean", "scale", words=("standardised by",))
    features = norm_stats.get("features")
    told = dict(features) if isinstance(features, dict) else {}
    target = norm_stats.get("target")
    if isinstance(target, dict):
        told[f"target: {target.get('of', 'next close')}"] = target
    rows = [
        line([str(name), f"{fitted['mean']:.6g}", f"{fitted['scale']:.6g}"])
        for name, fitted in told.items()
        if isinstance(fitted, dict) and {"mean", "scale"} <= fitted.keys()
    ]
    return Table(columns, tuple(rows))


def skill_cell(value: float | None, interval: Estimate | None) -> Cell:
    """Return a skill in percent, its interval beside it."""
    return Cell(number(None if value is None else 100 * value, 2), in_percent(interval))


def _price_line(scores: Scores, *, is_ours: bool) -> Line:
    return line(
        [
            scores.label,
            figure(scores.mse_price),
            figure(scores.mae_price),
            number(scores.r2_price, 4),
            skill_cell(scores.skill, scores.skill_interval),
            p_value(scores.versus_persistence),
        ],
        is_ours=is_ours,
    )


def _return_line(scores: Scores, *, is_ours: bool) -> Line:
    return line(
        [
            scores.label,
            figure(None if scores.mse_return is None else 1e4 * scores.mse_return),
            figure(None if scores.mae_return is None else 100 * scores.mae_return),
            number(scores.r2_return, 4),
            skill_cell(scores.skill_return, scores.skill_return_interval),
            direction(scores.direction),
        ],
        is_ours=is_ours,
    )
