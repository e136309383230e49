"""Prepare a run's bars: source, checks, split, features, tokenizer; everything written or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpc.base import records
from hpc.base.errors import UserError
from hpc.run.paths import RunPaths
from stockpred.config.next_token import NextTokenExperiment
from stockpred.data import bars as bar_table
from stockpred.data import quality, splits, universe
from stockpred.data.bars import Loaded
from stockpred.data.load import Intake, take_in
from stockpred.data.prepared import Contents, Settings, write_once
from stockpred.data.quality import Checked
from stockpred.tasks.next_token import describe_tokens, features, tokenizer
from stockpred.tasks.next_token.dataset import Dataset, save_arrays
from stockpred.tasks.next_token.features import BarFeatures
from stockpred.tasks.next_token.tokenizer import Tokenizer
from stockpred.tasks.next_token.windows import Windows

Bools = npt.NDArray[np.bool_]
STRIDES = frozenset({"stride", "score_stride"})


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that ``prepare`` writes, still in memory."""

    intake: Intake
    features: BarFeatures
    token_rows: npt.NDArray[np.int64]
    """Rows of the bars that became tokens, in the dataset's order."""
    dataset: Dataset

    @property
    def loaded(self) -> Loaded:
        return self.intake.loaded

    @property
    def checked(self) -> Checked:
        return self.intake.checked


def prepare(experiment: NextTokenExperiment, paths: RunPaths, *, guard: Callable[[], None]) -> None:
    """Write tokenizer.json, asset_info.json, data_info.json, norm_stats.json and ``prepared/``.

    Complete prepared bars are verified and used again. Raises UserError for bars that differ from those the
    run began with, and for bars that cannot be trained on. ``guard`` is called right before anything in the
    run directory is written or removed, and raises where another attempt holds the run.
    """
    settings = Settings.of(
        experiment.data,
        but=STRIDES,
        tokenizer=experiment.tokenizer.model_dump(mode="json"),
        context_length=experiment.model.context_length,
    )
    told = frozenset({paths.tokenizer, paths.asset_info, paths.norm_stats})
    write_once(paths, settings, told, lambda: _contents(experiment, paths), guard)


def _contents(experiment: NextTokenExperiment, paths: RunPaths) -> Contents:
    prepared = build(experiment)
    dataset, intake = prepared.dataset, prepared.intake
    norm_stats = describe_tokens.norm_stats(dataset, prepared.features)
    asset_info = describe_tokens.asset_info(intake, dataset)
    return Contents(
        intake,
        told={
            paths.norm_stats: lambda path: records.write_json(path, norm_stats),
            paths.asset_info: lambda path: records.write_json(path, asset_info),
            paths.tokenizer: dataset.tokenizer.save,
        },
        data_info=describe_tokens.data_info(
            experiment, intake, prepared.features, prepared.token_rows, dataset
        ),
        save_arrays=lambda directory: save_arrays(dataset, directory),
    )


def build(experiment: NextTokenExperiment) -> Prepared:
    """Turn a source's bars into a dataset; everything that learns sees training dates only."""
    assets = universe.read(Path(experiment.data.universe)).restricted_to(experiment.data.symbol)
    context_length = experiment.model.context_length
    intake = take_in(experiment.data, assets, context_length)
    checked = intake.checked
    computed = features.compute(
        checked, experiment.tokenizer.volatility_span, experiment.tokenizer.volume_window
    )
    is_training = bar_table.times_ns(checked.bars) <= intake.splits["train"].score_end
    fitted = fit_tokenizer(computed, is_training, experiment)
    rows = token_rows(checked, computed)
    dataset = assemble(intake, computed, rows, fitted)
    _refuse_too_little(dataset, context_length)
    return Prepared(intake, computed, rows, dataset)


def fit_tokenizer(computed: BarFeatures, is_training: Bools, experiment: NextTokenExperiment) -> Tokenizer:
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
    asset = quality.as_series(checked.bars).asset
    return np.concatenate([[False], usable[1:] & usable[:-1] & (asset[1:] == asset[:-1])])[: len(asset)]


def assemble(
    intake: Intake, computed: BarFeatures, rows: npt.NDArray[np.int64], fitted: Tokenizer
) -> Dataset:
    """Encode the bars in ``rows`` and cut them into segments."""
    assets, checked = intake.universe, intake.checked
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
        splits=intake.splits,
        tokenizer=fitted,
    )


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
