"""Technical indicators of each asset's bars, by TA-Lib.

TA-Lib because it is what the others are tested against, and is kept up: since 0.6.5 wheels that hold the C
library, for Python 3.9 to 3.14 and numpy 2, and nothing but numpy beneath. Its recursions run forward, so no
value depends on a later bar. The alternatives in pandas fare worse: `ta` has had no release since 2023, and
its users report an ADX that changes when bars are added (bukosabino/ta #164); `pandas-ta` has only beta
releases, for Python 3.12 and newer; `pandas-ta-classic` mended a look ahead in 27 indicators, ADX among them,
as late as August 2026 (#149, #150). It is an optional extra, ``stockpred[indicators]``: nothing else here
needs it, and there is not a wheel for every machine.

An indicator runs over one segment at a time (see ``series``): never from one asset into the next, nor over a
break or a bar that is left out. The first bars have no value, as many as it takes to fill the windows; bars
that are left out have none. MACD, RSI and ADX remember the start of the segment for longer than that, with a
weight that falls by 2/27, 1/14 and 1/14 at each bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import numpy as np

from hpc.base.errors import UserError
from stockpred.data.arrays import Floats
from stockpred.data.named import find
from stockpred.data.quality import CheckedBars
from stockpred.data.series import BarSeries, positions, segments


@dataclass(frozen=True)
class Indicator:
    """A number for each bar; the first ``lookback`` bars of a segment have none."""

    lookback: int
    compute: Callable[[ModuleType, BarSeries], Floats]
    """Calls TA-Lib, given as a module, on one segment [B]; returns [B]."""


def build(checked: CheckedBars, names: Iterable[str]) -> Floats:
    """Return the indicators ``names`` [I, N] of all N bars; NaN where there is no value.

    Raises UserError for names that are not known, and where TA-Lib is not installed.
    """
    chosen = find("indicator", INDICATORS, names)
    talib = _talib()
    values = np.full((len(chosen), len(checked.left_out)), np.nan)
    for rows in segments(positions(checked)):
        bars = BarSeries.of(checked.columns, rows)
        for indicator, row in zip(chosen, values, strict=True):
            if len(bars) > indicator.lookback:
                row[rows] = indicator.compute(talib, bars)
    return values


def _macd(talib: ModuleType, bars: BarSeries, output: int) -> Floats:
    """Return the line (0), its signal (1) or their difference (2), in units of the price.

    Appel (1979): EMA(12) - EMA(26) of the close, and its EMA(9). All three begin with the signal, and each
    EMA with the mean of its first window; both EMAs of the close have their first value at the same bar.
    """
    lines: tuple[Floats, Floats, Floats] = talib.MACD(bars.close, 12, 26, 9)
    return lines[output]


def _rsi(talib: ModuleType, bars: BarSeries) -> Floats:
    """Return 100 x mean gain / (mean gain + mean loss) by Wilder's smoothing (1978), from 0 to 100.

    NaN while the close has not moved since the segment began, where TA-Lib says 0 as for falling prices.
    """
    has_moved = np.maximum.accumulate(bars.close) > np.minimum.accumulate(bars.close)
    return np.where(has_moved, talib.RSI(bars.close, 14), np.nan)


def _cci(talib: ModuleType, bars: BarSeries) -> Floats:
    """Return (typical price - its mean) / (0.015 x its mean absolute deviation), Lambert (1980).

    0 where the typical price, (high + low + close) / 3, is constant over the window.
    """
    values: Floats = talib.CCI(bars.high, bars.low, bars.close, 20)
    return values


def _adx(talib: ModuleType, bars: BarSeries) -> Floats:
    """Return Wilder's smoothed directional movement index (1978), from 0, no trend, to 100."""
    values: Floats = talib.ADX(bars.high, bars.low, bars.close, 14)
    return values


INDICATORS: Final[dict[str, Indicator]] = {
    "MACD": Indicator(33, lambda talib, bars: _macd(talib, bars, 0)),
    "MACD_SIGNAL": Indicator(33, lambda talib, bars: _macd(talib, bars, 1)),
    "MACD_HISTOGRAM": Indicator(33, lambda talib, bars: _macd(talib, bars, 2)),
    "RSI14": Indicator(14, _rsi),
    "CCI20": Indicator(19, _cci),
    "ADX14": Indicator(27, _adx),
}


def _talib() -> ModuleType:
    try:
        import talib
    except ImportError as error:
        raise UserError(
            "indicators are computed by TA-Lib, which is not installed",
            fix="pip install 'stockpred[indicators]', or pip install TA-Lib",
        ) from error
    return talib
