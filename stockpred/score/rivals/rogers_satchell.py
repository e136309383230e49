"""The range of past bars (Rogers and Satchell 1991), smoothed, times the shape of training returns.

Unlike that of Garman and Klass it does not take a trend within the bar for variance.
"""

from __future__ import annotations

from stockpred.score import ranges, volatility
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "Rogers-Satchell range, training shape"
KIND = Kind.DISTRIBUTION


def forecast(history: History) -> RivalForecast:
    decay, distribution = volatility.smoothed(history, ranges.rogers_satchell(history))
    return RivalForecast(
        expected_return=distribution.mean(), distribution=distribution, settings={"decay": decay}
    )
