"""What a regressor sees of each bar before standardisation: changes or levels, in raw units.

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

from stockpred.data.arrays import Bools, Floats, Ints
from stockpred.data.bars import BarColumns
from stockpred.data.quality import CheckedBars

CLIP = 10.0
"""Standard deviations; a change beyond is unlike any that a model learns from."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The N bars that a model may see, among all that were checked."""

    rows: Ints
    """[N] their rows in the table of checked bars."""
    raw_NF: Floats
    """Before they are standardised."""
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
        """Measure mean and scale of training bars."""
        is_constant = np.ptp(raw_NF, axis=0) == 0.0
        return cls(raw_NF.mean(axis=0), np.where(is_constant, 1.0, raw_NF.std(axis=0)), clip)

    def apply(self, raw_NF: Floats) -> npt.NDArray[np.float32]:
        """Return standardised inputs_NF."""
        standard: Floats = (raw_NF - self.mean) / self.scale
        limit = np.inf if self.clip is None else self.clip
        return np.asarray(np.clip(standard, -limit, limit), np.float32)


def changes(checked: CheckedBars, features: Sequence[str]) -> Inputs:
    """Return each bar against the bar before; the first of a stretch has none, and is left out."""
    bars = checked.columns
    before = _before(bars.close)
    known_volume = np.where(bars.volume > 0, bars.volume, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {
            name: np.log(np.where(price > 0, price, np.nan) / before) for name, price in _prices(bars).items()
        }
        values["volume"] = np.nan_to_num(np.log(known_volume / _before(known_volume)), nan=0.0)
    return _usable(checked, values, features, ~checked.left_out & ~checked.break_before)


def levels(checked: CheckedBars, features: Sequence[str]) -> Inputs:
    """Return each bar as it is quoted; bars before the first known volume are left out where it is used."""
    bars = checked.columns
    known_volume = np.where(bars.volume >= 0, bars.volume, np.nan)
    values = _prices(bars) | {"volume": _carried_forward(known_volume)}
    return _usable(checked, values, features, ~checked.left_out)


def unknown(checked: CheckedBars, feature: str) -> Bools:
    """Return which bars [N] lack a feature, or have one that is not above 0."""
    values = getattr(checked.columns, feature)
    return np.asarray(~(np.isfinite(values) & (values > 0)), np.bool_)


def _usable(
    checked: CheckedBars, values: dict[str, Floats], features: Sequence[str], usable: Bools
) -> Inputs:
    """Keep the ``usable`` bars whose ``features`` are all known, and find where their stretches begin."""
    raw = np.stack([values[name] for name in features], axis=1)
    usable = usable & np.isfinite(raw).all(axis=1)
    begins = usable & (checked.break_before | ~np.r_[False, usable[:-1]])
    rows = np.flatnonzero(usable)
    index = np.arange(len(rows))
    stretch_start = np.maximum.accumulate(np.where(begins[rows], index, 0))
    return Inputs(rows, raw[rows], stretch_start.astype(np.int64))


def _prices(bars: BarColumns) -> dict[str, Floats]:
    """Return the four prices; where open or close lie outside the range, it is widened to them."""
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    return {
        "open": bars.open,
        "high": np.maximum(bars.high, top),
        "low": np.minimum(bars.low, bottom),
        "close": bars.close,
    }


def _before(values: Floats) -> Floats:
    return np.concatenate([[np.nan], values[:-1]])


def _carried_forward(values: Floats) -> Floats:
    known = np.where(np.isfinite(values), np.arange(len(values)), -1)
    last = np.maximum.accumulate(known)
    return np.asarray(np.where(last >= 0, values[last], np.nan), np.float64)
