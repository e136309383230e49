"""The forecast task's part of a summary: each asset's models beside persistence, drift and always-up."""

from __future__ import annotations

from pathlib import Path

from stockpred.report.runfiles import RunFiles
from stockpred.report.summary.gather import Gathered, Reader, same_errors
from stockpred.report.summary.task_part import TaskPart, TaskSummary
from stockpred.tasks.forecast import results as results_file
from stockpred.tasks.forecast.report import read_predictions
from stockpred.tasks.forecast.results import ForecastResults
from stockpred.tasks.forecast.summary import entries, headline, page, terminal


def summarise(gathered: Gathered[ForecastResults], folder: Path) -> TaskSummary:
    """Return the summary of runs; links to reports are relative to ``folder``."""
    rows = entries.of(gathered)
    return TaskSummary(
        headline=headline.headline(gathered, rows),
        cautions=tuple(headline.cautions(rows)),
        table=terminal.table(rows),
        csv=entries.to_csv(rows),
        tiles=tuple(page.tiles(rows)),
        sections=page.sections(gathered, rows, folder),
    )


def _asset(files: RunFiles, results: ForecastResults | None) -> str:
    return results.symbol if results else files.setting("data", "symbol") or "unknown asset"


def _same_bars(one: ForecastResults, other: ForecastResults) -> bool:
    """Say whether persistence, which knows nothing but the bars, did the same in both."""
    if _period(one) != _period(other):
        return False
    first, second = one.rival("persistence"), other.rival("persistence")
    return same_errors((first.mse_price, first.mae_price), (second.mse_price, second.mae_price))


def _period(results: ForecastResults) -> tuple[int, str, str]:
    return results.num_bars, results.first_time, results.last_time


PART = TaskPart(
    Reader(
        results=results_file.read,
        predictions=read_predictions,
        subject=_asset,
        same_bars=_same_bars,
        column_settings=("data.symbol",),
    ),
    summarise,
)
