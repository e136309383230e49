"""Volatility regressed on its day, week and month (Corsi 2009), times the shape of training returns.

Corsi's daily volatility is realised from trades within the day, which bars do not tell. The root of the
Garman-Klass variance plus the squared gap from the close before stands in: it sees the whole day, and errs
far less than |return| does. Its level is not quite that of the returns (the range of few trades is too
narrow, and the mean of a root is below the root of the mean), so the forecast is rescaled on training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stockpred.data.arrays import Floats
from stockpred.data.splits import Split
from stockpred.score import ranges, volatility
from stockpred.score.history import History
from stockpred.score.rival import Kind, RivalForecast

LABEL = "HAR volatility, training shape"
KIND = Kind.DISTRIBUTION
WINDOWS = (1, 5, 22)
NAMES = ("constant", "day", "week", "month")
MIN_FIT_BARS = 100
FLOOR_SHARE = 0.1  # of the month's volatility; a line fitted elsewhere may lead below zero

Coefficients = NDArray[np.float64]
"""[C, 4]: constant, day, week and month of each category."""


def forecast(history: History) -> RivalForecast:
    daily = np.sqrt(ranges.garman_klass(history) + ranges.overnight(history))
    past = tuple(_known_past(history, daily, window) for window in WINDOWS)
    coefficients = fit(history, daily, past)
    constant, day, week, month = coefficients[history.category_A[history.asset]].T
    expected = constant + day * past[0] + week * past[1] + month * past[2]
    expected = np.maximum(expected, FLOOR_SHARE * past[2])
    scale = volatility.rescaled(history, expected**2)
    distribution = volatility.times_training_shape(history, scale)
    return RivalForecast(
        expected_return=distribution.mean(),
        distribution=distribution,
        settings=_settings(coefficients),
    )


def fit(history: History, daily: Floats, past: tuple[Floats, ...]) -> Coefficients:
    """Regress the volatility of each category's training targets on their past by least squares.

    A category with fewer than ``MIN_FIT_BARS`` of them takes the coefficients of all together.
    """
    rows = np.flatnonzero(history.is_target(Split.TRAIN) & np.isfinite(daily))
    category = history.category[rows]
    design = np.stack([np.ones(len(rows)), *(values[rows] for values in past)], axis=1)
    coefficients = np.tile(_least_squares(design, daily[rows]), (int(history.category.max()) + 1, 1))
    for number in np.unique(category):
        members = category == number
        if np.count_nonzero(members) >= MIN_FIT_BARS:
            coefficients[number] = _least_squares(design[members], daily[rows][members])
    return coefficients


def _known_past(history: History, daily: Floats, window: int) -> Floats:
    """Return the mean volatility of the last bars, of as many as there are; first the asset's usual one."""
    mean = history.lagged_mean(daily, window)
    return np.where(np.isfinite(mean), mean, history.usual(daily)[history.asset])


def _least_squares(design: Floats, outcome: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(design, outcome, rcond=None)[0], np.float64)


def _settings(coefficients: Coefficients) -> dict[str, float]:
    """Name each coefficient, by its category's number where there is more than one."""
    if len(coefficients) == 1:
        return dict(zip(NAMES, coefficients[0].tolist(), strict=True))
    return {
        f"{name}_{category}": float(value)
        for category, row in enumerate(coefficients)
        for name, value in zip(NAMES, row, strict=True)
    }
