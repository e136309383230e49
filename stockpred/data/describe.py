"""Describe a run's bars for asset_info.json and data_info.json: the part that does not depend on the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stockpred.config.base import DataConfig
from stockpred.data import folds
from stockpred.data.load import UniverseBars
from stockpred.data.splits import USED, Split

MAX_EXAMPLES = 5


def assets(bars: UniverseBars) -> list[dict[str, Any]]:
    """Return per asset, in index order, what it is and how many bars it has, in all and in each split."""
    in_split = {split.text: (bars.split == split) & ~bars.checked.left_out for split in USED}
    table = bars.checked.bars.assign(left_out=bars.checked.left_out, **in_split).groupby("symbol")
    counts = table.agg(
        num_bars=("time", "size"), first=("time", "min"), last=("time", "max"), left_out=("left_out", "sum"),
        **{name: (name, "sum") for name in in_split},
    )  # fmt: skip
    rows = []
    for asset in bars.universe.assets:
        own: Any = counts.loc[asset.symbol] if asset.symbol in counts.index else None
        rows.append(
            {
                "symbol": asset.symbol,
                "name": asset.name,
                "category": asset.category,
                "category_index": bars.universe.categories.index(asset.category),
                "num_bars": 0 if own is None else int(own["num_bars"]),
                "num_left_out": 0 if own is None else int(own["left_out"]),
                "num_in_split": {name: 0 if own is None else int(own[name]) for name in in_split},
                "first": None if own is None else own["first"].isoformat(),
                "last": None if own is None else own["last"].isoformat(),
            }
        )
    return rows


def data(config: DataConfig, bars: UniverseBars) -> dict[str, Any]:
    """Return where the bars came from, what was found in them, and how they were split."""
    table = bars.source.bars
    return {
        "source": config.source,
        "is_synthetic": config.source == "synthetic",
        "origin": dict(bars.source.origin),
        "num_bars": len(table),
        "first": table["time"].min().isoformat(),
        "last": table["time"].max().isoformat(),
        "findings": {str(name): _summary(group) for name, group in bars.findings.groupby("check")},
        "fold": folds.describe(bars.fold),
        "splits": {split.text: _split(bars, split) for split in USED},
    }


def _split(bars: UniverseBars, split: Split) -> dict[str, Any]:
    """Count a split's bars by category, and what its dates lose to the checks and at its boundaries.

    ``squared_return_left_out`` is the share of the dates' squared log returns that the checks exclude.
    """
    checked, columns = bars.checked, bars.checked.columns
    is_dated = folds.splits_at(bars.fold, columns.time) == split
    is_own = bars.split == split
    category_of = {asset.symbol: asset.category for asset in bars.universe.assets}
    counts = checked.bars["symbol"][is_own & ~checked.left_out].map(category_of).value_counts()
    square = np.nan_to_num(np.square(columns.close_return[is_dated]))
    excluded = (checked.left_out | checked.break_before)[is_dated]
    return {
        "bars": {category: int(counts.get(category, 0)) for category in bars.universe.categories},
        "left_out": int((checked.left_out & is_dated).sum()),
        "at_boundaries": int((is_dated & ~is_own).sum()),
        "squared_return_left_out": float(square[excluded].sum() / max(square.sum(), np.finfo(float).tiny)),
    }


def _summary(found: pd.DataFrame) -> dict[str, Any]:
    """Summarise the findings of one check; its examples are those of the largest value."""
    examples = found.reindex(found["value"].abs().sort_values(ascending=False, kind="stable").index)
    return {
        "count": len(found),
        "symbols": int(found["symbol"].nunique()),
        "action": str(found["action"].iloc[0]),
        "examples": [
            {"symbol": row["symbol"], "time": _iso(row["time"]), "value": _finite(row["value"])}
            for row in examples.head(MAX_EXAMPLES).to_dict("records")
        ],
    }


def _iso(time: pd.Timestamp) -> str | None:
    return None if pd.isna(time) else time.isoformat()


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
