"""The settings of model ``window_mean``."""

from __future__ import annotations

from stockpred.config.base import PositiveInt
from stockpred.config.forecast import RegressorConfig


class WindowMeanConfig(RegressorConfig):
    """What every regressor has, and ``num_newest``: how many bars are averaged."""

    num_newest: PositiveInt


SETTINGS = WindowMeanConfig
