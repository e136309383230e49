"""Good bars in unbroken stretches: what indicators and factors are computed on.

A *segment* is a stretch of one asset's consecutive bars of which none is left out and none but the first
begins anew (see ``quality``, which may leave a bar out when it sees the next one). Its bars are counted, not
its days: a weekend or a short hole has no length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stockpred.data.arrays import Floats, Ints
from stockpred.data.bars import BarColumns
from stockpred.data.quality import CheckedBars

NOT_IN_A_SEGMENT = -1


@dataclass(frozen=True, eq=False)
class BarSeries:
    """The columns [B] of consecutive rows, float64, as they may be computed with.

    A range that does not hold open and close is widened to them; a negative volume is unknown, that is NaN.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @classmethod
    def of(cls, columns: BarColumns, rows: slice) -> BarSeries:
        opened, close, volume = columns.open[rows], columns.close[rows], columns.volume[rows]
        return cls(
            open=opened,
            high=np.maximum(columns.high[rows], np.maximum(opened, close)),
            low=np.minimum(columns.low[rows], np.minimum(opened, close)),
            close=close,
            volume=np.where(volume >= 0, volume, np.nan),
        )

    def __len__(self) -> int:
        return len(self.close)


def positions(checked: CheckedBars) -> Ints:
    """Return how many bars of its segment come before each bar [N]; -1 for a bar that is left out."""
    good = ~checked.left_out
    begins = good & (checked.break_before | ~np.r_[False, good[:-1]])
    row = np.arange(len(good))
    first = np.maximum.accumulate(np.where(begins, row, 0))
    return np.where(good, row - first, NOT_IN_A_SEGMENT)


def segments(position: Ints) -> list[slice]:
    """Return the rows of each segment, in order, from what ``positions`` returned."""
    starts = np.flatnonzero(position == 0)
    ends = np.flatnonzero((position >= 0) & (np.r_[position[1:], NOT_IN_A_SEGMENT] <= 0)) + 1
    return [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]
