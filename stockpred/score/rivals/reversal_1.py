"""Yesterday's losers rise: the last return with its sign turned (Jegadeesh 1990)."""

from __future__ import annotations

from stockpred.score import trend
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "1-bar reversal"
KIND = Kind.CROSS_SECTION


def forecast(history: History) -> RivalForecast:
    return RivalForecast(signal=-trend.growth(history, 1))
