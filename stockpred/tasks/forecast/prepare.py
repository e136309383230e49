"""Prepare one asset's bars for a regressor: load, check, split, standardise, write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpc.base.errors import UserError, raise_all
from hpc.base.records import json_text
from hpc.run.paths import RunPaths
from stockpred.config.forecast import ForecastExperiment
from stockpred.data import bars as bar_table
from stockpred.data import describe, folds
from stockpred.data.arrays import Bools, Floats, Ints
from stockpred.data.load import UniverseBars, load_checked_bars
from stockpred.data.prepared import Contents, PreparedFiles, SettingsDigest
from stockpred.data.splits import USED, Split
from stockpred.data.universe import Asset
from stockpred.tasks.forecast import inputs as make_inputs
from stockpred.tasks.forecast.dataset import (
    ARRAYS,
    CHANGES,
    AssetSeries,
    features_of,
    only_asset,
    sample_positions,
)
from stockpred.tasks.forecast.inputs import CLIP, Scaling

MAX_UNKNOWN_SHARE = 0.05
"""A feature that is unknown more often is refused: the model would mostly see what was filled in."""


@dataclass(frozen=True, eq=False)
class PreparedSeries:
    """A series in memory, with the bars it was made from and what was fitted on its training dates."""

    bars: UniverseBars
    scaling: Scaling
    series: AssetSeries
    num_training_bars: int
    num_samples: Mapping[Split, int]


def prepare(
    experiment: ForecastExperiment, paths: RunPaths, *, check_lease: Callable[[], None] = lambda: None
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
            arrays={name: getattr(built.series, name) for name in ARRAYS},
        )

    PreparedFiles(paths, tuple(text_of), _settings(experiment), ARRAYS).ensure(contents, check_lease)


def build(experiment: ForecastExperiment) -> PreparedSeries:
    """Turn a source's bars into a series; everything that is fitted sees training dates only."""
    universe, asset = only_asset(experiment)
    features = features_of(experiment, asset)
    bars = load_checked_bars(experiment.data, universe)
    raise_all(list(_unknown_features(bars, asset, features)))
    is_changes = experiment.series.inputs == CHANGES
    inputs = (make_inputs.changes if is_changes else make_inputs.levels)(bars.checked, features)
    time, close = bars.checked.columns.time[inputs.rows], bars.checked.columns.close[inputs.rows]
    split = bars.split[inputs.rows]
    samples = {wanted: sample_positions(inputs.stretch_start, split, wanted) for wanted in USED}
    _refuse_too_little(samples)
    is_training = split == Split.TRAIN
    scaling = Scaling.fit(inputs.raw_NF[is_training], CLIP if is_changes else None)
    mean, scale = _target_scaling(experiment, close, samples[Split.TRAIN], is_training)
    series = AssetSeries(
        symbol=asset.symbol,
        category=asset.category,
        kind=experiment.series.inputs,
        features=features,
        inputs_NF=scaling.apply(inputs.raw_NF),
        time=time,
        close=close,
        stretch_start=inputs.stretch_start,
        row=inputs.rows,
        split=split,
        target_mean=mean,
        target_scale=scale,
    )
    num_samples = {wanted: len(own) for wanted, own in samples.items()}
    return PreparedSeries(bars, scaling, series, int(is_training.sum()), num_samples)


def _target_scaling(
    experiment: ForecastExperiment, close: Floats, training_samples: Ints, is_training: Bools
) -> tuple[float, float]:
    """Return mean and scale of the target on training dates.

    The returns of changes are not centred: a forecast of 0 is then persistence.
    """
    if experiment.series.inputs == CHANGES:
        returns = close[training_samples + 1] / close[training_samples] - 1.0
        return 0.0, float(np.sqrt(np.square(returns).mean())) or 1.0
    fitted = Scaling.fit(close[is_training, None], None)
    return float(fitted.mean[0]), float(fitted.scale[0])


def _unknown_features(bars: UniverseBars, asset: Asset, features: tuple[str, ...]) -> Iterator[UserError]:
    """Yield an error for each feature, and each price, that too many bars of a split do not have."""
    for name in dict.fromkeys((*features, *bar_table.PRICES)):
        unknown = make_inputs.unknown(bars.checked, name)
        for split in USED:
            own = unknown[bars.split == split]
            if len(own) and own.mean() > MAX_UNKNOWN_SHARE:
                lacks = f"{name} of {asset.symbol} is unknown or not above 0"
                remedy = f"take {name} out of series.features.{asset.category}, or bring bars that have it"
                yield UserError(
                    f"{lacks} in {own.sum()} of {len(own)} bars of the {split.text} dates",
                    where=f"series.features.{asset.category}",
                    fix=remedy if name == "volume" else "bring bars that have it, or use other dates",
                )
                break


def _refuse_too_little(samples: Mapping[Split, Ints]) -> None:
    """Raise UserError where a split has no sample."""
    for split, own in samples.items():
        if not len(own):
            raise UserError(
                f"the {split.text} dates hold no two usable bars in a row, so there is no close to forecast",
                where="data.split",
                fix="use more bars, or other dates",
            )


def _settings(experiment: ForecastExperiment) -> SettingsDigest:
    return SettingsDigest.of(
        experiment.data,
        series=experiment.series.model_dump(mode="json"),
    )


def _text_of(paths: RunPaths) -> dict[Path, Callable[[PreparedSeries], str]]:
    """Return every JSON file besides data_info.json, with the function that makes its text."""
    return {paths.norm_stats: _norm_stats, paths.asset_info: _asset_info}


def _norm_stats(built: PreparedSeries) -> str:
    series, scaling = built.series, built.scaling
    return json_text(
        {
            "fitted_on": folds.describe(built.bars.fold)[Split.TRAIN.text],
            "num_bars": built.num_training_bars,
            "inputs": series.kind,
            "clip": scaling.clip,
            "features": {
                name: {"mean": float(mean), "scale": float(scale)}
                for name, mean, scale in zip(series.features, scaling.mean, scaling.scale, strict=True)
            },
            "target": {
                "of": "simple return of the next close" if series.kind == CHANGES else "next close",
                "mean": series.target_mean,
                "scale": series.target_scale,
                "num_targets": built.num_samples[Split.TRAIN],
            },
        }
    )


def _asset_info(built: PreparedSeries) -> str:
    categories = list(built.bars.universe.categories)
    return json_text({"assets": describe.assets(built.bars), "categories": categories})


def _data_info(experiment: ForecastExperiment, built: PreparedSeries) -> dict[str, Any]:
    return describe.data(experiment.data, built.bars) | {
        "num_usable_bars": len(built.series.time),
        "num_segments": len(np.unique(built.series.stretch_start)),
        "windows": {split.text: {"windows": num, "targets": num} for split, num in built.num_samples.items()},
    }
