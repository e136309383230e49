"""A panel with everything that makes windows hard, and what plain pandas says its segments are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from stockpred.data import bars as bar_table
from stockpred.data import quality
from stockpred.data.bars import BarColumns
from stockpred.data.quality import CheckedBars

PRICES = list(bar_table.PRICES)
CATEGORY = {f"A{number}": "us_equity" for number in range(7)} | {
    f"C{number}": "crypto" for number in range(3)
}
CATEGORY |= {"CONSTANT": "us_equity", "SINGLE": "us_equity"}


def checked_panel(num_bars: int = 420, seed: int = 0) -> CheckedBars:
    """Return checked bars of twelve assets with short and long holes, unknown and impossible values.

    Prices lie between 1e-7 and 1e4. One asset has constant bars, one a single bar.
    """
    rng = np.random.default_rng(seed)
    tables = [
        _with_defects(_walk(symbol, num_bars, scale, rng), rng)
        for symbol, scale in zip(CATEGORY, np.logspace(-7, 4, 10), strict=False)
    ]
    tables.append(_walk("CONSTANT", num_bars, 1.0, rng).assign(**dict.fromkeys(PRICES, 33.3), volume=7.0))
    tables.append(_walk("SINGLE", num_bars, 1.0, rng).iloc[num_bars // 2 :].head(1))
    bars, _ = bar_table.tidy(pd.concat(tables, ignore_index=True))
    checked = quality.check(bars, CATEGORY, max_hole_sessions=5)
    constant = np.asarray(
        bars["symbol"] == "CONSTANT"
    )  # the checks leave stale bars out; here they are wanted
    marks = {"left_out": checked.left_out & ~constant}
    marks["break_before"] = checked.break_before & (~constant | checked.columns.is_first)
    return replace(checked, **marks)


def with_bars(
    checked: CheckedBars, bars: pd.DataFrame, rows: np.ndarray | slice = slice(None)
) -> CheckedBars:
    """Return ``bars`` with the marks that ``checked`` has at these rows."""
    bars = bars.reset_index(drop=True)
    marks = {"left_out": checked.left_out[rows], "break_before": checked.break_before[rows]}
    return replace(checked, bars=bars, columns=BarColumns.of(bars), **marks)


def segments(checked: CheckedBars) -> list[pd.DataFrame]:
    """Return the good bars of each segment, by their row, as they may be computed with."""
    bars = checked.bars.assign(number=(checked.break_before | checked.left_out).cumsum())
    bars["high"] = bars[["open", "high", "close"]].max(axis=1)
    bars["low"] = bars[["open", "low", "close"]].min(axis=1)
    bars["volume"] = bars["volume"].where(bars["volume"] >= 0)
    good = bars[~checked.left_out]
    return [segment for _, segment in good.groupby(["symbol", "number"])]


def _walk(symbol: str, num_bars: int, scale: float, rng: np.random.Generator) -> pd.DataFrame:
    close = scale * np.exp(np.cumsum(0.02 * rng.standard_normal(num_bars)))
    opened = np.r_[scale, close[:-1]] * np.exp(0.005 * rng.standard_normal(num_bars))
    return pd.DataFrame(
        {
            "symbol": symbol,
            "time": pd.date_range("2020-01-01", periods=num_bars, tz="UTC").astype(bar_table.TIME_TYPE),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(0.01 * rng.random(num_bars)),
            "low": np.minimum(opened, close) * np.exp(-0.01 * rng.random(num_bars)),
            "close": close,
            "volume": np.exp(12 + rng.standard_normal(num_bars)),
        }
    )


def _with_defects(bars: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Plant odd volumes and ranges, a close that is unknown, short holes and a long one."""
    some = rng.permutation(np.arange(10, 150))
    bars.loc[some[:2], "volume"] = np.nan
    bars.loc[some[2:4], "volume"] = 0.0
    bars.loc[some[4:5], "volume"] = -1.0
    bars.loc[some[5:7], "high"] = bars.loc[some[5:7], "low"]
    bars.loc[some[7:8], "close"] = np.nan
    begin = int(rng.integers(160, 200))
    return bars.drop(index=[*some[8:14], *range(begin, begin + 12)])
