"""Exponentially weighted volatility times a Student-t distribution that fits the training returns."""

from __future__ import annotations

import math

import numpy as np

from stockpred.data.arrays import Floats
from stockpred.score import volatility
from stockpred.score.distributions import StudentT
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast
from stockpred.score.volatility import DECAYS

LABEL = "EWMA volatility, Student-t"
KIND = Kind.DISTRIBUTION
MIN_DEGREES, MAX_DEGREES = 1.5, 200.0
MAX_FIT_VALUES = 20_000


def forecast(history: History) -> RivalForecast:
    decay, distribution = volatility.best_on_validation(
        history, DECAYS, lambda decay: _forecast(history, decay)
    )
    degrees, width = fit(volatility.standardised(history, volatility.ewma(history, decay)))
    settings = {"decay": decay, "degrees": degrees, "scale": width}
    return RivalForecast(distribution=distribution, settings=settings)


def fit(z: Floats) -> tuple[float, float]:
    """Return degrees of freedom and scale of the likeliest Student-t around zero.

    Of many values evenly spaced order statistics stand for all. Degrees stay between ``MIN_DEGREES`` and
    ``MAX_DEGREES``; a scale cannot fall below a thousandth of the values' root mean square.
    """
    from scipy.optimize import minimize

    size = np.sort(np.abs(z))
    if len(size) > MAX_FIT_VALUES:
        levels = (np.arange(MAX_FIT_VALUES) + 0.5) / MAX_FIT_VALUES
        size = size[(levels * len(size)).astype(np.int64)]
    spread = max(float(np.sqrt(np.mean(size**2))), 1e-6)

    def loss(logs: Floats) -> float:
        degrees, scale = np.exp(logs)
        return -float(StudentT.around_zero(degrees, np.full(len(size), scale)).log_density(size).mean())

    bounds = [
        (math.log(MIN_DEGREES), math.log(MAX_DEGREES)),
        (math.log(1e-3 * spread), math.log(10.0 * spread)),
    ]
    start = [math.log(5.0), math.log(0.75 * spread)]
    degrees, scale = np.exp(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
    return float(degrees), float(scale)


def _forecast(history: History, decay: float) -> StudentT:
    scale = volatility.ewma(history, decay)
    degrees, width = fit(volatility.standardised(history, scale))
    return StudentT.around_zero(degrees, width * scale)
