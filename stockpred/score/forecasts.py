"""The one table of forecasts that every task writes: what was forecast when, and what came of it.

Columns: symbol, category, known_at (the time of the last bar that the forecast knew), time (that of the bar
forecast), horizon (in the asset's own bars), split (``validation`` or ``test``), expected_return, quantiles
q05 .. q95 where a distribution was forecast, realised_return, previous_close. Returns are simple: close over
the close at ``known_at``, less 1. A task may add columns of its own after these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from hpc.base.errors import UserError
from stockpred.data.arrays import Bools
from stockpred.data.splits import Split
from stockpred.data.times import day_numbers
from stockpred.score.metrics import Floats, Integers

QUANTILE_LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
QUANTILES = tuple(f"q{round(100 * level):02d}" for level in QUANTILE_LEVELS)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """M bars of one split that are forecast one bar ahead, and what came; sorted by asset, then time.

    ``is_unseen`` marks bars of assets that have no training bar: they are scored apart.
    """

    split: Split
    symbols: tuple[str, ...]
    categories: tuple[str, ...]
    asset: Integers
    category: Integers
    known_at: Integers
    time: Integers
    previous_close: Floats
    realised_return: Floats
    is_unseen: Bools

    def __len__(self) -> int:
        return len(self.time)

    @property
    def date(self) -> Integers:
        return day_numbers(self.time)

    def at(self, rows: Any) -> Outcomes:
        """Return some of the bars."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self, **{name: array[rows] for name, array in arrays.items() if isinstance(array, np.ndarray)}
        )

    def require_each_once(self) -> None:
        """Raise UserError where there is no bar, RuntimeError where one is scored twice or out of order."""
        if not len(self):
            raise UserError(
                f"the {self.split.text} period has no bar to score",
                fix="take bars over a longer time, or other dates",
            )
        rises = (np.diff(self.asset) > 0) | ((np.diff(self.asset) == 0) & (np.diff(self.time) > 0))
        if not rises.all():
            raise RuntimeError(f"a {self.split.text} bar is scored twice, or bars are not in order")


def table(
    outcomes: Outcomes,
    expected_return: Floats,
    quantiles_MQ: Floats | None = None,
    own_columns: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """Return the table of the forecasts of one split."""
    columns: dict[str, object] = {
        "symbol": _labels(outcomes.asset, outcomes.symbols),
        "category": _labels(outcomes.category, outcomes.categories),
        "known_at": pd.to_datetime(outcomes.known_at, unit="ns", utc=True),
        "time": pd.to_datetime(outcomes.time, unit="ns", utc=True),
        "horizon": np.ones(len(outcomes), np.int32),
        "split": pd.Categorical([outcomes.split.text] * len(outcomes), ["validation", "test"]),
        "expected_return": expected_return,
    }
    if quantiles_MQ is not None:
        columns |= dict(zip(QUANTILES, quantiles_MQ.T, strict=True))
    columns |= {
        "realised_return": outcomes.realised_return,
        "previous_close": outcomes.previous_close,
    }
    return pd.DataFrame(columns | dict(own_columns or {}))


def _labels(codes: Integers, names: tuple[str, ...]) -> object:
    return pd.Categorical.from_codes(codes, pd.Index(names))
