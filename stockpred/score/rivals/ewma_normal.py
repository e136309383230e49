"""A normal distribution around zero with the exponentially weighted variance of RiskMetrics (1996)."""

from __future__ import annotations

from stockpred.score import volatility
from stockpred.score.distributions import Normal
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast
from stockpred.score.volatility import RISKMETRICS_DECAY

LABEL = "EWMA volatility, normal"
KIND = Kind.DISTRIBUTION


def forecast(history: History) -> RivalForecast:
    deviation = volatility.ewma(history, RISKMETRICS_DECAY)
    return RivalForecast(distribution=Normal.around_zero(deviation), settings={"decay": RISKMETRICS_DECAY})
