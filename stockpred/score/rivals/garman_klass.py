"""The range of past bars (Garman and Klass 1980), smoothed, times the shape of training returns.

A bar's range tells its variance several times as sharply as its squared return, but not the gap before it.
"""

from __future__ import annotations

from stockpred.score import ranges, volatility
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "Garman-Klass range, training shape"
KIND = Kind.DISTRIBUTION


def forecast(history: History) -> RivalForecast:
    decay, distribution = volatility.smoothed(history, ranges.garman_klass(history))
    return RivalForecast(
        expected_return=distribution.mean(), distribution=distribution, settings={"decay": decay}
    )
