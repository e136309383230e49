"""Describe a run's bars for asset_info.json and data_info.json: the part that does not depend on the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stockpred.config.base import DataConfig
from stockpred.data import splits
from stockpred.data.load import UniverseBars
from stockpred.data.quality import CheckedBars
from stockpred.data.splits import SplitRange

MAX_EXAMPLES = 5


def assets(bars: UniverseBars) -> list[dict[str, Any]]:
    """Return per asset, in index order, what it is and how many bars it has."""
    table = bars.checked.bars.assign(left_out=bars.checked.left_out).groupby("symbol")
    counts = table.agg(
        num_bars=("time", "size"), first=("time", "min"), last=("time", "max"), left_out=("left_out", "sum")
    )
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
        "left_out": {name: _num_left_out(bars.checked, part) for name, part in bars.splits.items()},
        "findings": {str(name): _summary(group) for name, group in bars.findings.groupby("check")},
        "splits": {name: splits.describe(part) for name, part in bars.splits.items()},
    }


def _num_left_out(checked: CheckedBars, part: SplitRange) -> int:
    """Count the bars of a split's own dates that are neither learnt from nor scored."""
    time = checked.columns.time
    return int((checked.left_out & (time >= part.score_start) & (time <= part.score_end)).sum())


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
