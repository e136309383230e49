"""Tables of bars while they are fetched: what an order wants of them, and how old and new ones are joined."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stockpred.data.bars import PRICES
from stockpred.data.fetch.order import BarLength, Order

SAME = 1e-4
"""Ratios that differ by less are one ratio: quotes are rounded, dividends and splits move them by more."""
SAME_VOLUME = 0.01


def wanted(bars: pd.DataFrame, order: Order) -> pd.DataFrame:
    """Return the bars that start in the order's time and are over: a bar that still goes on is no bar."""
    starts, ends = spans(bars["time"], order.length)
    chosen = (starts < order.stop) & (ends <= order.now)
    if order.start is not None:
        chosen &= starts >= order.start
    return bars[chosen]


def spans(times: pd.Series, length: BarLength) -> tuple[pd.Series, pd.Series]:
    """Return when bars start and end; a session's last bar may in truth be shorter."""
    return (times, times + length.length) if length.is_daily else (times - length.length, times)


def joined(held: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """Return held and new bars of one asset in order of time; where both have a bar, the new one."""
    if held is None or held.empty:
        return new.reset_index(drop=True)
    if new.empty:
        return held.reset_index(drop=True)
    kept = held[~held["time"].isin(new["time"])]
    return pd.concat([kept, new], ignore_index=True).sort_values("time", kind="stable", ignore_index=True)


def price_ratio(held: pd.DataFrame, new: pd.DataFrame) -> float | None:
    """Return by what the held prices must be multiplied to agree with the new ones on the bars of both.

    A dividend or split after the held bars multiplies all of them by one factor. None where the two share no
    bar, or no single factor brings them together.
    """
    both = held[["time", "close"]].merge(new[["time", "close"]], on="time", suffixes=("_held", "_new"))
    ratios = (both["close_new"] / both["close_held"]).replace([np.inf, -np.inf], np.nan).dropna()
    if ratios.empty or ratios.max() - ratios.min() > SAME * abs(ratios.median()):
        return None
    ratio = float(ratios.median())
    return 1.0 if abs(ratio - 1) <= SAME else ratio


def rescaled(held: pd.DataFrame, new: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """Return the held bars with prices multiplied by ``ratio``, and volumes as the new ones count shares."""
    shared = held["time"].isin(new["time"])
    volume_then = held.loc[shared, "volume"].sum()
    volume_now = new.loc[new["time"].isin(held["time"]), "volume"].sum()
    volume_ratio = volume_now / volume_then if volume_then > 0 and volume_now > 0 else 1.0
    if abs(volume_ratio - 1) <= SAME_VOLUME:
        volume_ratio = 1.0
    prices = {name: held[name] * ratio for name in PRICES}
    return held.assign(**prices, volume=held["volume"] * volume_ratio)
