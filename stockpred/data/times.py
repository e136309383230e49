"""Times as int64 ns since 1970 UTC, and the dates that they lie on."""

from __future__ import annotations

from datetime import date

import numpy as np

from stockpred.data.arrays import Ints

NS_PER_DAY = 86_400_000_000_000


def day_numbers(time: Ints) -> Ints:
    """Return the days since 1970 on which times lie."""
    return time // NS_PER_DAY


def iso_date(time: int | np.int64) -> str:
    """Return the date on which a time lies, such as ``2020-01-31``."""
    return str(np.datetime64(int(time), "ns").astype("datetime64[D]"))


def begin_of(day: date) -> int:
    """Return the first time of a date."""
    return int(np.datetime64(day, "ns").astype(np.int64))
