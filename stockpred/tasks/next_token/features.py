"""Features of a bar in units that are the same for every asset and era, and their way back to a candle.

Shape suffixes: N bars, F features (FEATURES, in this order).

close_return  log(close / previous close) / volatility
open_gap      log(open / previous close) / volatility
upper_wick    log(high / max(open, close)) / volatility, never negative
lower_wick    log(min(open, close) / low) / volatility, never negative
volume        log(volume / usual volume); 0 where either is unknown

``volatility`` is the exponentially weighted root mean square of the asset's log returns, ``usual volume`` the
median of its volumes; both are lagged, so that the features of bar n read bars up to n only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stockpred.data.arrays import Bools, Floats
from stockpred.data.bars import BarColumns
from stockpred.data.quality import CheckedBars
from stockpred.tasks.next_token.tokenizer import FEATURES

CLOSE_RETURN, OPEN_GAP, UPPER_WICK, LOWER_WICK, VOLUME = range(len(FEATURES))
MIN_RETURNS = 20  # before this many returns the volatility is not known
VOLATILITY_FLOOR = 1e-4
LARGEST = 20.0  # features beyond this are cut: the first move of a long stale price has no scale


@dataclass(frozen=True, eq=False)
class BarFeatures:
    """Features, lagged volatility and usual volume, and log return of N bars; NaN where not known."""

    features_NF: Floats
    volatility: Floats
    usual_volume: Floats
    close_return: Floats
    is_usable: Bools
    """[N] all of them are known."""


def compute(checked: CheckedBars, volatility_span: int, volume_window: int) -> BarFeatures:
    """Return the features of every bar; bars that are left out or that follow a break are not usable.

    Volatility and usual volume carry on over a break within an asset.
    """
    bars = checked.columns
    close_return = np.where(checked.left_out | checked.break_before, np.nan, bars.close_return)
    volume = np.where((bars.volume > 0) & ~checked.left_out, bars.volume, np.nan)
    volatility = _lagged(bars, np.square(close_return), lambda square: _ew_mean(square, volatility_span))
    volatility = np.maximum(np.sqrt(volatility), VOLATILITY_FLOOR)
    usual_volume = _lagged(bars, volume, lambda known: _rolling_median(known, volume_window))
    features = _features(bars, close_return, volatility, volume, usual_volume)
    is_usable = np.isfinite(close_return) & np.isfinite(volatility)
    return BarFeatures(features, volatility, usual_volume, close_return, is_usable)


def to_candles(
    features_NF: Floats, previous_close: Floats, volatility: Floats, usual_volume: Floats | float = 1.0
) -> dict[str, Floats]:
    """Return open, high, low, close, volume; low <= min(open, close) <= max(open, close) <= high always."""
    moves = features_NF[:, :VOLUME] * np.asarray(volatility)[:, None]
    opened = previous_close * np.exp(moves[:, OPEN_GAP])
    close = previous_close * np.exp(moves[:, CLOSE_RETURN])
    high = np.maximum(opened, close) * np.exp(np.maximum(moves[:, UPPER_WICK], 0.0))
    low = np.minimum(opened, close) * np.exp(-np.maximum(moves[:, LOWER_WICK], 0.0))
    volume = usual_volume * np.exp(features_NF[:, VOLUME])
    return {"open": opened, "high": high, "low": low, "close": close, "volume": volume}


def _features(
    bars: BarColumns, close_return: Floats, volatility: Floats, volume: Floats, usual_volume: Floats
) -> Floats:
    previous = np.r_[np.nan, bars.close[:-1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
        columns = [
            close_return / volatility,
            np.log(bars.open / previous) / volatility,
            np.maximum(np.log(bars.high / top), 0.0) / volatility,
            np.maximum(np.log(bottom / bars.low), 0.0) / volatility,
            np.nan_to_num(np.log(volume / usual_volume), nan=0.0),
        ]
    return np.asarray(np.clip(np.stack(columns, axis=1), -LARGEST, LARGEST), np.float64)


def _lagged(bars: BarColumns, values: Floats, smooth: Callable[[pd.Series], pd.Series]) -> Floats:
    """Smooth each asset's values [N] on their own, and give every bar the result of the bar before it."""
    lagged = np.full(len(values), np.nan)
    starts = np.flatnonzero(bars.is_first)
    for start, end in zip(starts, np.r_[starts[1:], len(values)], strict=True):
        lagged[start + 1 : end] = smooth(pd.Series(values[start : end - 1])).to_numpy()
    return lagged


def _ew_mean(squares: pd.Series, span: int) -> pd.Series:
    return squares.ewm(span=span, ignore_na=True, min_periods=min(MIN_RETURNS, span)).mean()


def _rolling_median(volume: pd.Series, window: int) -> pd.Series:
    return volume.rolling(window, min_periods=max(window // 2, 1)).median()
