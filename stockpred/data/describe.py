"""What a run tells about its bars: norm_stats.json, asset_info.json and data_info.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stockpred.data import bars as bar_table
from stockpred.data.bars import Loaded
from stockpred.data.checks import Checked
from stockpred.data.features import BarFeatures
from stockpred.data.splits import SplitRange
from stockpred.data.token_bars import Dataset, describe_split
from stockpred.data.tokenizer import FEATURES
from stockpred.data.universe import Universe
from stockpred.data.windows import Windows, scoring_stride
from stockpred.experiments.next_bar import NextBarExperiment

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MAX_EXAMPLES = 5


def norm_stats(dataset: Dataset, features: BarFeatures) -> dict[str, Any]:
    """Return the scaling of each feature and the dates it was learnt on."""
    fitted = dataset.tokenizer
    train = dataset.splits["train"]
    return {
        "fitted_on": describe_split(train),
        "num_bars": int((np.asarray(dataset.day) <= train.score_end).sum()),
        "clip": fitted.clip,
        "features": {
            name: {"mean": float(mean), "scale": float(scale)}
            for name, mean, scale in zip(FEATURES, fitted.mean, fitted.scale, strict=True)
        },
    }


def asset_info(universe: Universe, checked: Checked, dataset: Dataset) -> dict[str, Any]:
    """Return per asset, in index order, what it is and how many bars and tokens it has."""
    table = checked.bars.assign(left_out=checked.left_out).groupby("symbol")
    bars = table.agg(
        num_bars=("time", "size"), first=("time", "min"), last=("time", "max"), left_out=("left_out", "sum")
    )
    num_tokens = np.bincount(dataset.segment_asset, dataset.segment_length, len(dataset.assets))
    assets = []
    for index, asset in enumerate(universe.assets):
        own: Any = bars.loc[asset.symbol] if asset.symbol in bars.index else None
        assets.append(
            {
                "symbol": asset.symbol,
                "name": asset.name,
                "category": asset.category,
                "category_index": int(dataset.asset_category[index]),
                "num_bars": 0 if own is None else int(own["num_bars"]),
                "num_left_out": 0 if own is None else int(own["left_out"]),
                "num_tokens": int(num_tokens[index]),
                "first": None if own is None else own["first"].isoformat(),
                "last": None if own is None else own["last"].isoformat(),
            }
        )
    return {"assets": assets, "categories": list(universe.categories)}


def data_info(
    experiment: NextBarExperiment,
    loaded: Loaded,
    checked: Checked,
    features: BarFeatures,
    token_rows: Rows,
    dataset: Dataset,
) -> dict[str, Any]:
    """Return where the bars came from, what was found in them, how they were split and tokenised.

    ``token_rows`` are the rows of the bars that became tokens, in the dataset's order.
    """
    found = all_findings(loaded, checked)
    return {
        "source": experiment.data.source,
        "is_synthetic": experiment.data.source == "synthetic",
        "origin": dict(loaded.origin),
        "num_bars": len(loaded.bars),
        "num_tokens": len(dataset.tokens),
        "num_segments": len(dataset.segment_start),
        "first": loaded.bars["time"].min().isoformat(),
        "last": loaded.bars["time"].max().isoformat(),
        "not_tokens": _not_tokens(checked, features, len(dataset.tokens)),
        "left_out": {name: _num_left_out(checked, part) for name, part in dataset.splits.items()},
        "findings": {str(name): _summary(group) for name, group in found.groupby("check")},
        "splits": {name: describe_split(part) for name, part in dataset.splits.items()},
        "windows": {name: _windows(dataset, name, experiment) for name in dataset.splits},
        "reconstruction": {
            name: _reconstruction(dataset, features.features_NF[token_rows], part)
            for name, part in dataset.splits.items()
        },
    }


def all_findings(loaded: Loaded, checked: Checked) -> pd.DataFrame:
    return bar_table.join_findings([loaded.findings, checked.findings])


def _not_tokens(checked: Checked, features: BarFeatures, num_tokens: int) -> dict[str, int]:
    """Count the bars without a token, by the first reason that applies."""
    known = np.isfinite(features.close_return)
    broken = checked.break_before & ~checked.left_out
    return {
        "left_out": int(checked.left_out.sum()),
        "first_after_a_break": int(broken.sum()),
        "volatility_not_yet_known": int((known & ~features.is_usable).sum()),
        "alone_between_breaks": int(features.is_usable.sum()) - num_tokens,
    }


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


def _windows(dataset: Dataset, split: str, experiment: NextBarExperiment) -> dict[str, int]:
    context_length, config = experiment.model.context_length, experiment.data
    is_training = split == "train"
    stride = config.stride if is_training else scoring_stride(context_length, config.score_stride)
    windows = Windows(dataset, split, context_length, stride)
    return {"windows": len(windows), "targets": int(windows.num_targets.sum())}


def _reconstruction(dataset: Dataset, features_NF: Floats, part: SplitRange) -> dict[str, float | int]:
    """Measure what one token per bar loses on a split's own dates.

    ``mae`` and ``mse`` in standardised units over all features, the close's error in basis points of return.
    """
    day = np.asarray(dataset.day)
    rows = np.flatnonzero((day >= part.score_start) & (day <= part.score_end))
    tokens, fitted = dataset.tokens[rows], dataset.tokenizer
    error = fitted.standardise(features_NF[rows]) - fitted.centroids[tokens]
    decoded = fitted.close_return_z[tokens] * dataset.volatility[rows]
    return {
        "num_bars": len(rows),
        "mae": float(np.abs(error).mean(dtype=np.float64)),
        "mse": float(np.square(error).mean(dtype=np.float64)),
        "close_error_bp": float(1e4 * np.abs(decoded - dataset.close_return[rows]).mean()),
        "sign_kept": float((np.sign(decoded) == np.sign(dataset.close_return[rows])).mean()),
        "tokens_used": len(np.unique(tokens)),
    }
