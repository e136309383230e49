"""Compare each asset with the others of its category at the same time.

Every function takes values [N] and the number [N] of each one's group, and returns [N]. NaN stays NaN and
counts for nobody; a group with fewer than ``MIN_ASSETS`` known values has no cross-section, so all of it is
NaN. Only bars of one time are compared, so no value depends on a later bar. Markets that close at different
hours of a date are compared only where they share a category.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stockpred.data.arrays import Floats, Ints

MIN_ASSETS = 5


def groups(time: Ints, category: npt.NDArray[Any]) -> Ints:
    """Number the groups of equal time and category; ``time`` and ``category`` are [N]."""
    of_time = np.unique(time, return_inverse=True)[1]
    categories, of_category = np.unique(category, return_inverse=True)
    return np.asarray(of_time * len(categories) + of_category, np.int64)


def rank(values: Floats, group: Ints) -> Floats:
    """Return the rank within the group, evenly spaced around 0: (rank - (n + 1) / 2) / n, ties their mean.

    It lies between -0.5 and 0.5 and sums to 0; values that are all equal get 0.
    """
    known = np.flatnonzero(np.isfinite(values))
    by_value = known[np.argsort(values[known], kind="stable")]
    runs = _Runs.of(group, by_value[np.argsort(group[by_value], kind="stable")])
    ordered = values[runs.rows]
    ties = np.unique(np.r_[runs.start, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    tie_size = np.diff(np.r_[ties, len(ordered)])
    middle = np.repeat(ties + (tie_size - 1) / 2, tie_size) - runs.spread(runs.start)
    size = runs.spread(runs.size)
    return runs.filled((middle - (size - 1) / 2) / size, len(values))


def z_score(values: Floats, group: Ints) -> Floats:
    """Return (value - mean) / standard deviation of the group; 0 if all are equal.

    The standard deviation has n - 1 in its denominator.
    """
    known = np.flatnonzero(np.isfinite(values))
    runs = _Runs.of(group, known[np.argsort(group[known], kind="stable")])
    if not len(known):
        return runs.filled(values[known], len(values))
    ordered = values[runs.rows]
    distance = ordered - runs.spread(np.add.reduceat(ordered, runs.start) / runs.size)
    variance = np.add.reduceat(distance * distance, runs.start) / np.maximum(runs.size - 1, 1)
    # Equal values can differ from their mean by its rounding error.
    is_equal = np.maximum.reduceat(ordered, runs.start) == np.minimum.reduceat(ordered, runs.start)
    deviation = np.where(is_equal, np.inf, np.sqrt(variance))
    return runs.filled(distance / runs.spread(deviation), len(values))


@dataclass(frozen=True, eq=False)
class _Runs:
    """Known rows in an order in which each of G groups is one run: where it starts, how long it is [G]."""

    rows: Ints
    start: Ints
    size: Ints

    @classmethod
    def of(cls, group: Ints, rows: Ints) -> _Runs:
        ordered = group[rows]
        changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        start = np.r_[0, changes] if len(rows) else changes
        return cls(rows, start, np.diff(np.r_[start, len(rows)]))

    def spread(self, per_group: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Repeat what is known per group for each of its rows."""
        return np.repeat(per_group, self.size)

    def filled(self, ordered: Floats, length: int) -> Floats:
        """Put values in their rows, NaN in all others and where the group is too small."""
        values = np.full(length, np.nan)
        values[self.rows] = np.where(self.spread(self.size) >= MIN_ASSETS, ordered, np.nan)
        return values
