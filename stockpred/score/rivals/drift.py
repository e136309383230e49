"""The asset's mean training return, whatever the day; its category's where the asset has too few bars."""

from __future__ import annotations

from stockpred.data.splits import Split
from stockpred.score.distributions import PointMass
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "Mean training return"
KIND = Kind.POINT


def forecast(history: History) -> RivalForecast:
    expected = history.usual(history.change)[history.asset]
    settings = {"mean_of_all": float(history.change[history.targets(Split.TRAIN)].mean())}
    return RivalForecast(expected_return=expected, distribution=PointMass(expected), settings=settings)
