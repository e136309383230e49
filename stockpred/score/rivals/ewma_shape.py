"""Exponentially weighted volatility times the shape that training returns have in its units.

Filtered historical simulation (Barone-Adesi, Giannopoulos and Vosper 1999) with an EWMA as the filter.
"""

from __future__ import annotations

from stockpred.score import volatility
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast
from stockpred.score.volatility import DECAYS

LABEL = "EWMA volatility, training shape"
KIND = Kind.DISTRIBUTION


def forecast(history: History) -> RivalForecast:
    decay, distribution = volatility.best_on_validation(
        history,
        DECAYS,
        lambda decay: volatility.times_training_shape(history, volatility.ewma(history, decay)),
    )
    return RivalForecast(
        expected_return=distribution.mean(), distribution=distribution, settings={"decay": decay}
    )
