"""What a regressor sees of each bar, before it is standardised: changes or levels, in raw units.

changes  open, high, low, close: log ratio to the close before; volume: change of its log
levels   as they are quoted

A volume that is unknown is taken as unchanged. Bar n's inputs read bars up to n only.
Shape suffixes: N bars, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stockpred.data.quality import Checked, Series, as_series

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

CLIP = 10.0
"""Standard deviations; a change beyond has no likeness among those that a model learns from."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The bars that a model may see, among all that were checked."""

    rows: Ints
    """[N] their rows."""
    raw_NF: Floats
    stretch_start: Ints
    """[N] the first bar of each bar's stretch."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and scale of each feature on training dates; a feature that is constant there has scale 1."""

    mean: Floats
    scale: Floats
    clip: float | None
    """Standard deviations; None for levels: an asset that grows leaves the range it was fitted on."""

    @classmethod
    def fit(cls, raw_NF: Floats, clip: float | None) -> Scaling:
        is_constant = np.ptp(raw_NF, axis=0) == 0.0
        return cls(raw_NF.mean(axis=0), np.where(is_constant, 1.0, raw_NF.std(axis=0)), clip)

    def apply(self, raw_NF: Floats) -> npt.NDArray[np.float32]:
        standard: Floats = (raw_NF - self.mean) / self.scale
        limit = np.inf if self.clip is None else self.clip
        return np.asarray(np.clip(standard, -limit, limit), np.float32)


def changes(checked: Checked, features: Sequence[str]) -> Inputs:
    """Return each bar against the bar before; the first of a stretch has none, and is left out."""
    series = as_series(checked.bars)
    before = _before(series.close)
    prices = _prices(series)
    known_volume = np.where(series.volume > 0, series.volume, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            name: np.log(np.where(price > 0, price, np.nan) / before) for name, price in prices.items()
        }
        columns["volume"] = np.nan_to_num(np.log(known_volume / _before(known_volume)), nan=0.0)
    return _usable(checked, columns, features, ~checked.left_out & ~checked.break_before)


def levels(checked: Checked, features: Sequence[str]) -> Inputs:
    """Return each bar as it is quoted; bars before the first known volume are left out where it is used."""
    series = as_series(checked.bars)
    known_volume = np.where(series.volume >= 0, series.volume, np.nan)
    columns = _prices(series) | {"volume": _carried_forward(known_volume)}
    return _usable(checked, columns, features, ~checked.left_out)


def unknown(checked: Checked, feature: str) -> Bools:
    """Say in which bars a feature is not known, or not above 0."""
    values = checked.bars[feature].to_numpy(np.float64)
    return np.asarray(~(np.isfinite(values) & (values > 0)), np.bool_)


def _usable(checked: Checked, columns: dict[str, Floats], features: Sequence[str], usable: Bools) -> Inputs:
    raw = np.stack([columns[name] for name in features], axis=1)
    usable = usable & np.isfinite(raw).all(axis=1)
    begins = usable & (checked.break_before | ~np.r_[False, usable[:-1]])
    rows = np.flatnonzero(usable)
    index = np.arange(len(rows))
    stretch_start = np.maximum.accumulate(np.where(begins[rows], index, 0))
    return Inputs(rows, raw[rows], stretch_start.astype(np.int64))


def _prices(series: Series) -> dict[str, Floats]:
    """Return the four prices, the range widened to open and close where the bar breaks it."""
    top, bottom = np.maximum(series.open, series.close), np.minimum(series.open, series.close)
    return {
        "open": series.open,
        "high": np.maximum(series.high, top),
        "low": np.minimum(series.low, bottom),
        "close": series.close,
    }


def _before(values: Floats) -> Floats:
    return np.concatenate([[np.nan], values[:-1]])


def _carried_forward(values: Floats) -> Floats:
    known = np.where(np.isfinite(values), np.arange(len(values)), -1)
    last = np.maximum.accumulate(known)
    return np.asarray(np.where(last >= 0, values[last], np.nan), np.float64)
