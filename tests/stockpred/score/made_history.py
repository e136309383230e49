"""A made market with what real ones have: a hole, a late listing, a still price, closes only, no volume."""

from __future__ import annotations

import numpy as np

from stockpred.data.splits import Split
from stockpred.score.history import History

DAY_NS = 86_400_000_000_000
HOLE, LATE, STILL, CLOSES_ONLY = 1, 4, 5, 6
"""Assets: with a hole of 10 days; listed in the test; with a price that never moves; known by closes only."""
NUM_ASSETS = 7


def made_history(
    num_days: int = 500, seed: int = 0, assets: tuple[int, ...] = tuple(range(NUM_ASSETS))
) -> History:
    """Return days of assets in two categories, split 70/15/15 by day; shocks are heavy-tailed and cluster."""
    rng = np.random.default_rng(seed)
    change, width = _changes(rng, num_days)
    change[STILL] = 0.0
    close = 100.0 * np.cumprod(1.0 + change, axis=1)
    opened = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    top = np.maximum(opened, close) * np.exp(width * np.abs(rng.standard_normal(change.shape)))
    bottom = np.minimum(opened, close) * np.exp(-width * np.abs(rng.standard_normal(change.shape)))
    for flat in (STILL, CLOSES_ONLY):
        opened[flat] = top[flat] = bottom[flat] = close[flat]
    is_there = _present(num_days, assets)
    asset, day = np.nonzero(is_there)
    is_first = np.r_[True, (np.diff(asset) != 0) | (np.diff(day) != 1)]
    number = np.unique(asset, return_inverse=True)[1].astype(np.int64)
    return History(
        open=opened[is_there],
        high=top[is_there],
        low=bottom[is_there],
        close=close[is_there],
        volume=np.where(asset % 2 == 0, np.nan, 1000.0),
        change=np.where(is_first, np.nan, change[is_there]),
        time=np.datetime64("2020-01-01", "ns").astype(np.int64) + day * DAY_NS,
        asset=number,
        category=(asset % 2).astype(np.int64),
        split=np.searchsorted(num_days * np.array([0.7, 0.85]), day, side="right").astype(np.int8),
    )


def keep(history: History, rows: np.ndarray) -> History:
    """Return the history of some bars."""
    return History(**{name: values[rows] for name, values in vars_of(history).items()})


def vars_of(history: History) -> dict[str, np.ndarray]:
    return {name: getattr(history, name) for name in History.__dataclass_fields__}


def first_time(history: History, split: Split) -> int:
    return int(history.time[history.split == split].min())


def _changes(rng: np.random.Generator, num_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Return returns of GARCH(1,1) with Student-t shocks, and their volatility, [A, D] each."""
    shape = (NUM_ASSETS, num_days)
    level = 0.01 * (1.0 + np.arange(NUM_ASSETS))[:, None]
    shock = rng.standard_t(5, shape) * np.sqrt(3 / 5)
    variance, change = np.ones(shape), np.zeros(shape)
    for day in range(num_days):
        if day:
            variance[:, day] = 0.05 + 0.10 * change[:, day - 1] ** 2 + 0.85 * variance[:, day - 1]
        change[:, day] = np.sqrt(variance[:, day]) * shock[:, day]
    return np.maximum(level * change, -0.5), level * np.sqrt(variance)


def _present(num_days: int, assets: tuple[int, ...]) -> np.ndarray:
    is_there = np.zeros((NUM_ASSETS, num_days), bool)
    is_there[list(assets)] = True
    is_there[HOLE, num_days // 3 : num_days // 3 + 10] = False
    is_there[LATE, : int(0.9 * num_days)] = False
    return is_there
