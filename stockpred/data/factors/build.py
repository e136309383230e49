"""Compute factors for all bars of all assets, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stockpred.data.arrays import Floats, Ints
from stockpred.data.factors.definitions import FACTORS, Factor
from stockpred.data.named import find
from stockpred.data.quality import CheckedBars
from stockpred.data.series import BarSeries, positions

BLOCK_BARS = 16_384
"""Rows computed at once: an array of them, 128 KiB, stays in the processor's cache."""


def build(checked: CheckedBars, names: Iterable[str], *, block_bars: int = BLOCK_BARS) -> Floats:
    """Return the factors ``names`` [F, N] of all N bars.

    NaN where the value is not known: for an asset's first bars and those after a break, as many as the
    factor looks back; for bars that are left out; and where an input is unknown or a denominator is 0. The
    value at a bar is a function of its own and of that many bars before it, the same bit for bit whatever
    else there is. Beside the result it takes memory for N positions and for some twenty arrays of
    ``block_bars``. Raises UserError for names that are not known.
    """
    factors = find("factor", FACTORS, names)
    position = positions(checked)
    values = np.empty((len(factors), len(position)))
    overlap = max((factor.lookback for factor in factors), default=0)
    for start in range(0, len(position), block_bars):
        rows = slice(start, min(start + block_bars, len(position)))
        bars = BarSeries.of(checked.columns, slice(max(start - overlap, 0), rows.stop))
        for factor, row in zip(factors, values, strict=True):
            row[rows] = _known(factor, bars, position[rows])
    return values


def _known(factor: Factor, bars: BarSeries, position: Ints) -> Floats:
    """Return the factor of the last bars, as many as there are positions, less what reaches over a border."""
    with np.errstate(all="ignore"):  # of windows over a border, whose values are dropped, and of x / 0
        values = factor.compute(bars)[len(bars) - len(position) :]
    return np.where((position >= factor.lookback) & np.isfinite(values), values, np.nan)
