"""The next close is the last close: a return of zero."""

from __future__ import annotations

import numpy as np

from stockpred.score.distributions import PointMass
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "Last value"
KIND = Kind.POINT


def forecast(history: History) -> RivalForecast:
    zero = np.zeros(len(history.asset))
    return RivalForecast(expected_return=zero, distribution=PointMass(zero))
