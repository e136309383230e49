"""A normal distribution around zero as wide as the last 20 returns were."""

from __future__ import annotations

import numpy as np

from stockpred.score import volatility
from stockpred.score.distributions import Normal
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "20-day volatility, normal"
KIND = Kind.DISTRIBUTION
WINDOW = 20


def forecast(history: History) -> RivalForecast:
    """Take the sample standard deviation; before there are 20 returns, the asset's usual volatility."""
    recent = history.lagged_deviation(history.change, WINDOW, min_known=WINDOW)
    usual = np.sqrt(history.usual(history.change**2))[history.asset]
    deviation = volatility.floored(history, np.where(np.isfinite(recent), recent, usual))
    return RivalForecast(distribution=Normal.around_zero(deviation))
