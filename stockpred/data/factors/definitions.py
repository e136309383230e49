"""The factors, one function each, which ``factor`` registers by name.

Names and formulas are those of Alpha158 where it has the factor (Yang et al., "Qlib: An AI-oriented
Quantitative Investment Platform", 2020), so ROC5 is the old close over the new and falls as the return rises,
and STD20 is the deviation of the *price*. Three rules differ from qlib's: a window that is not complete or
holds an unknown value gives NaN, where qlib takes what there is; so does a volume of 0 in a denominator,
where qlib adds 1e-12; and only a series that is exactly constant has no correlation, where qlib sets a limit
of 2e-5 in units of the price.

All are without units but ILLIQ, and windows count the asset's own bars. Returns are simple:
close / previous close - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from stockpred.data.arrays import Floats
from stockpred.data.factors import windows
from stockpred.data.series import BarSeries

PER_MILLION = 1e6
Function = Callable[..., Floats]


@dataclass(frozen=True)
class Factor:
    """A number for each bar, made from the bar and the ``lookback`` bars before it."""

    lookback: int
    compute: Callable[[BarSeries], Floats]
    """From B rows, perhaps of several assets, to values [B]; those that reach over a border are dropped."""


FACTORS: Final[dict[str, Factor]] = {}


def factor(name: str, *, lookback: int, **parameters: int) -> Callable[[Function], Function]:
    """Register the decorated function of a BarSeries as factor ``name``; ``parameters`` are passed to it."""

    def register(function: Function) -> Function:
        if name in FACTORS:
            raise ValueError(f"there are two factors {name}")
        FACTORS[name] = Factor(lookback, partial(function, **parameters))
        return function

    return register


@factor("KMID", lookback=0)
def body(bars: BarSeries) -> Floats:
    """Return the candle's body over its open."""
    return (bars.close - bars.open) / bars.open


@factor("KUP", lookback=0)
def upper_shadow(bars: BarSeries) -> Floats:
    """Return the range above the body over the open."""
    return (bars.high - np.maximum(bars.open, bars.close)) / bars.open


@factor("KLOW", lookback=0)
def lower_shadow(bars: BarSeries) -> Floats:
    """Return the range below the body over the open."""
    return (np.minimum(bars.open, bars.close) - bars.low) / bars.open


@factor("ROC20", lookback=20, bars_ago=20)
@factor("ROC5", lookback=5, bars_ago=5)
def rate_of_change(bars: BarSeries, bars_ago: int) -> Floats:
    """Return the close some bars ago over the close: 1 / (1 + return)."""
    return windows.lag(bars.close, bars_ago) / bars.close


@factor("MA20", lookback=19, window=20)
@factor("MA5", lookback=4, window=5)
def moving_average(bars: BarSeries, window: int) -> Floats:
    """Return the mean close over the close."""
    return windows.mean(bars.close, window) / bars.close


@factor("STD20", lookback=19, window=20)
@factor("STD5", lookback=4, window=5)
def price_deviation(bars: BarSeries, window: int) -> Floats:
    """Return the standard deviation of the close over the close."""
    return windows.standard_deviation(bars.close, window) / bars.close


@factor("VOLATILITY20", lookback=20, window=20)
@factor("VOLATILITY5", lookback=5, window=5)
def volatility(bars: BarSeries, window: int) -> Floats:
    """Return the standard deviation of the one-bar return, per bar; Alpha158 has none."""
    return windows.standard_deviation(_returns(bars), window)


@factor("MAX20", lookback=19, window=20)
def highest_high(bars: BarSeries, window: int) -> Floats:
    """Return the highest high over the close."""
    return windows.highest(bars.high, window) / bars.close


@factor("MIN20", lookback=19, window=20)
def lowest_low(bars: BarSeries, window: int) -> Floats:
    """Return the lowest low over the close."""
    return windows.lowest(bars.low, window) / bars.close


@factor("VMA5", lookback=4, window=5)
def volume_average(bars: BarSeries, window: int) -> Floats:
    """Return the mean volume over the volume."""
    return windows.mean(bars.volume, window) / bars.volume


@factor("VSTD20", lookback=19, window=20)
def volume_deviation(bars: BarSeries, window: int) -> Floats:
    """Return the standard deviation of the volume over the volume."""
    return windows.standard_deviation(bars.volume, window) / bars.volume


@factor("CORR20", lookback=19, window=20)
def price_volume_correlation(bars: BarSeries, window: int) -> Floats:
    """Return the correlation of the close with log(volume + 1)."""
    return windows.correlation(bars.close, np.log(bars.volume + 1), window)


@factor("MOM120_20", lookback=120, since=120, until=20)
def momentum(bars: BarSeries, since: int, until: int) -> Floats:
    """Return the return from ``since`` to ``until`` bars ago.

    The latest bars are left out for their reversal: Jegadeesh, Titman, J. Finance 48 (1993).
    """
    return windows.lag(bars.close, until) / windows.lag(bars.close, since) - 1


@factor("REV1", lookback=1)
def reversal(bars: BarSeries) -> Floats:
    """Return the last return with its sign turned (Jegadeesh, J. Finance 45, 1990)."""
    return -_returns(bars)


@factor("ILLIQ", lookback=20, window=20)
def illiquidity(bars: BarSeries, window: int) -> Floats:
    """Return the mean of |return| over the traded value, close x volume, per million of its currency.

    Amihud, J. Financial Markets 5 (2002), eq. 1, over ``window`` bars. A bar without trade has none, and nor
    has a window that holds one. The level depends on the currency: compare ranks.
    """
    return windows.mean(np.abs(_returns(bars)) / (bars.close * bars.volume), window) * PER_MILLION


def _returns(bars: BarSeries) -> Floats:
    return bars.close / windows.lag(bars.close, 1) - 1
