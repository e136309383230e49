"""The results of a forecast test as frozen data: written by the evaluation, read by report and summary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from hpc.base import records
from stockpred.score.inference import Estimate, Proportion
from stockpred.score.metrics import EvaluatedModel

BETTER, WORSE, UNDECIDED = "better", "worse", "no skill that can be told from zero"


@dataclass(frozen=True)
class ForecastScores:
    """A forecaster's row; None where it makes no such statement.

    Prices in the currency of the quotes, returns simple and in their own units (0.01 is 1 %). R2 is against
    the mean of the scored outcomes: closes for prices, returns for returns. ``skill`` is 1 - MSE /
    MSE of persistence on prices, ``skill_return`` on returns. ``versus_persistence`` is the Diebold-Mariano
    comparison of squared price errors, negative where this forecaster is better. ``direction`` is the share
    of right signs of the forecast return among bars where neither it nor the outcome is exactly zero.
    """

    name: str
    label: str
    mse_price: float | None
    mae_price: float | None
    r2_price: float | None
    mse_return: float | None
    mae_return: float | None
    r2_return: float | None
    skill: float | None
    skill_interval: Estimate | None
    versus_persistence: Estimate | None
    skill_return: float | None
    skill_return_interval: Estimate | None
    direction: Proportion | None

    @property
    def skill_in_words(self) -> str:
        """Return BETTER or WORSE only where the whole interval of the skill lies on that side of 0."""
        interval = self.skill_interval
        if interval is not None and interval.low > 0.0:
            return BETTER
        if interval is not None and interval.high < 0.0:
            return WORSE
        return UNDECIDED


@dataclass(frozen=True)
class ForecastResults:
    """The whole test of one asset; times are dates in UTC, ``drift`` the return that the rival forecasts."""

    evaluated: EvaluatedModel
    symbol: str
    category: str
    num_bars: int
    num_dates: int
    first_time: str
    last_time: str
    drift: float
    model: ForecastScores
    rivals: tuple[ForecastScores, ...]

    @property
    def skill_in_words(self) -> str:
        return self.model.skill_in_words

    @property
    def bars(self) -> str:
        """What the bars are called: days, where each date has one."""
        return "days" if self.num_dates == self.num_bars else "bars"

    def rival(self, name: str) -> ForecastScores:
        return next(rival for rival in self.rivals if rival.name == name)


_ADAPTER = TypeAdapter(ForecastResults)


def write(path: Path, results: ForecastResults) -> None:
    records.write_json(path, json.loads(_ADAPTER.dump_json(results)))


def read(path: Path) -> ForecastResults:
    return _ADAPTER.validate_json(path.read_bytes())
