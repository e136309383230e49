"""What a run on tokens tells about its bars: norm_stats.json, asset_info.json and data_info.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stockpred.config.next_token import NextTokenExperiment
from stockpred.data import describe, splits
from stockpred.data.load import Intake
from stockpred.data.quality import Checked
from stockpred.data.splits import SplitRange
from stockpred.tasks.next_token.dataset import Dataset
from stockpred.tasks.next_token.features import BarFeatures
from stockpred.tasks.next_token.tokenizer import FEATURES
from stockpred.tasks.next_token.windows import Windows, scoring_stride

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def norm_stats(dataset: Dataset, features: BarFeatures) -> dict[str, Any]:
    """Return the scaling of each feature and the dates it was learnt on."""
    fitted = dataset.tokenizer
    train = dataset.splits["train"]
    return {
        "fitted_on": splits.describe(train),
        "num_bars": int((np.asarray(dataset.day) <= train.score_end).sum()),
        "clip": fitted.clip,
        "features": {
            name: {"mean": float(mean), "scale": float(scale)}
            for name, mean, scale in zip(FEATURES, fitted.mean, fitted.scale, strict=True)
        },
    }


def asset_info(intake: Intake, dataset: Dataset) -> dict[str, Any]:
    """Return per asset, in index order, what it is and how many bars and tokens it has."""
    num_tokens = np.bincount(dataset.segment_asset, dataset.segment_length, len(dataset.assets))
    assets = [
        asset | {"num_tokens": int(own)}
        for asset, own in zip(describe.assets(intake), num_tokens, strict=True)
    ]
    return {"assets": assets, "categories": list(intake.universe.categories)}


def data_info(
    experiment: NextTokenExperiment, intake: Intake, features: BarFeatures, token_rows: Rows, dataset: Dataset
) -> dict[str, Any]:
    """Return where the bars came from, what was found in them, how they were split and tokenised.

    ``token_rows`` are the rows of the bars that became tokens, in the dataset's order.
    """
    return describe.bars(experiment.data, intake) | {
        "num_tokens": len(dataset.tokens),
        "num_segments": len(dataset.segment_start),
        "not_tokens": _not_tokens(intake.checked, features, len(dataset.tokens)),
        "windows": {name: _windows(dataset, name, experiment) for name in dataset.splits},
        "reconstruction": {
            name: _reconstruction(dataset, features.features_NF[token_rows], part)
            for name, part in dataset.splits.items()
        },
    }


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


def _windows(dataset: Dataset, split: str, experiment: NextTokenExperiment) -> dict[str, int]:
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
