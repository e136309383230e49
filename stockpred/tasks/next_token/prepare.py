"""Prepare a universe's bars as tokens: load, check, split, fit the tokenizer, encode, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpc.base.errors import UserError
from hpc.base.records import json_text
from hpc.run.paths import RunPaths
from stockpred.config.next_token import NextTokenExperiment
from stockpred.data import describe, folds, universe
from stockpred.data.arrays import Bools, Floats, Ints
from stockpred.data.load import UniverseBars, load_checked_bars
from stockpred.data.prepared import Contents, PreparedFiles, SettingsDigest
from stockpred.data.quality import CheckedBars
from stockpred.data.splits import USED, Split
from stockpred.tasks.next_token import features, tokenizer
from stockpred.tasks.next_token.dataset import ARRAYS, TokenDataset
from stockpred.tasks.next_token.features import BarFeatures
from stockpred.tasks.next_token.tokenizer import FEATURES, Tokenizer
from stockpred.tasks.next_token.windows import Windows, scoring_stride

STRIDES = frozenset({"stride", "score_stride"})
"""Settings of ``data`` that prepared bars do not depend on."""


@dataclass(frozen=True, eq=False)
class PreparedTokens:
    """Tokens in memory, with the bars and features they were made from."""

    bars: UniverseBars
    features: BarFeatures
    token_rows: Ints
    """Rows of the bars that became tokens, in the dataset's order."""
    dataset: TokenDataset


def prepare(
    experiment: NextTokenExperiment, paths: RunPaths, *, check_lease: Callable[[], None] = lambda: None
) -> None:
    """Make sure that the run's prepared files are there and are the right ones.

    Raises UserError for bars that cannot be trained on, and as ``PreparedFiles.ensure`` says.
    """
    text_of = _text_of(paths)

    def contents() -> Contents:
        built = build(experiment)
        return Contents(
            bars=built.bars,
            texts={path: make_text(built) for path, make_text in text_of.items()},
            data_info=_data_info(experiment, built),
            arrays={name: getattr(built.dataset, name) for name in ARRAYS},
        )

    PreparedFiles(paths, tuple(text_of), _settings(experiment), ARRAYS).ensure(contents, check_lease)


def build(experiment: NextTokenExperiment) -> PreparedTokens:
    """Turn a source's bars into tokens; everything that is fitted sees training dates only."""
    assets = universe.read(Path(experiment.data.universe)).restricted_to(experiment.data.symbol)
    bars = load_checked_bars(experiment.data, assets)
    computed = features.compute(
        bars.checked, experiment.tokenizer.volatility_span, experiment.tokenizer.volume_window
    )
    fitted = fit_tokenizer(computed, bars.split == Split.TRAIN, experiment)
    follows = _follows_a_usable_bar(bars.checked, computed.is_usable)
    rows = _token_rows(computed.is_usable, follows)
    dataset = _tokenise(bars, computed, rows, ~follows[rows], fitted)
    _refuse_too_little(dataset, experiment.model.context_length)
    return PreparedTokens(bars, computed, rows, dataset)


def fit_tokenizer(computed: BarFeatures, is_training: Bools, experiment: NextTokenExperiment) -> Tokenizer:
    """Fit the tokenizer on the usable bars among ``is_training``; raise UserError where there are none."""
    config = experiment.tokenizer
    training = computed.features_NF[computed.is_usable & is_training]
    if not len(training):
        raise UserError(
            f"no training bar has {features.MIN_RETURNS} returns before it",
            where="data.split",
            fix="use more bars",
        )
    return tokenizer.fit(
        training,
        vocab_size=config.vocab_size,
        clip=config.clip,
        seed=config.seed,
        max_fit_bars=config.max_fit_bars,
    )


def _follows_a_usable_bar(checked: CheckedBars, is_usable: Bools) -> Bools:
    """Return which usable bars come right after another usable bar of the same asset."""
    follows = is_usable & ~checked.columns.is_first
    follows[1:] &= is_usable[:-1]
    return follows


def _token_rows(is_usable: Bools, follows: Bools) -> Ints:
    """Return the rows that become tokens: usable bars, except one that stands alone between breaks."""
    return np.flatnonzero(is_usable & (follows | np.r_[follows[1:], False]))


def _tokenise(
    bars: UniverseBars, computed: BarFeatures, rows: Ints, begins_segment: Bools, fitted: Tokenizer
) -> TokenDataset:
    """Encode the bars in ``rows``, and cut them into segments where ``begins_segment`` says so."""
    columns, categories = bars.checked.columns, bars.universe.categories
    starts = np.flatnonzero(begins_segment)
    index_of = {symbol: index for index, symbol in enumerate(bars.universe.symbols)}
    symbols = bars.checked.bars["symbol"].to_numpy(dtype=object)[rows[starts]]
    segment_asset = np.array([index_of[symbol] for symbol in symbols], np.int32)
    asset_category = np.array([categories.index(asset.category) for asset in bars.universe.assets], np.int32)
    return TokenDataset(
        tokens=fitted.encode(computed.features_NF[rows]).astype(np.uint16),
        segment_start=starts.astype(np.int64),
        segment_length=np.diff(np.r_[starts, len(rows)]).astype(np.int64),
        segment_asset=segment_asset,
        segment_category=asset_category[segment_asset],
        time=columns.time[rows],
        close=columns.close[rows],
        volatility=computed.volatility[rows].astype(np.float32),
        close_return=computed.close_return[rows],
        assets=bars.universe.symbols,
        categories=categories,
        asset_category=asset_category,
        row=rows.astype(np.int64),
        split=bars.split[rows],
        tokenizer=fitted,
    )


def _refuse_too_little(dataset: TokenDataset, context_length: int) -> None:
    """Raise UserError where a split has nothing to score, or training no window of full length."""
    for split in USED:
        windows = Windows(dataset, split, context_length, context_length)
        if not windows.num_targets.sum():
            raise UserError(
                f"the {split.text} dates hold no bars to predict", where="data.split", fix="use more bars"
            )
        if split is Split.TRAIN and windows.length.max() < context_length:
            raise UserError(
                f"no training stretch without a hole is as long as context_length {context_length}: "
                f"the longest gives {windows.length.max()}",
                where="model.context_length",
                fix="use a smaller model.context_length, or more bars",
            )


def _settings(experiment: NextTokenExperiment) -> SettingsDigest:
    return SettingsDigest.of(
        experiment.data,
        without=STRIDES,
        tokenizer=experiment.tokenizer.model_dump(mode="json"),
    )


def _text_of(paths: RunPaths) -> dict[Path, Callable[[PreparedTokens], str]]:
    """Return every JSON file besides data_info.json, with the function that makes its text."""
    return {paths.norm_stats: _norm_stats, paths.asset_info: _asset_info, paths.tokenizer: _tokenizer}


def _norm_stats(built: PreparedTokens) -> str:
    """Return the scaling of each feature, and the dates it was fitted on."""
    fitted = built.dataset.tokenizer
    return json_text(
        {
            "fitted_on": folds.describe(built.bars.fold)[Split.TRAIN.text],
            "num_bars": int((built.dataset.split == Split.TRAIN).sum()),
            "clip": fitted.clip,
            "features": {
                name: {"mean": float(mean), "scale": float(scale)}
                for name, mean, scale in zip(FEATURES, fitted.mean, fitted.scale, strict=True)
            },
        }
    )


def _asset_info(built: PreparedTokens) -> str:
    """Return per asset, in index order, what it is and how many bars and tokens it has."""
    dataset = built.dataset
    num_tokens = np.bincount(dataset.segment_asset, dataset.segment_length, len(dataset.assets))
    assets = [
        asset | {"num_tokens": int(own)}
        for asset, own in zip(describe.assets(built.bars), num_tokens, strict=True)
    ]
    return json_text({"assets": assets, "categories": list(built.bars.universe.categories)})


def _tokenizer(built: PreparedTokens) -> str:
    return built.dataset.tokenizer.to_json()


def _data_info(experiment: NextTokenExperiment, built: PreparedTokens) -> dict[str, Any]:
    """Return where the bars came from, what was found in them, how they were split and tokenised."""
    dataset = built.dataset
    token_features_NF = built.features.features_NF[built.token_rows]
    return describe.data(experiment.data, built.bars) | {
        "num_tokens": len(dataset.tokens),
        "num_segments": len(dataset.segment_start),
        "not_tokens": _not_tokens(built.bars.checked, built.features, len(dataset.tokens)),
        "windows": {split.text: _num_windows(dataset, split, experiment) for split in USED},
        "reconstruction": {split.text: _reconstruction(dataset, token_features_NF, split) for split in USED},
    }


def _not_tokens(checked: CheckedBars, computed: BarFeatures, num_tokens: int) -> dict[str, int]:
    """Count the bars without a token, by the first reason that applies."""
    known = np.isfinite(computed.close_return)
    broken = checked.break_before & ~checked.left_out
    return {
        "left_out": int(checked.left_out.sum()),
        "first_after_a_break": int(broken.sum()),
        "volatility_not_yet_known": int((known & ~computed.is_usable).sum()),
        "alone_between_breaks": int(computed.is_usable.sum()) - num_tokens,
    }


def _num_windows(dataset: TokenDataset, split: Split, experiment: NextTokenExperiment) -> dict[str, int]:
    """Count the windows of a split, and the targets that count in them."""
    context_length, config = experiment.model.context_length, experiment.data
    stride = config.stride if split is Split.TRAIN else scoring_stride(context_length, config.score_stride)
    windows = Windows(dataset, split, context_length, stride)
    return {"windows": len(windows), "targets": int(windows.num_targets.sum())}


def _reconstruction(dataset: TokenDataset, features_NF: Floats, split: Split) -> dict[str, float | int]:
    """Measure what one token per bar loses on a split's own bars; N as in ``dataset``.

    ``mae`` and ``mse`` in standardised units over all features, the close's error in basis points of return.
    """
    rows = np.flatnonzero(dataset.split == split)
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
