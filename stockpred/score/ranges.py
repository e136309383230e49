"""Variance of one bar from its open, high, low and close; N bars, in squared log return.

A bar without a range (a source of closes only, or no trade) says nothing by its range: its squared return
stands in. NaN where a price is unknown or not above zero. High and low are widened to open and close.
"""

from __future__ import annotations

import math

import numpy as np

from stockpred.data.arrays import Floats
from stockpred.score.history import History


def garman_klass(history: History) -> Floats:
    """Return ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2 (Garman and Klass 1980), [N]."""
    up, down, across = _moves(history)
    variance = 0.5 * (up - down) ** 2 - (2.0 * math.log(2.0) - 1.0) * across**2
    return _with_closes_only(history, variance, up - down)


def rogers_satchell(history: History) -> Floats:
    """Return ln(H/C) ln(H/O) + ln(L/C) ln(L/O), which allows for drift (Rogers and Satchell 1991), [N]."""
    up, down, across = _moves(history)
    return _with_closes_only(history, up * (up - across) + down * (down - across), up - down)


def overnight(history: History) -> Floats:
    """Return ln(O[n] / C[n-1])^2, [N]; NaN where the bar does not continue the one before."""
    previous = np.r_[np.nan, history.close[:-1]][: len(history.close)]
    gap = _log(history.open) - _log(previous)
    return np.where(np.isfinite(history.change), gap**2, np.nan)


def _moves(history: History) -> tuple[Floats, Floats, Floats]:
    """Return ln(H/O) >= 0, ln(L/O) <= 0 and ln(C/O)."""
    opened = _log(history.open)
    across = _log(history.close) - opened
    up = np.maximum(_log(history.high) - opened, np.maximum(across, 0.0))
    down = np.minimum(_log(history.low) - opened, np.minimum(across, 0.0))
    return up, down, across


def _with_closes_only(history: History, variance: Floats, width: Floats) -> Floats:
    return np.where(width == 0.0, history.change**2, variance)


def _log(price: Floats) -> Floats:
    return np.log(np.where(price > 0.0, price, np.nan))
