"""What every run tells about its bars, whatever it learns: parts of asset_info.json and data_info.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stockpred.config.base import DataConfig
from stockpred.data import bars as bar_table
from stockpred.data import splits
from stockpred.data.bars import Loaded
from stockpred.data.load import Intake
from stockpred.data.quality import Checked
from stockpred.data.splits import SplitRange

MAX_EXAMPLES = 5


def assets(intake: Intake) -> list[dict[str, Any]]:
    """Return per asset, in index order, what it is and how many bars it has."""
    table = intake.checked.bars.assign(left_out=intake.checked.left_out).groupby("symbol")
    bars = table.agg(
        num_bars=("time", "size"), first=("time", "min"), last=("time", "max"), left_out=("left_out", "sum")
    )
    rows = []
    for asset in intake.universe.assets:
        own: Any = bars.loc[asset.symbol] if asset.symbol in bars.index else None
        rows.append(
            {
                "symbol": asset.symbol,
                "name": asset.name,
                "category": asset.category,
                "category_index": intake.universe.categories.index(asset.category),
                "num_bars": 0 if own is None else int(own["num_bars"]),
                "num_left_out": 0 if own is None else int(own["left_out"]),
                "first": None if own is None else own["first"].isoformat(),
                "last": None if own is None else own["last"].isoformat(),
            }
        )
    return rows


def bars(config: DataConfig, intake: Intake) -> dict[str, Any]:
    """Return where the bars came from, what was found in them, and how they were split."""
    loaded, checked = intake.loaded, intake.checked
    found = all_findings(loaded, checked)
    return {
        "source": config.source,
        "is_synthetic": config.source == "synthetic",
        "origin": dict(loaded.origin),
        "num_bars": len(loaded.bars),
        "first": loaded.bars["time"].min().isoformat(),
        "last": loaded.bars["time"].max().isoformat(),
        "left_out": {name: _num_left_out(checked, part) for name, part in intake.splits.items()},
        "findings": {str(name): _summary(group) for name, group in found.groupby("check")},
        "splits": {name: splits.describe(part) for name, part in intake.splits.items()},
    }


def all_findings(loaded: Loaded, checked: Checked) -> pd.DataFrame:
    return bar_table.join_findings([loaded.findings, checked.findings])


def _num_left_out(checked: Checked, part: SplitRange) -> int:
    """Count the bars of a split's own dates that are neither learnt from nor scored."""
    day = bar_table.times_ns(checked.bars)
    return int((checked.left_out & (day >= part.score_start) & (day <= part.score_end)).sum())


def _summary(found: pd.DataFrame) -> dict[str, Any]:
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
