"""Errors of forecasts many steps ahead, over every window of a test or in the way of the LTSF tables.

Axes: N times, C series, L steps known (look-back), H steps ahead (horizon), W windows. Wu et al. (Autoformer,
2021) and those who followed cut 70/10/20, standardise by the training part, and let the last test windows
that do not fill a batch of 32 fall away; ``drop_last`` repeats that. All windows are the honest figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpc.base.errors import UserError
from stockpred.data.arrays import Floats

Forecaster = Callable[[Floats, int], Floats]
"""Takes what is known [W, L, C] and a horizon; returns forecasts [W, H, C]."""
TRAIN_SHARE, TEST_SHARE = 0.7, 0.2


@dataclass(frozen=True)
class HorizonErrors:
    """Mean squared and mean absolute error over windows, steps and series, in training deviations."""

    mse: float
    mae: float
    num_windows: int


def repeat_last_value(known_WLC: Floats, horizon: int) -> Floats:
    """Forecast that every series stays where it is."""
    return np.repeat(known_WLC[:, -1:], horizon, axis=1)


def long_horizon_errors(
    values_NC: Floats,
    forecast: Forecaster,
    *,
    horizon: int,
    look_back: int = 96,
    drop_last: int | None = None,
) -> HorizonErrors:
    """Score a forecaster on every window whose ``horizon`` steps lie in the last 20 % of the times.

    ``drop_last`` leaves out the windows that do not fill a last batch of that size. Raises UserError where no
    window is left.
    """
    num_times = len(values_NC)
    training = values_NC[: int(TRAIN_SHARE * num_times)]
    standard_NC = (values_NC - training.mean(axis=0)) / training.std(axis=0)
    test = standard_NC[num_times - int(TEST_SHARE * num_times) - look_back :]
    num_windows = len(test) - look_back - horizon + 1
    if drop_last is not None:
        num_windows -= num_windows % drop_last
    if num_windows < 1:
        raise UserError(
            f"no test window of {look_back} known and {horizon} forecast steps fits {num_times} times",
            fix="use a shorter horizon, or more times",
        )
    squared, absolute = 0.0, 0.0
    for first in range(0, num_windows, _WINDOWS_AT_ONCE):
        number = min(_WINDOWS_AT_ONCE, num_windows - first)
        windows_WSC = _windows(test[first:], look_back + horizon, number)
        error = forecast(windows_WSC[:, :look_back], horizon) - windows_WSC[:, look_back:]
        squared += float(np.square(error).sum())
        absolute += float(np.abs(error).sum())
    count = num_windows * horizon * values_NC.shape[1]
    return HorizonErrors(squared / count, absolute / count, num_windows)


_WINDOWS_AT_ONCE = 256


def _windows(values_NC: Floats, length: int, number: int) -> Floats:
    """Return the first ``number`` windows [W, length, C]."""
    views = np.lib.stride_tricks.sliding_window_view(values_NC, length, axis=0)[:number]
    return np.asarray(views.transpose(0, 2, 1))
