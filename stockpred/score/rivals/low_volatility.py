"""Calm assets return more: the volatility of 20 bars with its sign turned (Ang et al. 2006)."""

from __future__ import annotations

import numpy as np

from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "Low volatility, 20 bars"
KIND = Kind.CROSS_SECTION
WINDOW = 20


def forecast(history: History) -> RivalForecast:
    """Take the sample deviation of as many returns as there are; with fewer than two, the usual one."""
    recent = history.lagged_deviation(history.change, WINDOW)
    usual = np.sqrt(history.usual(history.change**2))[history.asset]
    return RivalForecast(signal=-np.where(np.isfinite(recent), recent, usual))
