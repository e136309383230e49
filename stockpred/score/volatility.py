"""Volatility that is known before each bar, its floor, and the decay that validation chooses.

N bars, A assets. Variances are those of simple returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from stockpred.data.arrays import Floats
from stockpred.data.splits import Split
from stockpred.score.distributions import Distribution, ScaledShape, Shape
from stockpred.score.history import History

RISKMETRICS_DECAY = 0.94  # J.P. Morgan (1996), for daily returns
DECAYS = (0.60, 0.70, 0.80, 0.85, 0.90, 0.92, RISKMETRICS_DECAY, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)
MIN_VOLATILITY = 1e-4
FLOOR_SHARE = 0.05  # of the usual volatility; a price that stood still for weeks will move again

AnyDistribution = TypeVar("AnyDistribution", bound=Distribution)


def floored(history: History, volatility: Floats) -> Floats:
    """Raise volatility [N] to a share of the asset's usual one, and to ``MIN_VOLATILITY``."""
    usual_A = np.sqrt(history.usual(history.change**2))
    floor_A = np.maximum(FLOOR_SHARE * usual_A, MIN_VOLATILITY)
    return np.maximum(volatility, floor_A[history.asset])


def ewma(history: History, decay: float) -> Floats:
    """Return the volatility of RiskMetrics: s2[n] = decay s2[n-1] + (1 - decay) change[n-1]^2, [N].

    Every asset starts from its usual training variance.
    """
    square = history.change**2
    return floored(history, np.sqrt(history.lagged_ewm(square, decay, history.usual(square))))


def standardised(history: History, scale: Floats) -> Floats:
    """Return the returns of the training targets in units of the scale [N] known before them."""
    targets = history.targets(Split.TRAIN)
    return np.asarray(history.change[targets] / scale[targets])


def times_training_shape(history: History, scale: Floats) -> ScaledShape:
    """Return forecasts as wide as the scale [N], of the shape that training returns have in its units."""
    return ScaledShape(Shape.of(standardised(history, scale)), scale)


def rescaled(history: History, variance: Floats) -> Floats:
    """Return the volatility [N] whose mean square is that of the returns, in training and each category.

    A category in which ``variance`` is zero throughout keeps it.
    """
    square_A, variance_A = history.pooled(history.change**2), history.pooled(variance)
    factor_A = np.where(variance_A > 0.0, square_A / np.where(variance_A > 0.0, variance_A, 1.0), 1.0)
    return floored(history, np.sqrt(np.maximum(variance, 0.0) * factor_A[history.asset]))


def smoothed(history: History, variance: Floats) -> tuple[float, ScaledShape]:
    """Return forecasts from each bar's own estimate of its variance [N], smoothed, lagged and rescaled.

    The decay is chosen on validation and returned with them.
    """
    start_A = history.usual(variance)

    def forecast(decay: float) -> ScaledShape:
        scale = rescaled(history, history.lagged_ewm(variance, decay, start_A))
        return times_training_shape(history, scale)

    return best_on_validation(history, DECAYS, forecast)


def best_on_validation(
    history: History, decays: Sequence[float], forecast: Callable[[float], AnyDistribution]
) -> tuple[float, AnyDistribution]:
    """Return the decay with the least mean CRPS over the validation targets, and its forecasts.

    Without validation targets that is the decay of RiskMetrics.
    """
    targets = history.targets(Split.VALIDATION)
    if not len(targets):
        return RISKMETRICS_DECAY, forecast(RISKMETRICS_DECAY)
    outcome = history.change[targets]

    def scored(decay: float) -> tuple[float, float, AnyDistribution]:
        found = forecast(decay)
        return float(found.at(targets).crps(outcome).mean()), decay, found

    _, decay, found = min(map(scored, decays), key=lambda one: one[0])
    return decay, found
