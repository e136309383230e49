"""What a rival may read, and the ways in which rivals sum it up.

Shape suffixes: N bars, sorted by asset, then time; A assets, numbered in the order of the bars; K known
values of one asset. Every ``lagged`` value at bar n is made of the same asset's bars before n, carries on
over breaks between segments, and takes unknown values (NaN) as if there were no such bar. What is fitted
reads training targets only: bars of the training split that continue the bar before them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.data.arrays import Bools, Floats, Ints
from stockpred.data.bars import PRICES
from stockpred.data.quality import CheckedBars
from stockpred.data.splits import Split, Splits

MIN_OWN_TARGETS = 20  # with fewer training targets, an asset's own mean is mostly noise


@dataclass(frozen=True, eq=False)
class History:
    """N bars of A assets, and to which split the label that ends at each of them belongs."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    change: Floats
    """Simple return close[n] / close[n-1] - 1; NaN where the bar does not continue the one before."""
    time: Ints
    """int64 ns since 1970 UTC."""
    asset: Ints
    category: Ints
    split: Splits

    def __post_init__(self) -> None:
        """Raise UserError for columns of uneven length, and for bars out of order."""
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise UserError(f"the columns of a history differ in length: {lengths}", fix="give [N] of each")
        step = np.diff(self.asset)
        follows = (step > 0) | ((step == 0) & (np.diff(self.time) > 0))
        wrong = np.flatnonzero(~follows)
        if len(wrong):
            what = f"bar {wrong[0] + 1} of a history does not follow the bar before it"
            raise UserError(what, fix="sort the bars by asset, then time, no pair twice")

    @classmethod
    def of(cls, checked: CheckedBars, split: Splits, category: Ints) -> History:
        """Take the history out of checked bars; ``split`` and ``category`` [N] are those of each bar.

        Bars that the checks left out have neither prices nor a return, and belong to no split; a volume below
        zero is unknown.
        """
        columns = checked.columns
        previous = np.r_[np.nan, columns.close[:-1]][: len(columns.close)]
        with np.errstate(invalid="ignore", divide="ignore"):
            change = columns.close / previous - 1.0
        unknown = checked.left_out
        prices = {name: np.where(unknown, np.nan, getattr(columns, name)) for name in PRICES}
        return cls(
            **prices,
            volume=np.where(unknown | (columns.volume < 0.0), np.nan, columns.volume),
            change=np.where(unknown | checked.break_before, np.nan, change),
            time=columns.time,
            asset=columns.asset,
            category=category,
            split=np.where(unknown, np.int8(Split.OUTSIDE), split).astype(np.int8),
        )

    @property
    def num_assets(self) -> int:
        return int(self.asset[-1]) + 1 if len(self.asset) else 0

    @cached_property
    def runs(self) -> tuple[tuple[int, slice], ...]:
        """Each asset that has bars, with the place of its bars."""
        starts = np.flatnonzero(np.r_[True, np.diff(self.asset) != 0][: len(self.asset)])
        ends = np.r_[starts[1:], len(self.asset)]
        return tuple(
            (int(self.asset[start]), slice(int(start), int(end)))
            for start, end in zip(starts, ends, strict=True)
        )

    @cached_property
    def category_A(self) -> Ints:
        """The category of each asset's first bar; -1 for an asset without bars."""
        category_A = np.full(self.num_assets, -1, np.int64)
        for asset, rows in self.runs:
            category_A[asset] = self.category[rows.start]
        return category_A

    def is_target(self, split: Split) -> Bools:
        return np.asarray((self.split == split) & np.isfinite(self.change), np.bool_)

    def targets(self, split: Split) -> Ints:
        """Return the bars whose returns the split judges."""
        return np.flatnonzero(self.is_target(split))

    # What is known of the past before each bar.

    def lagged(
        self, values: Floats, smooth: Callable[[Floats, int], Floats], start_A: Floats | None = None
    ) -> Floats:
        """Return, for each bar [N], what ``smooth`` makes of the asset's known values before it.

        ``smooth`` takes the known values [K] and the number of an asset, and returns [K] values of which
        value k reads up to k. Where no value is known yet stands the asset's ``start_A``, or NaN.
        """
        lagged = np.empty(len(values))
        for asset, rows in self.runs:
            is_known = np.isfinite(values[rows])
            smoothed = smooth(values[rows][is_known], asset)
            start = np.nan if start_A is None else start_A[asset]
            lagged[rows] = np.r_[start, smoothed][np.cumsum(is_known) - is_known]
        return lagged

    def lagged_recursion(self, inputs: Floats, decay_A: Floats, start_A: Floats) -> Floats:
        """Return y[n] = inputs[n-1] + decay y[n-1], from the asset's start on, [N]."""
        from scipy.signal import lfilter  # only the rivals need it, so a start of training does not pay

        def smooth(known: Floats, asset: int) -> Floats:
            decay = decay_A[asset]
            smoothed, _ = lfilter([1.0], [1.0, -decay], known, zi=[decay * start_A[asset]])
            return np.asarray(smoothed, np.float64)

        return self.lagged(inputs, smooth, start_A)

    def lagged_ewm(self, values: Floats, decay: float, start_A: Floats) -> Floats:
        """Return y[n] = decay y[n-1] + (1 - decay) values[n-1], from the asset's start on, [N]."""
        return self.lagged_recursion((1.0 - decay) * values, np.full(self.num_assets, decay), start_A)

    def lagged_mean(self, values: Floats, window: int, *, min_known: int = 1) -> Floats:
        """Return the mean of the last ``window`` known values, [N]; NaN where too few are known."""
        return self._lagged_rolling(values, window, min_known, "mean")

    def lagged_sum(self, values: Floats, window: int, *, min_known: int = 1) -> Floats:
        """Return the sum of the last ``window`` known values, [N]; NaN where too few are known."""
        return self._lagged_rolling(values, window, min_known, "sum")

    def lagged_deviation(self, values: Floats, window: int, *, min_known: int = 2) -> Floats:
        """Return the sample standard deviation of the last ``window`` known values, [N]."""
        return self._lagged_rolling(values, window, min_known, "std")

    def _lagged_rolling(
        self, values: Floats, window: int, min_known: int, statistic: Literal["mean", "sum", "std"]
    ) -> Floats:
        def smooth(known: Floats, _: int) -> Floats:
            rolling = pd.Series(known).rolling(window, min_periods=min_known)
            return rolling.agg(statistic).to_numpy(np.float64)

        return self.lagged(values, smooth)

    # What training knows.

    def usual(self, values: Floats) -> Floats:
        """Return the mean of ``values`` [N] over the training targets of each asset, [A].

        With fewer than ``MIN_OWN_TARGETS`` of them it is that of the asset's category (``pooled``). Raises
        UserError where there is no training target at all.
        """
        sum_A, count_A = self._training_sums(values)
        own_A = sum_A / np.maximum(count_A, 1.0)
        return np.where(count_A >= MIN_OWN_TARGETS, own_A, self.pooled(values))

    def pooled(self, values: Floats) -> Floats:
        """Return the mean of ``values`` [N] over the training targets of each asset's category, [A].

        That of all assets where the category has no training target. Raises UserError where there is none.
        """
        sum_A, count_A = self._training_sums(values)
        group_A = self.category_A + 1  # the assets without bars are a group of their own
        sum_C, count_C = np.bincount(group_A, weights=sum_A), np.bincount(group_A, weights=count_A)
        overall = sum_A.sum() / count_A.sum()
        mean_C = np.where(count_C > 0, sum_C / np.maximum(count_C, 1.0), overall)
        return np.asarray(mean_C[group_A], np.float64)

    def _training_sums(self, values: Floats) -> tuple[Floats, Floats]:
        """Return the sum of the known ``values`` of each asset's training targets, and their number, [A]."""
        is_used = self.is_target(Split.TRAIN) & np.isfinite(values)
        if not is_used.any():
            raise self._nothing_to_fit()
        asset = self.asset[is_used]
        sum_A = np.bincount(asset, weights=values[is_used], minlength=self.num_assets)
        count_A = np.bincount(asset, minlength=self.num_assets)
        return sum_A.astype(np.float64), count_A.astype(np.float64)

    def _nothing_to_fit(self) -> UserError:
        return UserError(
            f"none of {len(self.asset)} bars is a training target, so no rival can be fitted",
            where="data.split",
            fix="give training a longer part of the bars",
        )
