"""Prepare a run's bars: source, checks, split, features, tokenizer; everything written or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hpc import records
from hpc.errors import UserError
from hpc.paths import RunPaths
from stockpred import discover
from stockpred.config import DataConfig
from stockpred.data import bars as bar_table
from stockpred.data import checks, describe, features, splits, store, token_bars, tokenizer, universe
from stockpred.data.bars import Loaded
from stockpred.data.checks import Checked
from stockpred.data.features import BarFeatures
from stockpred.data.token_bars import Dataset
from stockpred.data.tokenizer import Tokenizer
from stockpred.data.universe import Universe
from stockpred.data.windows import Windows
from stockpred.experiments.next_bar import NextBarExperiment

SOURCES = "stockpred.data.sources"
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that ``prepare`` writes, still in memory."""

    universe: Universe
    loaded: Loaded
    checked: Checked
    features: BarFeatures
    token_rows: npt.NDArray[np.int64]
    """Rows of the bars that became tokens, in the dataset's order."""
    dataset: Dataset
    bars_sha256: str


def prepare(experiment: NextBarExperiment, paths: RunPaths, *, guard: Callable[[], None]) -> None:
    """See ``dataset.prepare``."""
    settings = _settings(experiment)
    if _is_complete(paths):
        _refuse_changes(paths, store.verify(paths.prepared)["made_from"], settings)
        return
    prepared = build(experiment)
    made_from = {"bars_sha256": prepared.bars_sha256, "settings_sha256": settings}
    _refuse_changes(paths, made_from, settings)
    for path, write in _records(experiment, prepared, made_from, paths).items():
        guard()
        with store.writing(path):
            write(path)
    store.write(paths.prepared, lambda directory: _fill(directory, prepared), made_from, guard)


def _records(
    experiment: NextBarExperiment, prepared: Prepared, made_from: dict[str, str], paths: RunPaths
) -> dict[Path, Callable[[Path], None]]:
    """Return what a run tells about its bars: each file and what writes it."""
    dataset = prepared.dataset
    norm_stats = describe.norm_stats(dataset, prepared.features)
    asset_info = describe.asset_info(prepared.universe, prepared.checked, dataset)
    data_info = describe.data_info(
        experiment, prepared.loaded, prepared.checked, prepared.features, prepared.token_rows, dataset
    )
    return {
        paths.norm_stats: lambda path: records.write_json(path, norm_stats),
        paths.asset_info: lambda path: records.write_json(path, asset_info),
        paths.tokenizer: dataset.tokenizer.save,
        paths.data_info: lambda path: records.write_json(path, made_from | data_info),
    }


def build(experiment: NextBarExperiment) -> Prepared:
    """Turn a source's bars into a dataset; everything that learns sees training dates only."""
    assets = universe.read(Path(experiment.data.universe)).restricted_to(experiment.data.symbol)
    source = discover.load(SOURCES, experiment.data.source, where="data.source")
    loaded = _within(source.load(experiment.data, assets), experiment.data)
    category_of = {asset.symbol: asset.category for asset in assets.assets}
    checked = checks.check(loaded.bars, category_of, experiment.data.max_hole_sessions)
    day = bar_table.times_ns(loaded.bars)
    context_length = experiment.model.context_length
    ranges = splits.cut(np.unique(day), experiment.data.split, context_length, where="data.split")
    computed = features.compute(
        checked, experiment.tokenizer.volatility_span, experiment.tokenizer.volume_window
    )
    fitted = fit_tokenizer(computed, day <= ranges["train"].score_end, experiment)
    rows = token_rows(checked, computed)
    dataset = assemble(assets, checked, computed, rows, fitted, ranges)
    _refuse_too_little(dataset, context_length)
    return Prepared(assets, loaded, checked, computed, rows, dataset, bar_table.digest(loaded.bars))


def fit_tokenizer(computed: BarFeatures, is_training: Bools, experiment: NextBarExperiment) -> Tokenizer:
    """Fit the tokenizer on the usable bars among ``is_training``."""
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


def token_rows(checked: Checked, computed: BarFeatures) -> npt.NDArray[np.int64]:
    """Return the rows that become tokens: usable bars, but for one that stands alone between breaks."""
    usable = computed.is_usable
    follows = _follows(checked, usable)
    return np.flatnonzero(usable & (follows | np.r_[follows[1:], False]))


def _follows(checked: Checked, usable: Bools) -> Bools:
    """Say which usable bars continue the usable bar before them."""
    asset = checks.as_series(checked.bars).asset
    return np.concatenate([[False], usable[1:] & usable[:-1] & (asset[1:] == asset[:-1])])[: len(asset)]


def assemble(
    assets: Universe,
    checked: Checked,
    computed: BarFeatures,
    rows: npt.NDArray[np.int64],
    fitted: Tokenizer,
    ranges: dict[str, splits.SplitRange],
) -> Dataset:
    """Encode the bars in ``rows`` and cut them into segments."""
    symbol = checked.bars["symbol"].to_numpy(dtype=object)[rows]
    index_of = {name: index for index, name in enumerate(assets.symbols)}
    starts = np.flatnonzero(~_follows(checked, computed.is_usable)[rows])
    segment_asset = np.array([index_of[name] for name in symbol[starts]], np.int32)
    asset_category = np.array([assets.categories.index(asset.category) for asset in assets.assets], np.int32)
    return Dataset(
        tokens=fitted.encode(computed.features_NF[rows]).astype(np.uint16),
        segment_start=starts.astype(np.int64),
        segment_length=np.diff(np.r_[starts, len(rows)]).astype(np.int64),
        segment_asset=segment_asset,
        segment_category=asset_category[segment_asset],
        day=bar_table.times_ns(checked.bars)[rows],
        close=checked.bars["close"].to_numpy(np.float64)[rows],
        volatility=computed.volatility[rows].astype(np.float32),
        close_return=computed.close_return[rows],
        assets=assets.symbols,
        categories=assets.categories,
        asset_category=asset_category,
        splits=ranges,
        tokenizer=fitted,
    )


def _within(loaded: Loaded, config: DataConfig) -> Loaded:
    """Keep the bars from ``data.start`` to ``data.end``; raise UserError where none lie there."""
    time = loaded.bars["time"]
    keep = pd.Series(True, index=loaded.bars.index)
    if config.start:
        keep &= time >= pd.Timestamp(config.start, tz="UTC")
    if config.end:
        keep &= time < pd.Timestamp(config.end, tz="UTC") + pd.Timedelta(days=1)
    if not keep.any():
        raise UserError(
            f"no bars between {config.start or 'the beginning'} and {config.end or 'the end'}; "
            f"they go from {time.min():%Y-%m-%d} to {time.max():%Y-%m-%d}",
            where="data.start" if config.start else "data.end",
            fix="choose dates inside",
        )
    return Loaded(loaded.bars[keep].reset_index(drop=True), loaded.findings, loaded.origin)


def _refuse_too_little(dataset: Dataset, context_length: int) -> None:
    """Raise UserError where a split has nothing to score, or training no window of full length."""
    for split in splits.NAMES:
        windows = Windows(dataset, split, context_length, context_length)
        if not windows.num_targets.sum():
            raise UserError(
                f"the {split} dates hold no bars to predict", where="data.split", fix="use more bars"
            )
        if split == "train" and windows.length.max() < context_length:
            raise UserError(
                f"no training stretch without a hole is as long as context_length {context_length}: "
                f"the longest gives {windows.length.max()}",
                where="model.context_length",
                fix="use a smaller model.context_length, or more bars",
            )


def _settings(experiment: NextBarExperiment) -> str:
    """Return a hash of every setting that the prepared bars depend on, the universe's content included."""
    path = Path(experiment.data.universe)
    content = {
        "data": experiment.data.model_dump(
            mode="json", exclude={"dir", "universe", "stride", "score_stride"}
        ),
        "tokenizer": experiment.tokenizer.model_dump(mode="json"),
        "context_length": experiment.model.context_length,
        "universe": [str(asset) for asset in universe.read(path).assets],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_complete(paths: RunPaths) -> bool:
    told = (paths.tokenizer, paths.asset_info, paths.data_info, paths.norm_stats)
    return store.read_manifest(paths.prepared) is not None and all(path.is_file() for path in told)


def _refuse_changes(paths: RunPaths, made_from: dict[str, Any], settings: str) -> None:
    began_with = records.read_json_if_any(paths.data_info) or made_from
    if began_with.get("bars_sha256") != made_from["bars_sha256"]:
        raise UserError(
            "the bars are not those that this run began with",
            where=str(paths.data_info),
            fix="bring the old bars back, or start a new run",
        )
    if began_with.get("settings_sha256") != settings:
        raise UserError(
            "the settings of data or tokenizer are not those that this run began with",
            where=str(paths.data_info),
            fix="start a new run",
        )


def _fill(directory: Path, prepared: Prepared) -> None:
    token_bars.save_arrays(prepared.dataset, directory)
    bars = prepared.loaded.bars.assign(
        symbol=prepared.loaded.bars["symbol"].astype("category"),
        left_out=prepared.checked.left_out,
        break_before=prepared.checked.break_before,
    )
    bars.to_parquet(directory / "bars.parquet", compression="zstd", index=False)
    found = describe.all_findings(prepared.loaded, prepared.checked)
    found.to_parquet(directory / "findings.parquet", compression="zstd", index=False)
