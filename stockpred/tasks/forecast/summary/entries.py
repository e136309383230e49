"""The rows of a forecast summary: each asset's models, then persistence, drift and always-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stockpred.report.summary import correction
from stockpred.report.summary.correction import LEVEL, corrected_p_values
from stockpred.report.summary.gather import Gathered, TestedRun
from stockpred.report.summary.task_part import CsvTable
from stockpred.score.inference import Estimate
from stockpred.tasks.forecast.results import UNDECIDED, ForecastResults, ForecastScores

_RIVALS = ("persistence", "drift", "always_up")
_COLUMNS = (
    *("symbol", "forecaster", "settings", "run_id", "num_bars", "first_time", "last_time"),
    *("mse_price", "mae_price", "r2_price", "mse_return", "mae_return", "r2_return"),
    *("skill", "skill_low", "skill_high", "dm_p", "direction", "direction_low", "direction_high"),
)


@dataclass(frozen=True, eq=False)
class Entry:
    """A forecaster on one asset; ``run`` is None for a rival.

    ``holm_p`` is the Diebold-Mariano p value of a model, corrected for all runs that were tested on the same
    bars, those too that newer ones have replaced; None where nothing could be compared.
    """

    results: ForecastResults
    scores: ForecastScores
    run: TestedRun[ForecastResults] | None
    holm_p: float | None = None

    @property
    def is_model(self) -> bool:
        return self.run is not None

    @property
    def label(self) -> str:
        return self.run.label if self.run else self.scores.label

    @property
    def name(self) -> str:
        return f"{self.results.symbol} {self.label}"

    @property
    def corrected_skill(self) -> str:
        """Return BETTER or WORSE where the model's interval says so and Holm's correction leaves it."""
        stands = self.holm_p is not None and self.holm_p < LEVEL
        return self.scores.skill_in_words if stands else UNDECIDED


def of(gathered: Gathered[ForecastResults]) -> tuple[Entry, ...]:
    """Return all rows, asset by asset."""
    holm = corrected_p_values(compared(gathered), _versus_persistence)
    rows: list[Entry] = []
    for asset in gathered.subjects:
        rows += [Entry(run.results, run.results.model, run, holm.get(run.paths.root)) for run in asset.runs]
        newest = asset.newest.results
        rows += [Entry(newest, newest.rival(name), None) for name in _RIVALS]
    return tuple(rows)


def compared(gathered: Gathered[ForecastResults]) -> tuple[TestedRun[ForecastResults], ...]:
    """Return every run that was tested against persistence, those too that newer ones have replaced."""
    return correction.compared(gathered, _versus_persistence)


def _versus_persistence(results: ForecastResults) -> Estimate | None:
    return results.model.versus_persistence


def to_csv(entries: Sequence[Entry]) -> CsvTable:
    """Return a row for each entry in full precision."""
    return CsvTable(_COLUMNS, tuple(_cells(entry) for entry in entries))


def _cells(entry: Entry) -> tuple[object, ...]:
    results, scores = entry.results, entry.scores
    interval, versus, direction = scores.skill_interval, scores.versus_persistence, scores.direction
    return (
        results.symbol,
        scores.name,
        " ".join(entry.run.settings) if entry.run else None,
        entry.run.paths.run_id if entry.run else None,
        results.num_bars,
        results.first_time,
        results.last_time,
        scores.mse_price,
        scores.mae_price,
        scores.r2_price,
        scores.mse_return,
        scores.mae_return,
        scores.r2_return,
        scores.skill,
        *((interval.low, interval.high) if interval else (None, None)),
        versus.p_value if versus else None,
        *((direction.share, direction.low, direction.high) if direction else (None, None, None)),
    )
