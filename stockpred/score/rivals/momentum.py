"""Winners go on rising: the return of 120 bars without the last 20 (Jegadeesh and Titman 1993).

The last month is left out because it tends to turn back.
"""

from __future__ import annotations

from stockpred.score import trend
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "Momentum, 120-20 bars"
KIND = Kind.CROSS_SECTION


def forecast(history: History) -> RivalForecast:
    return RivalForecast(signal=trend.growth(history, 120) - trend.growth(history, 20))
